"""The types `Decimal`, `date`, `time`, `timedelta`, `bytes`, `Literal`, `StrEnum` and a plain `int`, in every form."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from cassandra.marshal import varint_pack as encode_varint
from cassandra.util import Date, Time
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from pyspark.sql import types as spark
from pyspark.sql.pandas.types import to_arrow_type

from penstock.contract import cql, fields, rules
from penstock.contract.decimals import encode_unscaled, find_excess, format_decimal
from penstock.contract.evolution import ChangeKind, compare_schemas
from penstock.contract.identity import identity_of
from penstock.contract.record import KEY, PAST, Digits, Int64, Record
from penstock.contract.rules import build_value_check, find_violations, validate_record
from penstock.contract.schemas import avro_schema, json_schema, spark_ddl
from penstock.contract.table import build_table
from penstock.contract.table_evolution import TableDefinition, compare_table
from penstock.sink.cells import format_row
from tests.unit.ddl import arrow_schema
from tests.unit.framed import TYPES, values_in
from tests.unit.records import Scalars, Side
from tests.unit.strategies import decimals, durations, scalars

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALIDATOR = jsonschema.Draft7Validator(json_schema(Scalars))
GOOD: dict[str, Any] = {
    "id": "0a1b2c3d-0000-4000-8000-00000000abcd",
    "price": "12.50",
    "ratio": "0.1",
    "day": "2024-02-29",
    "born": "1985-12-10",
    "opens": "08:30:00.5",
    "lasts": "P1DT12H",
    "hash": "3q2+7w==",
    "size": "M",
    "side": "sell-short",
    "count": 7,
}


def record_of(kind, default=msgspec.NODEFAULT) -> type[Record]:
    field = ("it", kind) if default is msgspec.NODEFAULT else ("it", kind, default)
    return msgspec.defstruct("One", [field], bases=(Record,), frozen=True, kw_only=True)


def field_of(kind) -> fields.Field:
    return fields.fields(record_of(kind))[0]


def codes(found) -> list[str]:
    assert isinstance(found, list), found
    return [violation.code for violation in found]


# Declarations


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Annotated[Decimal, Digits(10, 2)], fields.decimal_kind(Digits(10, 2))),
        (date, fields.DATE),
        (time, fields.TIME),
        (Annotated[time, Meta(tz=False)], fields.TIME),
        (timedelta, fields.DURATION),
        (bytes, fields.BYTES),
        (Literal["a", "b"], fields.SYMBOL),
        (Side, fields.SYMBOL),
        (int, fields.BIGINT),
    ],
)
def test_each_type_has_its_kind_with_none_or_without(kind, expected):
    """A field's kind follows from its type; None beside it makes the field nullable and changes nothing else."""
    assert (field_of(kind).kind, field_of(kind).nullable) == (expected, False)
    assert (field_of(kind | None).kind, field_of(kind | None).nullable) == (expected, True)


@pytest.mark.parametrize(
    "kind",
    [
        Annotated[Decimal, Digits(9, 1), Meta(description="x")],
        Annotated[Decimal, Meta(description="x"), Digits(9, 1)],
        Annotated[Decimal, Digits(9, 1), Meta(description="x")] | None,
        Annotated[Decimal | None, Digits(9, 1), Meta(description="x")],
    ],
)
def test_digits_are_found_wherever_they_stand(kind):
    """Before Meta or after it, inside of a union or outside."""
    found = field_of(kind)
    assert (found.digits, found.description) == (Digits(9, 1), "x")


class Plain(Enum):
    A = "a"


