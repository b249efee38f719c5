"""The other scalar types through JSON and Avro, there and back."""

import json
from datetime import date, time, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Annotated

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.broker.registry import WriterSchema
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.codec.values import ContentReader, read_fields
from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Fault, Reason
from penstock.contract.fields import fields
from penstock.contract.record import KEY, Digits, Record
from penstock.contract.schemas import avro_schema
from tests.corpus.scalar_record import Deal
from tests.corpus.scalars import SCALAR_CASES
from tests.unit.contract.test_scalars import GOOD
from tests.unit.fakes import FakeSchemas
from tests.unit.records import Scalars, Side
from tests.unit.strategies import scalars

SCHEMAS = FakeSchemas({1: WriterSchema("json"), 2: WriterSchema("avro", avro_schema(Scalars))})
DECODER = Decoder(Scalars, SCHEMAS)
TO_JSON = build_serializer(Scalars, "json", 1)
TO_AVRO = build_serializer(Scalars, "avro", 2)


def text(**changes) -> bytes:
    return json.dumps(GOOD | changes).encode()


def with_raw(name: str, raw: str) -> bytes:
    """A message in which a field has this JSON text."""
    return text(**{name: "@"}).replace(b'"@"', raw.encode())


@given(scalars())
def test_what_the_producer_writes_the_stream_reads(record):
    """As JSON and as Avro, None included."""
    assert DECODER.decode(TO_JSON(record)) == record
    assert DECODER.decode(TO_AVRO(record)) == record


@given(scalars())
def test_fields_that_a_repair_reads_make_the_same_record(record):
    """Neither way to send a message loses a digit."""
    for value in (TO_JSON(record), TO_AVRO(record)):
        assert msgspec.convert(read_fields(value, AvroReaders(SCHEMAS), Scalars), Scalars) == record


@given(scalars())
def test_a_message_is_shown(record):
    """Whatever its values, as types of JSON."""
    for value in (TO_JSON(record), TO_AVRO(record)):
        content = ContentReader(SCHEMAS).read(value)
        assert not content.problem
        json.dumps(content.value)


@given(scalars())
def test_a_decimal_is_written_in_digits(record):
    """Without an exponent, which many readers of text do not know."""
    message = json.loads(TO_JSON(record)[5:])
    assert "E" not in message["price"] + message["ratio"]
    assert Decimal(message["price"]) == record.price


@pytest.mark.parametrize(
    "raw", ["12.50", '"12.50"', "125e-1", '"1.25E1"', "12.5000", '"12.5"', r'"12.\u0035"', "  12.5 "]
)
def test_a_decimal_is_read_from_text_or_number(raw):
    """However it is written, it is the same number."""
    assert DECODER.decode(with_raw("price", raw)).price == Decimal("12.5")


def test_no_digit_of_a_number_is_lost():
    """38 digits of a JSON number, which no float has, in the stream and in a repair."""

    class Wide(Record, frozen=True, kw_only=True):
        id: Annotated[int, Meta(extra=KEY)]
        it: Annotated[Decimal, Digits(38, 2)]

    digits = "123456789012345678901234567890123456.78"
    value = f'{{"id": 1, "it": {digits}}}'.encode()
    assert Decoder(Wide, SCHEMAS).decode(value).it == Decimal(digits)
    assert read_fields(value, AvroReaders(SCHEMAS), Wide) == {"id": 1, "it": Decimal(digits)}


@pytest.mark.parametrize(
    ("name", "raw", "rule"),
    [
        ("price", "1.001", "range"),
        ("price", '"1.001"', "range"),
        ("price", "1e400", "range"),
        ("price", "1e999999999", "range"),
        ("price", '"1e99999"', "format"),
        ("price", '"NaN"', "format"),
        ("price", '"Infinity"', "format"),
        ("price", '"1_0"', "format"),
        ("price", "true", "type"),
        ("price", "[]", "type"),
        ("opens", '"23:59:59.9999999"', "format"),
        ("opens", '"08:30:00Z"', "format"),
        ("lasts", '"PT0.0000001S"', "format"),
        ("lasts", '"P999999999D"', "range"),
        ("hash", '"AB"', "format"),
        ("size", '"m"', "enum"),
        ("count", "9223372036854775808", "range"),
        ("count", "9" * 60, "range"),
    ],
)
def test_what_breaks_a_rule_is_a_violation(name, raw, rule):
    """Never an exception, never another value."""
    found = DECODER.decode(with_raw(name, raw))
    assert isinstance(found, Fault), found
    assert (found.reason, found.rules) == (Reason.CONTRACT_BROKEN, (f"{name}:{rule}",))


def test_a_field_named_twice_is_malformed():
    """Of these types too."""
    found = DECODER.decode(text()[:-1] + b', "price": "1"}')
    assert found.reason == Reason.JSON_MALFORMED


def avro_of(schema: dict, values: dict) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), values)
    return encode_header(9) + body.getvalue()


VALUES = {
    "id": GOOD["id"],
    "price": Decimal("12.50"),
    "ratio": Decimal("0.1"),
    "day": date(2024, 2, 29),
    "born": date(1985, 12, 10),
    "opens": time(8, 30),
    "lasts": 5,
    "hash": b"x",
    "size": "M",
    "side": "buy",
    "count": 7,
}


