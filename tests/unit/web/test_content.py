"""What a message is shown as, whatever it holds."""

import json

import fastavro
import pytest

from penstock.broker.registry import WriterSchema
from penstock.broker.wire_format import pack
from penstock.contract.masking import MASK
from penstock.errors import RegistryUnreachable
from penstock.produce.serialize import serializer
from penstock.web.topics.content import SHOWN_BYTES, MessageRenderer, ValueDecoder
from tests.corpus.avro import number
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas, message
from tests.unit.records import Reading

ONE = Reading(sensor=7, celsius=21.5)
PLAIN = {"sensor": 7, "celsius": 21.5}


@pytest.fixture
def reader():
    return ValueDecoder(FakeSchemas.of(Reading))


def seen(one, *, masks=False, schemas=None, record=Reading):
    return MessageRenderer(ValueDecoder(schemas or FakeSchemas.of(Reading)), record, masks).render(one)


@pytest.mark.parametrize(
    ("value", "kind", "decoded", "schema_id"),
    [
        (None, "null", None, None),
        (b'{"sensor": 7}', "json", {"sensor": 7}, None),
        (b"17", "json", 17, None),
        (serializer(Reading, "json", JSON_ID)(ONE), "json", PLAIN, JSON_ID),
        (serializer(Reading, "avro", AVRO_ID)(ONE), "avro", PLAIN, AVRO_ID),
        ("Grüße".encode(), "text", None, None),
        (b"", "text", None, None),
        (b"\xff\xfe\x01", "bytes", None, None),
        (pack(9) + b"{}", "bytes", None, 9),
        (b"\x00\x00", "bytes", None, None),
        (b"[" * 100_000, "text", None, None),
        (b"[" * 200 + b"]" * 200, "text", None, None),
    ],
)
def test_each_encoding_is_recognized(reader, value, kind, decoded, schema_id):
    """JSON and Avro, framed or not, text, bytes and null; nothing of it is an error."""
    found = reader.decode(value)
    assert (found.kind, found.value, found.schema_id) == (kind, decoded, schema_id)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"{", "invalid JSON"),
        (pack(JSON_ID) + b"{", "invalid JSON"),
        (pack(AVRO_ID) + b"\x01", "invalid Avro of schema 2: "),
        (serializer(Reading, "avro", AVRO_ID)(ONE) + b"x", "extra bytes after the record"),
        (pack(9), "no schema 9"),
        (b"\x00\x00", "the frame has 2 of 5 bytes"),
        (b"x" * 1_000_001, "not decoded: larger than 1,000,000 bytes"),
    ],
)
def test_what_cannot_be_decoded_says_why(reader, value, problem):
    """The reason is shown with the bytes."""
    assert problem in reader.decode(value).problem


def test_a_schema_that_could_hurt_its_reader_is_not_read_with():
    """A type inside of itself is refused, as the stream refuses it."""
    endless = {"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}
    found = ValueDecoder(FakeSchemas({3: WriterSchema("avro", endless)})).decode(pack(3) + b"\x00" * 50)
    assert found.kind == "bytes"
    assert "used inside of itself" in found.problem


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
    found = ValueDecoder(FakeSchemas({3: WriterSchema("avro", kind)})).decode(pack(3) + body)
    assert (found.kind, found.value) == ("bytes", None)
    assert f"invalid Avro of schema 3: {problem}" in found.problem.replace("not decoded: record: the value holds ", "")


def test_a_refused_schema_is_asked_for_once():
    """A page full of its values does not measure it again for each."""
    schemas = FakeSchemas({3: WriterSchema("avro", {"type": "array", "items": "null"})})
    reader = ValueDecoder(schemas)
    assert reader.decode(pack(3)).problem == reader.decode(pack(3)).problem != ""
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
    from io import BytesIO

    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), {"raw": b"\xff", "at": 0, "odd": float("nan")})
    found = ValueDecoder(FakeSchemas({3: WriterSchema("avro", schema)})).decode(pack(3) + body.getvalue())
    assert json.dumps(found.value, allow_nan=False)
    assert found.value["odd"] is None


def test_an_unavailable_registry_is_queried_once():
    """A page of framed messages does not wait for it again and again; plain ones are shown."""
    schemas = FakeSchemas(error=RegistryUnreachable("away"))
    reader = ValueDecoder(schemas)
    assert reader.decode(pack(1) + b"{}").problem == "not decoded: away"
    assert reader.decode(pack(2) + b"{}").problem == "not decoded: away"
    assert reader.decode(b"{}").kind == "json"
    assert schemas.asked == [1]


def test_personal_data_are_hidden():
    """Fields that the contract does not know, text, bytes, strange headers, and keys that are no id."""
    one = message(
        5,
        b'{"sensor": 7, "celsius": 2.5, "name": "Ada", "inner": {"mail": "ada@x"}}',
        key=b"Ada",
        headers=[
            ("who", b"Ada"),
            ("penstock.run", b"r1"),
            ("penstock.who", b"Ada"),
            ("__penstock.errors.reason", b"why"),
            ("__penstock.errors.message", b"'Ada' stands twice"),
        ],
    )
    found = seen(one, masks=True)
    assert found.value == {"sensor": 7, "celsius": 2.5, "name": MASK, "inner": {"mail": MASK}}
    assert (found.key, found.key_is_hidden, found.hex) == (None, True, None)
    assert [one.value for one in found.headers] == [None, "r1", None, "why", None]
    assert "Ada" not in repr(found)
    text = seen(message(6, b"Ada", key=b"7"), masks=True)
    assert (text.text, text.hidden) == (None, "hidden: 3 bytes; personal data are hidden")
    assert text.key == "7"


def test_personal_data_are_shown_to_who_asked_for_them():
    """As they are, in text and in hex."""
    found = seen(message(6, b"Ada", key=b"\xff\x01", headers=[("who", b"Ada"), ("none", None)]))
    assert (found.text, found.hex, found.key) == ("Ada", b"Ada".hex(), "0xff01")
    assert [one.value for one in found.headers] == ["Ada", None]


def test_a_large_value_is_cut_and_says_so():
    """What is shown of a message is bounded, decoded or not."""
    text = seen(message(1, b"x" * 50_000))
    assert (len(text.text), len(text.hex), text.is_cut, text.value_bytes) == (
        SHOWN_BYTES,
        2 * SHOWN_BYTES,
        True,
        50_000,
    )
    decoded = seen(message(1, json.dumps({"a": "x" * 50_000}).encode()))
    assert (decoded.value, len(decoded.text), decoded.is_cut) == (None, SHOWN_BYTES, True)