class Number(StrEnum):
    A = "a\0"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Decimal, "a Decimal needs its digits, 10 with 2 decimals here; write `it: Annotated[Decimal, Digits(10, 2)]`"),
        (Decimal | None, "write `it: Annotated[Decimal, Digits(10, 2)] | None = None`"),
        (Annotated[Decimal, Meta(description="x")], "write `it: Annotated[Decimal, Digits(10, 2), Meta(...)]`"),
        (Annotated[int, Digits(3, 1)], "Digits is for a Decimal; remove it"),
        (Annotated[time, Meta(tz=True)], "a time has no time zone, since no column keeps it; write `it: time`"),
        (Plain, "Plain is not a StrEnum; write `class ...(StrEnum)`"),
        (Literal["a", 1], 'a Literal has texts only; write `Literal["a", "b"]`'),
        (Literal["a", None], 'a Literal has texts only; write `Literal["a", "b"]`, or that `| None = None`'),
        (Literal["a\0"], "'a\\x00' is not a text that can be stored; remove it"),
        (Number, "'a\\x00' is not a text that can be stored; remove it"),
    ],
)
def test_a_declaration_that_no_column_can_hold_is_refused_with_what_to_write(kind, message):
    """When the file is loaded, not when the first record comes."""
    with pytest.raises(TypeError, match="field it: ") as wrong:
        field_of(kind)
    assert message in str(wrong.value)


@pytest.mark.parametrize(("precision", "scale"), [(0, 0), (39, 0), (5, -1), (5, 6), (-1, -1)])
def test_digits_that_spark_has_not_are_refused(precision, scale):
    """At most 38 in all, and not more decimals than digits."""
    with pytest.raises(ValueError, match="Digits: the "):
        Digits(precision, scale)


@pytest.mark.parametrize("kind", [Annotated[Decimal, Digits(9, 0)], time, timedelta, bytes, float, bool])
def test_a_key_of_another_type_is_refused(kind):
    """A key has one text and one value: no number with decimals, no duration, no bytes."""
    with pytest.raises(
        TypeError,
        match=r"the key it must be a str, Literal, StrEnum, int, UUID, date or datetime; write `it: Annotated\[str",
    ):
        identity_of(record_of(Annotated[kind, Meta(extra=KEY)]))


def test_an_int_key_has_64_bits():
    """A key beyond is no id."""
    read = identity_of(record_of(Annotated[int, Meta(extra=KEY)])).of_text
    assert read("-9223372036854775808") == -(2**63)
    with pytest.raises(ValueError, match="64 bits"):
        read("9223372036854775808")


# Schemas


def test_json_schema_of_each_type():
    """The type, its rules, and what msgspec leaves out of it."""
    properties = json_schema(Scalars)["properties"]
    jsonschema.Draft7Validator.check_schema(json_schema(Scalars))
    digits = {"type": "string", "format": "decimal", "x-precision": 10, "x-scale": 2}
    assert properties["price"] == {"description": "What it costs."} | digits
    assert properties["day"] == {"type": "string", "format": "date"}
    assert properties["opens"] == {"type": "string", "format": "partial-time"}
    assert properties["lasts"] == {"type": "string", "format": "duration"}
    assert properties["hash"] == {"type": "string", "contentEncoding": "base64", "maxLength": 88}
    assert properties["size"] == {"type": "string", "enum": ["L", "M", "S"]}
    assert properties["side"] == {"description": "Of the deal.", "type": "string", "enum": ["buy", "sell-short"]}
    assert properties["count"] == {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    assert properties["maybe_count"] == {
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, {"type": "null"}],
        "default": None,
    }
    assert properties["maybe_side"]["anyOf"][0] == {"type": "string", "enum": ["buy", "sell-short"]}
    assert properties["maybe_opens"]["anyOf"][0]["format"] == "partial-time"
    assert "$ref" not in msgspec.json.encode(properties).decode()


def test_an_int_with_bounds_keeps_them():
    """64 bits are added only to a side without a bound."""
    of = lambda **limits: json_schema(record_of(Annotated[int, Meta(**limits)]))["properties"]["it"]  # noqa: E731
    assert of(gt=0) == {"type": "integer", "exclusiveMinimum": 0, "maximum": 2**63 - 1}
    assert of(lt=0) == {"type": "integer", "exclusiveMaximum": 0, "minimum": -(2**63)}
    assert of() == json_schema(record_of(Int64))["properties"]["it"]


def test_avro_schema_of_each_type():
    """Each type has its Avro type; None makes a union that starts with null and defaults to it."""
    types = {field["name"]: field["type"] for field in avro_schema(Scalars)["fields"]}
    expected = {
        "price": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
        "day": {"type": "int", "logicalType": "date"},
        "opens": {"type": "long", "logicalType": "time-micros"},
        "lasts": {"type": "long", "unit": "microseconds"},
        "hash": "bytes",
        "size": "string",
        "side": "string",
        "count": "long",
    }
    assert {name: types[name] for name in expected} == expected
    del expected["price"]
    assert {name: types[f"maybe_{name}"] for name in expected} == {
        name: ["null", kind] for name, kind in expected.items()
    }


