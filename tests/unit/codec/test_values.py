"""Values of any producer read leniently: what they hold, what is wrong with them, and what it may cost."""

import json
from io import BytesIO

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.registry import WriterSchema
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.values import ContentReader, read_fields
from penstock.codec.wire_format import encode_header
from penstock.errors import RegistryUnreachable
from tests.corpus.avro import number
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything

ONE = Reading(sensor=7, celsius=21.5)
PLAIN = {"sensor": 7, "celsius": 21.5}


@pytest.fixture
def reader():
    return ContentReader(FakeSchemas.of(Reading))


@pytest.mark.parametrize(
    ("value", "kind", "decoded", "schema_id"),
    [
        (None, "null", None, None),
        (b'{"sensor": 7}', "json", {"sensor": 7}, None),
        (b"17", "json", 17, None),
        (build_serializer(Reading, "json", JSON_ID)(ONE), "json", PLAIN, JSON_ID),
        (build_serializer(Reading, "avro", AVRO_ID)(ONE), "avro", PLAIN, AVRO_ID),
        ("Grüße".encode(), "text", None, None),
        (b"", "text", None, None),
        (b"\xff\xfe\x01", "bytes", None, None),
        (encode_header(9) + b"{}", "bytes", None, 9),
        (b"\x00\x00", "bytes", None, None),
        (b"[" * 100_000, "text", None, None),
        (b"[" * 200 + b"]" * 200, "text", None, None),
    ],
)
def test_each_encoding_is_recognized(reader, value, kind, decoded, schema_id):
    """JSON and Avro, framed or not, text, bytes and null; nothing of it is an error."""
    found = reader.read(value)
    assert (found.kind, found.value, found.schema_id) == (kind, decoded, schema_id)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"{", "invalid JSON"),
        (encode_header(JSON_ID) + b"{", "invalid JSON"),
        (encode_header(AVRO_ID) + b"\x01", "invalid Avro of schema 2: "),
        (build_serializer(Reading, "avro", AVRO_ID)(ONE) + b"x", "extra bytes after the record"),
        (encode_header(9), "no schema 9"),
        (b"\x00\x00", "truncated schema-registry header: 2 of 5 bytes"),
        (b"x" * 1_000_001, "not decoded: larger than 1,000,000 bytes"),
    ],
)
def test_what_cannot_be_decoded_says_why(reader, value, problem):
    """The reason is shown with the bytes."""
    assert problem in reader.read(value).problem


def test_a_schema_that_could_hurt_its_reader_is_not_read_with():
    """A type inside of itself is refused, as the stream refuses it."""
    endless = {"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}
    found = ContentReader(FakeSchemas({3: WriterSchema("avro", endless)})).read(encode_header(3) + b"\x00" * 50)
    assert found.kind == "bytes"
    assert "contains itself" in found.problem


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ({"type": "array", "items": "int"}, number(900_000) + b"\2" * 900_000, "more than 100,000 values"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9}, number(400_000) + b"1" * 400_000, "ValueError"),
    ],
    ids=["too many values", "a decimal that takes long"],
)
def test_a_value_that_could_hurt_its_reader_is_shown_in_bytes(kind, body, problem):
    """It is not decoded, as the stream does not, and the reason is shown with it."""
    found = ContentReader(FakeSchemas({3: WriterSchema("avro", kind)})).read(encode_header(3) + body)
    assert (found.kind, found.value) == ("bytes", None)
    assert f"invalid Avro of schema 3: {problem}" in found.problem.replace("not decoded: record: the value holds ", "")


def test_a_refused_schema_is_asked_for_once():
    """A page full of its values does not measure it again for each."""
    schemas = FakeSchemas({3: WriterSchema("avro", {"type": "array", "items": "null"})})
    reader = ContentReader(schemas)
    assert reader.read(encode_header(3)).problem == reader.read(encode_header(3)).problem != ""
    assert schemas.asked == [3]


def test_avro_values_that_json_has_not_are_shown_in_its_terms():
    """Bytes, times and numbers that are none do not break the page or the API."""
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "raw", "type": "bytes"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "odd", "type": "double"},
        ],
    }
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), {"raw": b"\xff", "at": 0, "odd": float("nan")})
    found = ContentReader(FakeSchemas({3: WriterSchema("avro", schema)})).read(encode_header(3) + body.getvalue())
    assert json.dumps(found.value, allow_nan=False)
    assert found.value["odd"] is None


def test_an_unavailable_registry_is_queried_once():
    """A page of framed messages does not wait for it again and again; plain ones are shown."""
    schemas = FakeSchemas(error=RegistryUnreachable("away"))
    reader = ContentReader(schemas)
    assert reader.read(encode_header(1) + b"{}").problem == "not decoded: away"
    assert reader.read(encode_header(2) + b"{}").problem == "not decoded: away"
    assert reader.read(b"{}").kind == "json"
    assert schemas.asked == [1]


@given(everything())
def test_an_avro_value_has_fields_too(record):
    """Read by its own writer's schema, whatever rules it breaks."""
    readers = AvroReaders(FakeSchemas.of(Everything))
    value = build_serializer(Everything, "avro", AVRO_ID)(record)
    found = read_fields(value, readers, Reading)
    assert found.keys() == set(Everything.__struct_fields__)
    assert found["text"] == record.text
    assert read_fields(value[:7], readers, Reading) is None
    assert read_fields(value + b"\x00", readers, Reading) is None


@pytest.mark.parametrize("schema", ["nonsense", {"type": "record"}, {"type": "no-such"}])
def test_an_avro_schema_that_cannot_be_read_gives_no_fields(schema):
    """Nor is it an error of the command."""
    readers = AvroReaders(FakeSchemas({3: WriterSchema("avro", schema)}))
    assert read_fields(encode_header(3) + b"x", readers, Reading) is None


def test_a_registry_that_is_away_is_no_broken_record():
    """It is raised: nothing can be said of the record."""
    with pytest.raises(RegistryUnreachable):
        read_fields(encode_header(3) + b"x", AvroReaders(FakeSchemas(error=RegistryUnreachable("away"))), Reading)


@given(st.binary(max_size=40))
def test_no_bytes_are_an_error(value):
    """Whatever a value is, it has fields or none."""
    assert isinstance(read_fields(value, AvroReaders(FakeSchemas.of(Reading)), Reading), dict | None)
