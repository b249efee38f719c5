"""Values of any producer read leniently: what they contain, what is wrong with them, and what it may cost."""

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
    """JSON and Avro, with or without a header, text, bytes and null; none of them is an error."""
    result = reader.read(value)
    assert (result.kind, result.value, result.schema_id) == (kind, decoded, schema_id)


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
def test_a_value_that_cannot_be_decoded_says_why(reader, value, problem):
    """The reason is shown with the bytes."""
    assert problem in reader.read(value).problem


def test_a_dangerous_schema_is_not_used():
    """A recursive type is rejected, as in the stream."""
    endless = {"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}
    result = ContentReader(FakeSchemas({3: WriterSchema("avro", endless)})).read(encode_header(3) + b"\x00" * 50)
    assert result.kind == "bytes"
    assert "contains itself" in result.problem


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ({"type": "array", "items": "int"}, number(900_000) + b"\2" * 900_000, "more than 100,000 values"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9}, number(400_000) + b"1" * 400_000, "ValueError"),
    ],
    ids=["too many values", "a decimal that takes long"],
)
def test_a_dangerous_value_is_shown_as_bytes(kind, body, problem):
    """It is not decoded, as in the stream, and the reason is shown with it."""
    result = ContentReader(FakeSchemas({3: WriterSchema("avro", kind)})).read(encode_header(3) + body)
    assert (result.kind, result.value) == ("bytes", None)
    assert f"invalid Avro of schema 3: {problem}" in result.problem.replace("not decoded: record: the value holds ", "")


def test_a_rejected_schema_is_requested_once():
    """A page full of its values does not measure it again for each."""
    schemas = FakeSchemas({3: WriterSchema("avro", {"type": "array", "items": "null"})})
    reader = ContentReader(schemas)
    assert reader.read(encode_header(3)).problem == reader.read(encode_header(3)).problem != ""
    assert schemas.asked == [3]


def test_avro_values_without_a_json_type_are_converted():
    """Bytes, times and NaN do not break the page or the API."""
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
    result = ContentReader(FakeSchemas({3: WriterSchema("avro", schema)})).read(encode_header(3) + body.getvalue())
    assert json.dumps(result.value, allow_nan=False)
    assert result.value["odd"] is None


def test_an_unavailable_registry_is_queried_once():
    """A page of messages with a header does not wait for it repeatedly; plain ones are shown."""
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
    result = read_fields(value, readers, Reading)
    assert result.keys() == set(Everything.__struct_fields__)
    assert result["text"] == record.text
    assert read_fields(value[:7], readers, Reading) is None
    assert read_fields(value + b"\x00", readers, Reading) is None


@pytest.mark.parametrize("schema", ["nonsense", {"type": "record"}, {"type": "no-such"}])
def test_an_unreadable_avro_schema_gives_no_fields(schema):
    """Nor is it an error of the command."""
    readers = AvroReaders(FakeSchemas({3: WriterSchema("avro", schema)}))
    assert read_fields(encode_header(3) + b"x", readers, Reading) is None


def test_an_unavailable_registry_does_not_invalidate_a_record():
    """The error is raised: nothing is known of the record."""
    with pytest.raises(RegistryUnreachable):
        read_fields(encode_header(3) + b"x", AvroReaders(FakeSchemas(error=RegistryUnreachable("away"))), Reading)


@given(st.binary(max_size=40))
def test_no_bytes_are_an_error(value):
    """Whatever a value is, it has fields or none."""
    assert isinstance(read_fields(value, AvroReaders(FakeSchemas.of(Reading)), Reading), dict | None)