def test_spark_and_cql_types():
    """Each type has its column in Spark and in Cassandra."""
    ddl = spark_ddl(record_of(Annotated[Decimal, Digits(10, 2)]))
    assert ddl == "it DECIMAL(10,2) NOT NULL"
    assert [(field.column, field.kind.spark, field.kind.cql) for field in fields.fields(Scalars)[1:11]] == [
        ("price", "DECIMAL(10,2)", "decimal"),
        ("ratio", "DECIMAL(38,38)", "decimal"),
        ("day", "DATE", "date"),
        ("born", "DATE", "date"),
        ("opens", "STRING", "time"),
        ("lasts", "INTERVAL DAY TO SECOND", "bigint"),
        ("hash", "BINARY", "blob"),
        ("size", "STRING", "text"),
        ("side", "STRING", "text"),
        ("count", "BIGINT", "bigint"),
    ]


def test_the_arrow_types_of_the_tests_are_those_of_spark():
    """The DDL that tests read without a JVM becomes what Spark itself makes of these types."""
    of_spark = {
        "a DECIMAL(10,2)": spark.DecimalType(10, 2),
        "a DATE": spark.DateType(),
        "a INTERVAL DAY TO SECOND": spark.DayTimeIntervalType(),
        "a BINARY": spark.BinaryType(),
        "a BIGINT": spark.LongType(),
    }
    for ddl, kind in of_spark.items():
        assert arrow_schema(ddl).field("a").type == to_arrow_type(kind)


@given(scalars())
def test_json_schema_accepts_every_record(record):
    """What keeps the contract keeps its JSON Schema."""
    VALIDATOR.validate(msgspec.json.decode(msgspec.json.encode(record)))


# Cassandra


def cells_of(record: Record) -> dict[str, bytes | None]:
    (framed,) = cql.build_encoder(build_table("ks", "t", type(record)))([(record, 1, 2, 3)], [4])
    return dict(zip((field.column for field in fields.fields(type(record))), values_in(framed), strict=False))


def driver_reads(field: fields.Field, cell: bytes | None) -> Any:
    """What the driver makes of a cell, as the type that the record declares."""
    if cell is None:
        return None
    value = TYPES[field.kind.cql].deserialize(cell, 5)
    if isinstance(value, Date):
        return value.date()
    if isinstance(value, Time):
        return value.time()
    return value if field.kind.from_cql is None else field.kind.from_cql(value)


@given(scalars())
def test_the_driver_reads_every_type_as_it_was(record):
    """The bytes bound for each type, None included, are those that cassandra-driver decodes to its value."""
    cells = cells_of(record)
    for field in fields.fields(Scalars):
        assert driver_reads(field, cells[field.column]) == getattr(record, field.column), field.name


class Priced(Record, frozen=True, kw_only=True):
    """A record with a decimal."""

    id: Annotated[int, Meta(extra=KEY)]
    price: Annotated[Decimal, Digits(10, 2)]


@given(decimals(Digits(10, 2)))
def test_a_decimal_has_its_scale_in_the_table(value):
    """However many zeros a message has: the same number has the same bytes, which are the driver's own."""
    cell = cells_of(Priced(id=1, price=value))["price"]
    read = TYPES["decimal"].deserialize(cell, 5)
    assert read == value
    assert read.as_tuple().exponent == -2
    assert cell == TYPES["decimal"].serialize(read, 5)


@given(scalars())
def test_a_row_is_shown_as_a_message_has_it(record):
    """Decimals in digits, bytes in Base64, dates, times and durations in ISO 8601; what JSON cannot hold is text."""
    cells = cells_of(record)
    kinds = {field.column: TYPES[field.kind.cql] for field in fields.fields(Scalars)}
    row = {
        name: None if cell is None else kinds[name].deserialize(cell, 5) for name, cell in cells.items() if cell != b""
    }
    shown = format_row(row, Scalars)
    message = msgspec.to_builtins(record, builtin_types=(Decimal,))
    for name, value in shown.items():
        if isinstance(message[name], Decimal):
            assert "E" not in value
            assert Decimal(value) == message[name]
        elif name != "id":
            assert value == message[name], name
    msgspec.json.encode(shown)


