"""Collections, nested records, any JSON and values stored as text: declarations, schemas, CQL and rules."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import fastavro
import jsonschema
import msgspec
import pytest
from cassandra.util import Date, Time
from hypothesis import given
from msgspec import Meta

from penstock.contract import cql
from penstock.contract.composites import JSON
from penstock.contract.cql_values import build_cql_encoder
from penstock.contract.fields import Field, fields, from_epoch_ms
from penstock.contract.kinds import Form
from penstock.contract.quoting import name_user_type
from penstock.contract.record import AS_TEXT, KEY, Json, Record, build_null
from penstock.contract.rules import validate_record
from penstock.contract.schemas import avro_schema, json_schema
from penstock.contract.table import build_table
from penstock.sink.cells import format_row
from tests.unit.framed import driver_type, values_in
from tests.unit.records import Composites, HomeAddress, Line
from tests.unit.strategies import composites

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALIDATOR = jsonschema.Draft7Validator(json_schema(Composites))
LINE = {"product": "tea", "price": "2.50"}
GOOD: dict[str, Any] = {
    "id": "0a1b2c3d-0000-4000-8000-00000000abcd",
    "tags": ["b", "c"],
    "sizes": [1, 2, 2],
    "hashes": ["AA=="],
    "ids": [],
    "point": [1.5, 2.0],
    "mixed": ["x", "1.125", ["2024-02-29"]],
    "history": ["2020-01-01T00:00:00Z"],
    "durations": ["PT1H"],
    "sides": ["buy"],
    "times": {"open": "08:30:00"},
    "labels": {"k": "v"},
    "prices": {"k": "1.50"},
    "address": {"city": "Bonn", "postCode": 53111},
    "lines": [LINE],
    "by_name": {"k": [LINE]},
    "former": {"city": "Bonn", "postCode": "B"},
    "stops": [LINE],
    "extra": {"any": [1, None]},
    "extras": [1],
    "code": "007",
    "amount": 5,
}


class Node(Record, frozen=True, kw_only=True):
    """Contains itself."""

    children: list["Node"]


class Keyed(Record, frozen=True, kw_only=True):
    """Has a key."""

    id: Annotated[int, Meta(extra=KEY)]


class Plain(msgspec.Struct):
    """Not a record."""

    name: str


def record_of(kind: Any, default: Any = msgspec.NODEFAULT) -> type[Record]:
    field = ("it", kind) if default is msgspec.NODEFAULT else ("it", kind, default)
    return msgspec.defstruct("One", [field], bases=(Record,), frozen=True, kw_only=True)


def field_of(kind: Any, default: Any = msgspec.NODEFAULT) -> Field:
    return fields(record_of(kind, default))[0]


def codes(found: Any) -> list[str]:
    assert isinstance(found, list), found
    return [violation.code for violation in found]


def paths(found: Any) -> list[str]:
    assert isinstance(found, list), found
    return [violation.field for violation in found]


# Declarations


@pytest.mark.parametrize(
    ("kind", "column", "spark"),
    [
        (list[str], "frozen<list<text>>", "ARRAY<STRING>"),
        (tuple[int, ...], "frozen<list<bigint>>", "ARRAY<BIGINT>"),
        (set[date], "frozen<set<date>>", "ARRAY<DATE>"),
        (frozenset[str], "frozen<set<text>>", "ARRAY<STRING>"),
        (tuple[float, str], "frozen<tuple<double, text>>", "STRUCT<item_1: DOUBLE, item_2: STRING>"),
        (dict[str, bool], "frozen<map<text, boolean>>", "MAP<STRING, BOOLEAN>"),
        (
            dict[str, list[Line]],
            "frozen<map<text, frozen<list<frozen<line>>>>>",
            "MAP<STRING, ARRAY<STRUCT<product: STRING, price: DECIMAL(10,2), sold_at: TIMESTAMP, tags: ARRAY<STRING>, "
            "note: STRING>>>",
        ),
        (HomeAddress, "frozen<home_address>", "STRUCT<city: STRING, post_code: STRING, lives_since: DATE, "
         "more_info: STRING>"),
        (Annotated[HomeAddress, AS_TEXT], "text", "STRING"),
        (Annotated[list[int | str], AS_TEXT], "text", "STRING"),
        (Annotated[int | str, AS_TEXT], "text", "STRING"),
        (Json, "text", "STRING"),
    ],
)  # fmt: skip
def test_each_type_has_its_column(kind, column, spark):
    """In CQL everything composite is frozen, at each level; None beside a type changes nothing but that it is null."""
    field = field_of(kind)
    assert (field.kind.cql, field.kind.spark, field.nullable) == (column, spark, False)
    if kind is not Json:
        assert (field_of(kind | None).kind.cql, field_of(kind | None).nullable) == (column, True)


def deep(levels: int) -> Any:
    kind: Any = str
    for _ in range(levels):
        kind = list[kind]  # type: ignore[valid-type]
    return kind


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (list, "a collection needs the type of its items; write `list[str]`"),
        (list[Any], "field it[]: Any has no column type; write Json"),
        (dict[str, Any], "field it[]: Any has no column type; write Json"),
        (dict[int, str], "the keys of a JSON object are texts; write `dict[str, ...]`"),
        (list[str | None], "field it[]: a list cannot hold None; remove `| None`, and leave such items out"),
        (dict[str, str | None], "field it[]: a dict cannot hold None"),
        (tuple[int, str | None], "field it[1]: a tuple cannot hold None"),
        (tuple[()], "an empty tuple has no column type; remove the field"),
        (set[tuple[int, int]], "the items of a set are scalars; write `list[...]`"),
        (list[Decimal], "field it[]: a Decimal needs its digits, 10 with 2 decimals here; write "
         "`Annotated[Decimal, Digits(10, 2)]`"),
        (list[Annotated[datetime, Meta(tz=False)]], "field it[]: a datetime needs a time zone"),
        (int | str, "a union of types has no column type; store it as text: write `it: Annotated[int | str, AS_TEXT]`"),
        (list[int | str], "field it[]: a union of types has no column type"),
        (Annotated[int | list[str], AS_TEXT], "a union stored as text is of str, int, float and bool"),
        (int | list[str], "a union stored as text is of str, int, float and bool; write Json instead"),
        (Annotated[str, AS_TEXT], "AS_TEXT is for a union, a record or a collection; remove it"),
        (Annotated[Json, AS_TEXT], "AS_TEXT is for a union, a record or a collection; remove it"),
        (Json | None, "msgspec cannot read `Json | None`; write `it: Json = JSON_NULL`"),
        (Plain, "Plain is not a Record without parameters; write `class Plain(Record, frozen=True, kw_only=True)`"),
        (Node, "Node contains itself; write Json for what is inside"),
        (Keyed, "field it.id: only a field of the record itself can be its KEY"),
        (list[Annotated[int, Meta(extra=KEY)]], "only a field of the record itself can be its KEY"),
        (deep(9), "nested more than 8 levels deep; write Json for what is inside"),
    ],
)  # fmt: skip
def test_what_no_column_can_hold_is_refused_with_what_to_write(kind, message):
    """When the file is loaded, with the path of the type."""
    with pytest.raises(TypeError, match="field it") as wrong:
        field_of(kind)
    assert message in str(wrong.value)


@pytest.mark.parametrize(
    ("kind", "default", "in_schemas"),
    [
        (str, "x", "x"),
        (int, 5, 5),
        (float, 0.5, 0.5),
        (bool, True, True),
        (Literal["a", "b"], "a", "a"),
        (list[str], [], []),
        (set[int], set(), []),
        (dict[str, int], {}, {}),
        (tuple[int, ...], (), []),
    ],
)
def test_a_default_is_the_same_in_every_schema(kind, default, in_schemas):
    """A message without the field has the default by JSON Schema, Avro and msgspec."""
    record = record_of(kind, default)
    assert json_schema(record)["properties"]["it"]["default"] == in_schemas
    assert json_schema(record)["required"] == []
    assert avro_schema(record)["fields"][0]["default"] == in_schemas
    assert msgspec.json.decode(b"{}", type=record).it == default
    fastavro.parse_schema(avro_schema(record))


@pytest.mark.parametrize(
    ("kind", "default", "message"),
    [
        (str | None, "x", "an optional field is `it: T | None = None`"),
        (str, None, "an optional field is `it: T | None = None`"),
        (date, date(2020, 1, 1), "an optional field is `it: T | None = None`"),
        (float, 5, "an optional field is `it: T | None = None`"),
        (Annotated[list[str], AS_TEXT], [], "an optional field is `it: T | None = None`"),
        (Annotated[int, Meta(ge=1)], 0, "the default 0 breaks the field's rules: Expected `int` >= 1"),
        (Annotated[list[str], Meta(min_length=1)], [], "the default [] breaks the field's rules"),
    ],
)
def test_a_default_on_which_schemas_differ_is_refused(kind, default, message):
    """Only defaults that each schema can say, and that keep the rules."""
    with pytest.raises(TypeError, match="field it: ") as wrong:
        field_of(kind, default)
    assert message in str(wrong.value)


# Schemas


@given(composites())
def test_json_schema_accepts_every_record(record):
    """What keeps the contract keeps its JSON Schema, which needs no other document."""
    VALIDATOR.validate(msgspec.json.decode(msgspec.json.encode(record).replace(b"1e400", b"1e40")))


def test_json_schema_refers_to_nothing():
    """Nested records are in place, closed like the record itself, and tuples are as draft-07 has them."""
    schema = json_schema(Composites)
    assert b"$ref" not in msgspec.json.encode(schema)
    jsonschema.Draft7Validator.check_schema(schema)
    address = schema["properties"]["address"]
    assert (address["additionalProperties"], address["required"]) == (False, ["city", "postCode"])
    assert schema["properties"]["point"]["additionalItems"] is False
    assert schema["properties"]["prices"]["additionalProperties"]["x-scale"] == 2
    assert schema["properties"]["maybe_extra"] == {"default": None}


def test_avro_defines_a_record_once():
    """Where it occurs again it is its name; a tuple is a record whose name follows from its types."""
    schema = avro_schema(Composites)
    fastavro.parse_schema(schema)
    types = {field["name"]: field["type"] for field in schema["fields"]}
    assert types["address"]["name"] == "HomeAddress"
    assert types["maybe_address"] == ["null", "penstock.HomeAddress"]
    assert types["by_name"] == {"type": "map", "values": {"type": "array", "items": "penstock.Line"}}
    assert types["point"]["name"] == "tuple_double_double"
    assert types["mixed"]["name"] == "tuple_string_decimal_6_3_array_date"
    assert (types["extra"], types["code"], types["former"]) == ("string", "string", "string")


# Cassandra


def cells_of(record: Record) -> dict[str, bytes | None]:
    (framed,) = cql.build_encoder(build_table("ks", "t", type(record)))([(record, 1, 2, 3)], [4])
    return dict(zip((field.column for field in fields(type(record))), values_in(framed), strict=False))


def as_declared(value: Any, field: Field) -> Any:
    """A value as the driver reads it, of the type that the record declares."""
    if value is None:
        return build_null() if field.kind is JSON else None
    if field.kind is JSON:
        return msgspec.Raw(value)
    if field.kind.is_text:
        return field.kind.from_arrow(value)
    shape = field.shape
    if shape is None:
        value = value.date() if isinstance(value, Date) else value.time() if isinstance(value, Time) else value
        if isinstance(value, datetime):  # the driver computes with floats
            value = from_epoch_ms(round(value.replace(tzinfo=UTC).timestamp() * 1000))
        return value if field.kind.from_cql is None else field.kind.from_cql(value)
    if shape.record is not None:
        return shape.record(**{item.column: as_declared(getattr(value, item.column), item) for item in shape.items})
    if shape.form is Form.MAP:
        return {name: as_declared(item, shape.items[0]) for name, item in value.items()}
    if shape.form is Form.TUPLE:
        return tuple(as_declared(item, of) for item, of in zip(value, shape.items, strict=True))
    return [as_declared(item, shape.items[0]) for item in value]


@given(composites())
def test_the_driver_reads_every_type_as_it_was(record):
    """The bytes bound for each type, at every level, are those that cassandra-driver decodes to its value."""
    cells = cells_of(record)
    for field in fields(Composites):
        cell, expected = cells[field.column], getattr(record, field.column)
        found = as_declared(None if cell is None else driver_type(field).from_binary(cell, 5), field)
        if field.shape is not None and field.shape.form in (Form.LIST, Form.SET) and not field.kind.is_text:
            found = None if expected is None else type(expected)(found)
        assert found == expected, field.column


@given(composites())
def test_a_row_is_shown_in_types_of_json(record):
    """Collections are arrays, maps and nested records objects, and what JSON has no type for is text."""
    cells = cells_of(record)
    row = {
        field.column: None if (cell := cells[field.column]) is None else driver_type(field).from_binary(cell, 5)
        for field in fields(Composites)
    }
    shown = msgspec.json.decode(msgspec.json.encode(format_row(row, Composites)))
    assert shown["labels"] == record.labels
    assert shown["tags"] == record.tags
    assert shown["sizes"] == sorted(record.sizes)
    assert shown["address"].keys() == {"city", "post_code", "lives_since", "more_info"}
    assert [Decimal(line["price"]) for line in shown["lines"]] == [line.price for line in record.lines]
    assert [msgspec.convert(text, timedelta) for text in shown["durations"]] == record.durations
    assert shown["extra"] == bytes(record.extra).decode()


def test_a_nested_record_is_a_type_before_the_table():
    """Each user-defined type comes after those that it uses; what is stored as text needs none."""
    types = cql.list_user_types(record_of(Order))
    assert [each.name for each in types] == ["line", "order"]
    assert types[1].fields == {"lines": "frozen<list<frozen<line>>>", "paid": "boolean"}
    assert cql.render_create_type("Lab", types[1]) == (
        'CREATE TYPE IF NOT EXISTS "Lab"."order" (\n  lines frozen<list<frozen<line>>>,\n  paid boolean\n)'
    )
    assert cql.list_user_types(record_of(Annotated[Order, AS_TEXT])) == []


class Order(Record, frozen=True, kw_only=True):
    """Uses another record."""

    lines: list[Line]
    paid: bool | None = None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Address", "address"), ("HomeAddress", "home_address"), ("HTTPInfo", "http_info"), ("Item2Go", "item2_go")],
)
def test_the_name_of_a_type_is_that_of_its_class(name, expected):
    """In snake_case."""
    assert name_user_type(msgspec.defstruct(name, [("it", str)], bases=(Record,))) == expected


def test_a_value_has_the_order_of_its_type_in_cassandra():
    """ALTER TYPE adds fields at the end, and perhaps fields that the record does not have."""
    field, line = field_of(Line), Line(product="tea", price=Decimal("1.5"), note="n")
    encode = build_cql_encoder(field.kind, {"line": ["note", "colour", "product"]})
    assert values_in(encode(line)) == [b"n", None, b"tea"]


# Rules


def test_a_good_record_breaks_nothing():
    """From the types of JSON, as an API or a repair gives them."""
    record = validate_record(GOOD, Composites, NOW)
    assert isinstance(record, Composites), record
    assert (record.point, record.sizes, record.prices) == ((1.5, 2.0), {1, 2}, {"k": Decimal("1.50")})
    assert record.address == HomeAddress(city="Bonn", post_code=53111)
    assert (record.extra, record.words, record.level) == (msgspec.Raw(b'{"any":[1,null]}'), [], 3)


def test_nested_records_may_be_records_themselves():
    """What a constructor took is checked like a dict."""
    line = Line(product="tea", price=Decimal("1.001"))
    assert paths(validate_record(GOOD | {"lines": [line]}, Composites, NOW)) == ["lines[0].price"]
    wrong = HomeAddress(city=5, post_code=1)  # type: ignore[arg-type]
    assert paths(validate_record(GOOD | {"address": wrong}, Composites, NOW)) == ["address.city"]


@pytest.mark.parametrize(
    ("name", "value", "path", "rule", "message"),
    [
        ("tags", "b", "tags", "type", "Expected `array`, got `str`"),
        ("tags", ["b", 5], "tags[1]", "type", "Expected `str`, got `int`"),
        ("tags", ["b", None], "tags[1]", "required", "is null"),
        ("tags", ["b", "x\0"], "tags[1]", "character", "NUL"),
        ("tags", ["b"] * 51, "tags", "length", "Expected length <= 50"),
        ("tags", None, "tags", "required", "is null"),
        ("words", None, "words", "required", "is null"),
        ("sizes", [2**63], "sizes[]", "range", "64 bits"),
        ("sizes", [1.5], "sizes[0]", "type", "got `float`"),
        ("point", [1.0], "point", "length", "Expected `array` of length 2, got 1"),
        ("mixed", ["x", "1.1234", []], "mixed[1]", "range", "at most 3 decimals"),
        ("mixed", ["x", "1", ["2024-02-30"]], "mixed[2][0]", "format", "date"),
        ("history", ["2020-01-01T00:00:00"], "history[0]", "format", "timezone"),
        ("durations", ["PT0.0000001S"], "durations[0]", "format", "more than 6 decimals"),
        ("sides", ["BUY"], "sides[0]", "enum", "expected one of 'buy', 'sell-short'"),
        ("times", {"a b": "08:30:00Z"}, 'times["a b"]', "format", "zone"),
        ("labels", {"k": 5}, 'labels["k"]', "type", "Expected `str`"),
        ("labels", {"x" * 51: "v"}, f'labels["{"x" * 51}"]', "length", "<= 50"),
        ("labels", {"a\0": "v"}, 'labels["a\\u0000"]', "character", "NUL"),
        ("labels", [], "labels", "type", "Expected `object`"),
        ("prices", {"k": "1_0"}, 'prices["k"]', "format", "not a number in digits"),
        ("prices", {"k": 0.1 + 0.2}, 'prices["k"]', "format", "more than 15 digits"),
        ("address", {"city": "Bonn"}, "address.postCode", "required", "is missing"),
        ("address", {"city": "Bonn", "post_code": 1}, "address.postCode", "required", "is the name of its column"),
        ("address", {"city": "Bann", "postCode": 1}, "address.city", "pattern", ""),
        ("address", {"city": "B\n", "postCode": 1}, "address.city", "pattern", "newline"),
        ("address", {"city": "B", "postCode": "x\0"}, "address.postCode", "character", "NUL"),
        ("address", {"city": "B", "postCode": 2**63}, "address.postCode", "range", "64 bits"),
        ("address", {"city": "B", "postCode": []}, "address.postCode", "type", ""),
        ("address", {"city": "B", "postCode": 1, "livesSince": "2999-01-01"}, "address.livesSince", "date", "future"),
        ("address", 5, "address", "type", "Expected `object`, got `int`"),
        ("lines", [LINE, LINE | {"price": "1.001"}], "lines[1].price", "range", "at most 2 decimals"),
        ("by_name", {"a": [LINE | {"product": ""}]}, 'by_name["a"][0].product', "length", ""),
        ("former", {"city": "Bann", "postCode": 1}, "former.city", "pattern", ""),
        ("stops", [LINE | {"tags": [None]}], "stops[0].tags[0]", "required", "is null"),
        ("extra", None, "extra", "required", "is null"),
        ("extra", float("nan"), "extra", "format", "NaN"),
        ("extra", {"a": [Decimal("Infinity")]}, "extra", "format", "Infinity"),
        ("extra", msgspec.Raw(b"[1,"), "extra", "format", "is not JSON"),
        ("extra", msgspec.Raw(b'"\\ud800"'), "extra", "format", "JSON"),
        ("extras", [1, None], "extras[1]", "required", "is null"),
        ("amount", "5", "amount", "type", ""),
        ("amount", float("inf"), "amount", "format", "finite"),
    ],
)
def test_each_rule_has_its_path(name, value, path, rule, message):
    """A rule holds at every level, and what breaks it is named by its place."""
    found = validate_record(GOOD | {name: value}, Composites, NOW)
    assert (paths(found)[0], str(found[0].rule)) == (path, rule)
    assert message in found[0].message


def test_codes_have_no_places():
    """Records that fail alike are told alike, and a code never has a key, which is the record's own."""
    found = validate_record(GOOD | {"prices": {"a,b": "x", 'c"]': "y"}, "tags": [5, 6]}, Composites, NOW)
    assert codes(found) == ["tags[]:type", "tags[]:type", "prices[]:format", "prices[]:format"]


def test_a_path_does_not_tell_a_personal_key():
    """Nor its message."""

    class Book(Record, frozen=True, kw_only=True):
        phones: Annotated[dict[str, int], Meta(extra={"personal": True})]

    assert paths(validate_record({"phones": {"Ada": "x"}}, Book, NOW)) == ["phones[]"]
    assert paths(validate_record({"phones": {"Ada": 2**63}}, Book, NOW)) == ["phones[]"]


@pytest.mark.parametrize("items", [[5] * 1000, ["\0"] * 1000])
def test_the_violations_of_a_field_are_bounded(items):
    """Whoever reads a dead letter does not need a thousand of them."""
    assert len(validate_record(GOOD | {"tags": items[:1000], "words": items}, Composites, NOW)) <= 41