def changed(**types) -> dict:
    """The schema with fields of other types, without those that may be absent."""
    schema = avro_schema(Scalars)
    members = [field | {"type": types.get(field["name"], field["type"])} for field in schema["fields"]]
    return schema | {"fields": [field for field in members if not field["name"].startswith("maybe_")]}


def decode(schema: dict, **values) -> Record | Fault:
    decoder = Decoder(Scalars, FakeSchemas({9: WriterSchema("avro", schema)}))
    return decoder.decode(avro_of(schema, VALUES | values))


def test_records_without_the_newer_fields_are_read():
    """None of them has to be there."""
    found = decode(changed())
    assert (found.lasts, found.side, found.maybe_price) == (timedelta(microseconds=5), Side.BUY, None)


@pytest.mark.parametrize(
    ("name", "kind", "value", "rule"),
    [
        ("price", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}, Decimal("1.001"), "range"),
        ("price", "bytes", b"12.50", "type"),
        ("size", "string", "XL", "enum"),
        ("day", "int", 5, "type"),
        ("opens", "long", 5, "type"),
        ("lasts", {"type": "long", "logicalType": "time-micros"}, time(1), "type"),
        ("count", {"type": "int", "logicalType": "date"}, date(2020, 1, 1), "type"),
    ],
)
def test_an_avro_value_of_another_type_is_a_violation(name, kind, value, rule):
    """A decimal of another scale too, if it has too many decimals."""
    found = decode(changed(**{name: kind}), **{name: value})
    assert isinstance(found, Fault), found
    assert found.rules == (f"{name}:{rule}",)


def test_a_decimal_of_another_scale_is_read_if_it_fits():
    """Zeros at the end are no decimals."""
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}
    assert decode(changed(price=kind), price=Decimal("1.500")).price == Decimal("1.5")


@pytest.mark.parametrize("kind", [{"type": "enum", "name": "Size", "symbols": ["M"]}, "int"])
def test_an_avro_value_that_does_not_resolve_is_malformed(kind):
    """As with any other type."""
    found = decode(changed(size=kind), size="M" if isinstance(kind, dict) else 5)
    assert found.reason == Reason.AVRO_MALFORMED


def test_bytes_count_as_they_are_encoded():
    """A value is at most as large with Base64 in it as without."""

    class Blob(Record, frozen=True, kw_only=True):
        id: Annotated[int, Meta(extra=KEY)]
        it: bytes

    decoder, serialize = Decoder(Blob, SCHEMAS), build_serializer(Blob, "json", 1)
    assert decoder.decode(serialize(Blob(id=1, it=bytes(740_000)))) == Blob(id=1, it=bytes(740_000))
    assert decoder.decode(serialize(Blob(id=1, it=bytes(760_000)))).reason == Reason.VALUE_TOO_LARGE


@given(
    st.sampled_from([field.name for field in fields(Scalars)]), st.sampled_from(['"x"', "5", "1.5", "[]", "{}", "null"])
)
def test_any_json_in_any_field_is_a_record_or_a_violation(name, raw):
    """No value of another type raises."""
    found = DECODER.decode(with_raw(name, raw))
    assert isinstance(found, Scalars) or found.reason == Reason.CONTRACT_BROKEN


def test_a_renamed_field_has_its_name_in_messages():
    """In JSON and in Avro."""

    class Renamed(Record, frozen=True, kw_only=True, rename="camel"):
        id: Annotated[int, Meta(extra=KEY)]
        unit_price: Annotated[Decimal, Digits(5, 2)]
        lasts_for: timedelta

    record = Renamed(id=1, unit_price=Decimal("1E+2"), lasts_for=timedelta(seconds=1))
    schemas = FakeSchemas({1: WriterSchema("json"), 2: WriterSchema("avro", avro_schema(Renamed))})
    as_json, as_avro = build_serializer(Renamed, "json", 1)(record), build_serializer(Renamed, "avro", 2)(record)
    assert json.loads(as_json[5:]) == {"id": 1, "unitPrice": "100", "lastsFor": "PT1S"}
    decoder = Decoder(Renamed, schemas)
    assert decoder.decode(as_json) == decoder.decode(as_avro) == record


def test_faults_say_it_in_the_contracts_words():
    """Field by field."""
    found = DECODER.decode(text(price="1.001", size="XL"))
    assert found.message == "price: at most 2 decimals; size: expected one of 'L', 'M', 'S'"


@pytest.mark.parametrize("case", SCALAR_CASES, ids=lambda case: case.name)
def test_each_case_of_the_corpus_ends_as_it_says(case):
    """It is stored with these fields, or breaks these rules."""
    found = Decoder(Deal, FakeSchemas({2: WriterSchema("avro", avro_schema(Deal))})).decode(case.value(2))
    if case.rules:
        assert isinstance(found, Fault), found
        assert (found.reason, found.rules) == (Reason.CONTRACT_BROKEN, case.rules)
    else:
        assert found == case.record()


def test_names_of_the_corpus_are_their_own():
    """A case's id is told by its name."""
    assert len({case.name for case in SCALAR_CASES}) == len(SCALAR_CASES)