def test_what_other_programs_write_is_shown_too():
    """Days that Python has no date for, and columns that the record does not have."""
    shown = format_row({"day": Date(2**30), "other": Date(0), "raw": b"\xff", "none": None, "n": 5}, Scalars)
    assert shown == {"day": str(Date(2**30)), "other": "1970-01-01", "raw": "/w==", "none": None, "n": 5}


# Decimals


@given(st.decimals() | st.decimals(allow_nan=False, allow_infinity=False, places=3), st.data())
def test_a_decimal_that_fits_is_exact_and_one_that_does_not_is_refused(value, data):
    """Nothing is rounded: either the bytes hold the number itself, or it is named what there is too much of."""
    precision = data.draw(st.integers(1, 38))
    digits = Digits(precision, data.draw(st.integers(0, precision)))
    excess = find_excess(value, digits)
    if excess:
        fits = value.is_finite() and abs(value) < Decimal(10) ** (precision - digits.scale)
        assert not fits or value.normalize().as_tuple().exponent < -digits.scale
    else:
        unscaled = int.from_bytes(encode_unscaled(value, digits.scale), "big", signed=True)
        assert Decimal(f"{unscaled}E-{digits.scale}") == value
        assert Decimal(format_decimal(value)) == value


@pytest.mark.parametrize(
    ("text", "excess"),
    [
        ("NaN", "is not a finite number"),
        ("sNaN", "is not a finite number"),
        ("-Infinity", "is not a finite number"),
        ("100", "at most 2 digits before the decimal point"),
        ("1E+999999999", "at most 2 digits before the decimal point"),
        ("1.001", "at most 2 decimals"),
        ("1E-999999", "at most 2 decimals"),
        ("0.001", "at most 2 decimals"),
        ("99.990000", ""),
        ("-99.99", ""),
        ("0E+999999", ""),
        ("0E-999999", ""),
        ("1E+1", ""),
    ],
)
def test_what_a_decimal_has_too_much_of_is_named(text, excess):
    """Digits before the point, or decimals; zeros at the end do not count."""
    assert find_excess(Decimal(text), Digits(4, 2)) == excess


@pytest.mark.parametrize("unscaled", [0, 1, -1, 127, 128, -128, -129, 255, 256, 32767, 32768, -32768, -32769, 10**37])
def test_the_unscaled_number_takes_as_few_bytes_as_it_can(unscaled):
    """As Java's BigInteger has it, and the driver."""
    found = encode_unscaled(Decimal(unscaled), 0)
    assert int.from_bytes(found, "big", signed=True) == unscaled
    assert found == encode_varint(unscaled)


# Rules


def test_a_good_record_breaks_nothing():
    """From JSON's types, as an API or a repair gives them."""
    record = validate_record(GOOD, Scalars, NOW)
    assert isinstance(record, Scalars)
    assert (record.price, record.lasts, record.hash) == (Decimal("12.50"), timedelta(hours=36), b"\xde\xad\xbe\xef")
    assert record.side is Side.SELL


@pytest.mark.parametrize(
    ("field", "value", "rule", "message"),
    [
        ("price", "1.001", "range", "price: at most 2 decimals"),
        ("price", "123456789", "range", "price: at most 8 digits before the decimal point"),
        ("price", Decimal("NaN"), "range", "is not a finite number"),
        ("price", float("nan"), "range", "is not a finite number"),
        ("price", "NaN", "format", "is not a number in digits"),
        ("price", "1_0", "format", "is not a number in digits"),
        ("price", " 1", "format", "is not a number in digits"),
        ("price", "\u0661", "format", "is not a number in digits"),
        ("price", "", "format", "Invalid decimal"),
        ("price", 0.1 + 0.2, "format", "has more than 15 digits"),
        ("price", True, "type", "got `bool`"),
        ("day", "2023-02-29", "format", "date"),
        ("day", "0000-01-01", "format", "date"),
        ("day", 5, "type", "got `int`"),
        ("day", datetime(2020, 1, 1), "type", "got `datetime`"),
        ("born", "2026-01-03", "date", "is in the future"),
        ("opens", "08:30:00Z", "format", "zone"),
        ("opens", "08:30:00+01:00", "format", "zone"),
        ("opens", time(8, tzinfo=UTC), "format", "zone"),
        ("opens", "24:00:00", "format", "time"),
        ("opens", "23:59:59.9999999", "format", "at most 6 decimals"),
        ("maybe_opens", "08:30:00Z", "format", "zone"),
        ("lasts", "P1M", "format", "supported"),
        ("lasts", "PT0.0000001S", "format", "more than 6 decimals"),
        ("lasts", "P999999999D", "range", "64 bits"),
        ("lasts", timedelta.min, "range", "64 bits"),
        ("lasts", 5, "type", "got `int`"),
        ("hash", "3q2-7w==", "format", "base64"),
        ("hash", "3q2+7w", "format", "base64"),
        ("hash", "AAAA" * 22, "length", "length"),
        ("hash", bytes(65), "length", "length"),
        ("hash", 5, "type", "got `int`"),
        ("size", "XL", "enum", "size: expected one of 'L', 'M', 'S'"),
        ("size", 5, "type", "got `int`"),
        ("side", "SELL", "enum", "side: expected one of 'buy', 'sell-short'"),
        ("maybe_side", "hold", "enum", "maybe_side: expected one of 'buy', 'sell-short'"),
        ("count", 2**63, "range", "does not fit 64 bits"),
        ("count", -(2**63) - 1, "range", "does not fit 64 bits"),
        ("count", 10**400, "range", "does not fit 64 bits"),
        ("count", 1.5, "type", "got `float`"),
        ("maybe_count", -1, "range", ""),
        ("maybe_count", 2**63, "range", "does not fit 64 bits"),
    ],
)
def test_each_rule_has_its_name(field, value, rule, message):
    """A value that breaks a rule is named with it, never rounded, and quoted only as the contract words it."""
    found = validate_record(GOOD | {field: value}, Scalars, NOW)
    assert codes(found)[0] == f"{field}:{rule}"
    assert message in str(found[0])


def test_a_rule_of_a_type_is_named_beside_those_that_msgspec_refuses():
    """One repair is enough: every broken rule is known at once."""
    wrong = GOOD | {"price": "1.001", "opens": "08:30:00.1234567", "size": "XL", "count": 2**63, "lasts": "P999999999D"}
    expected = ["price:range", "opens:format", "lasts:range", "size:enum", "count:range"]
    assert codes(validate_record(wrong, Scalars, NOW)) == expected


def test_a_number_that_was_read_as_a_float_breaks_no_rule_of_digits_by_it():
    """Its digits in the message may fit where those of the float do not."""
    wide = record_of(Annotated[Decimal, Digits(22, 2)])
    assert find_violations({"it": 99999999999999999999.99}, wide) == []


def test_a_text_that_is_not_allowed_is_not_quoted():
    """It may be personal, and dead letters show the contract's own wording to everybody."""
    (found,) = find_violations(GOOD | {"size": "secret"}, Scalars)
    assert "secret" not in str(found)


def test_at_most_ten_of_the_allowed_texts_are_named():
    """With the number of the others."""
    many = record_of(Literal[tuple(f"s{number:02}" for number in range(13))])
    (found,) = find_violations({"it": "x"}, many)
    assert found.message.count("'s") == 10
    assert found.message.endswith("'s09' and 3 more")


@pytest.mark.parametrize(("day", "is_past"), [("2025-12-31", True), ("2026-01-01", True), ("2026-01-02", False)])
def test_a_day_is_past_once_it_has_begun_somewhere(day, is_past):
    """A date has no zone: it is in the future only if it has begun nowhere on earth."""
    before = datetime(2026, 1, 1, 9, 59, tzinfo=UTC)
    born = record_of(Annotated[date, Meta(extra=PAST)])
    assert (build_value_check(born)(born(it=date.fromisoformat(day)), before) == []) is is_past


def test_a_record_without_these_types_is_checked_as_before():
    """Nothing is added to what each of its records costs."""
    for kind in (str, Int64, Annotated[datetime, Meta(tz=True)]):
        record = record_of(kind)
        assert build_value_check(record) is rules.build_date_check(record)
        assert rules.build_form_check(record) is None


@given(durations)
def test_a_duration_is_exact_in_microseconds(duration):
    """Of 64 bits, to the last one."""
    assert fields.from_microseconds(fields.to_microseconds(duration)) == duration


# Evolution

OF_TYPES = {
    "decimal(10, 2)": Annotated[Decimal, Digits(10, 2)],
    "decimal(12, 2)": Annotated[Decimal, Digits(12, 2)],
    "date": date,
    "time": time,
    "duration": timedelta,
    "blob": bytes,
    "bigint": int,
    "text": str,
    "timestamp": Annotated[datetime, Meta(tz=True)],
}
PYTHON = {
    "decimal(10, 2)": "Annotated[Decimal, Digits(10, 2)]",
    "decimal(12, 2)": "Annotated[Decimal, Digits(12, 2)]",
    "duration": "timedelta",
    "blob": "bytes",
    "bigint": "int",
    "text": "str",
    "timestamp": "datetime",
}


@pytest.mark.parametrize("render", [json_schema, avro_schema])
def test_a_type_cannot_change_into_another(render):
    """A column keeps its type, and a decimal its digits; both types are named."""
    for before, old in OF_TYPES.items():
        for after, new in OF_TYPES.items():
            changes = compare_schemas(render(record_of(old)), render(record_of(new)))
            if before == after:
                assert changes == []
            else:
                assert ChangeKind.TYPE_CHANGED in [change.kind for change in changes]
                assert f"the type of `it` changed from {before} to {after}: " in changes[0].why


@pytest.mark.parametrize("render", [json_schema, avro_schema])
def test_a_field_is_added_if_it_may_be_none(render):
    """A required one is refused, with what to write."""
    empty = msgspec.defstruct("One", [], bases=(Record,), frozen=True, kw_only=True)
    for name, kind in OF_TYPES.items():
        (added,) = compare_schemas(render(empty), render(record_of(kind | None, None)))
        assert (added.kind, added.allowed) == (ChangeKind.ADDED_OPTIONAL, True)
        (refused,) = compare_schemas(render(empty), render(record_of(kind)))
        assert refused.why.endswith(f"make it `{PYTHON.get(name, name)} | None = None`")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Literal["a"], Literal["a", "b"], ChangeKind.RULE_LOOSENED),
        (Literal["a", "b"], Literal["a"], ChangeKind.RULE_TIGHTENED),
        (Literal["a", "b"], Literal["a", "c"], ChangeKind.RULE_TIGHTENED),
        (Literal["buy", "sell-short"], str, ChangeKind.RULE_LOOSENED),
        (str, Literal["a"], ChangeKind.RULE_TIGHTENED),
    ],
)
def test_more_texts_may_be_allowed_and_none_forbidden(before, after, expected):
    """The column is text in any case; records with a text that is no longer allowed could not be read again."""
    (change,) = compare_schemas(json_schema(record_of(before)), json_schema(record_of(after)))
    assert change.kind == expected
    assert compare_schemas(avro_schema(record_of(before)), avro_schema(record_of(after))) == []


def test_literal_and_str_enum_are_the_same_in_messages():
    """One can replace the other."""
    of_literal = json_schema(record_of(Literal["buy", "sell-short"]))
    assert compare_schemas(of_literal, json_schema(record_of(Side))) == []


def test_columns_are_added_to_a_table():
    """Each with its CQL type; a column of another type is refused."""
    columns = build_table("ks", "t", Scalars).columns
    old = {name: kind for name, kind in columns.items() if not name.startswith("maybe_")}
    changes = compare_table(TableDefinition(old, ("id",)), build_table("ks", "t", Scalars))
    assert all(change.allowed for change in changes)
    assert {change.field: columns[change.field] for change in changes} == {
        name: kind for name, kind in columns.items() if name.startswith("maybe_")
    }
    (refused,) = compare_table(
        TableDefinition(columns | {"day": "timestamp"}, ("id",)), build_table("ks", "t", Scalars)
    )
    assert "column `day` is timestamp, the record needs date" in refused.why
