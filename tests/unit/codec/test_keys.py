from io import BytesIO
from typing import Annotated
from uuid import UUID

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.broker.registry import WriterSchema
from penstock.codec.records import Decoder
from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Fault, Reason
from penstock.contract.identity import identity_of
from penstock.contract.keys import KEY_FORMATS, is_structured
from penstock.contract.proofs import KEY_SHAPES
from penstock.contract.record import KEY, Record
from penstock.errors import RegistryUnreachable
from penstock.pipelines.users import User
from tests.unit.fakes import FakeSchemas
from tests.unit.records import Reading


class Order(Record, frozen=True, kw_only=True):
    """A text key, which could also be of any other format."""

    id: Annotated[str, Meta(min_length=1, max_length=200, extra=KEY)]


class Renamed(Record, frozen=True, kw_only=True, rename="camel"):
    """A record whose messages have another name for the key."""

    order_id: Annotated[str, Meta(min_length=1, max_length=200, extra=KEY)]


class Coded(Record, frozen=True, kw_only=True):
    """A text key whose pattern excludes every other format."""

    id: Annotated[str, Meta(min_length=1, max_length=9, pattern="^[A-Z0-9]+$", extra=KEY)]


def record_schema(**types):
    return {"type": "record", "name": "Key", "fields": [{"name": name, "type": kind} for name, kind in types.items()]}


AVRO = {
    1: "string",
    2: record_schema(id="string"),
    3: record_schema(id="long"),
    4: record_schema(sensor="int"),
    5: record_schema(id="string", region="string"),
    6: "long",
}
JSON_SCHEMA = 7
SCHEMAS = FakeSchemas(
    {number: WriterSchema("avro", schema) for number, schema in AVRO.items()} | {JSON_SCHEMA: WriterSchema("json", {})}
)
DEBEZIUM = (
    b'{"schema":{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"}],"optional":false,'
    b'"name":"server.shop.orders.Key"},"payload":{"id":"J1"}}'
)


def avro(schema_id, value):
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(AVRO[schema_id]), value)
    return encode_header(schema_id) + body.getvalue()


def deleted(record, key, key_format=None, proven=None):
    return Decoder(record, SCHEMAS, key_format).deleted(key, proven)


@pytest.mark.parametrize(
    ("key_format", "key"),
    [
        ("text", b"J1"),
        ("json", b'"J1"'),
        ("json", b'{"id":"J1"}'),
        ("json", b' { "id" : "J1" } '),
        ("json", rb'{"id":"\u004a1"}'),
        ("connect", b'"J1"'),
        ("connect", b'{"id":"J1"}'),
        ("connect", b'{"schema":{"type":"struct"},"payload":{"id":"J1"}}'),
        ("connect", b'{"schema":{"type":"string","optional":false},"payload":"J1"}'),
        ("connect", b'{"schema":null,"payload":{"id":"J1"}}'),
        ("connect", b'{"payload":"J1"}'),
        ("connect", DEBEZIUM),
        ("registry", avro(1, "J1")),
        ("registry", avro(2, {"id": "J1"})),
        ("registry", encode_header(JSON_SCHEMA) + b'{"id":"J1"}'),
        ("registry", encode_header(JSON_SCHEMA) + b'"J1"'),
    ],
)
def test_a_key_of_the_declared_format_names_its_row(key_format, key):
    """Text, JSON, Connect's structs with and without schema, and keys with a header: each is parsed by its format."""
    assert deleted(Order, key, key_format) == "J1"


@pytest.mark.parametrize(
    ("key_format", "key"),
    [
        ("text", b""),
        ("text", b"\xff"),
        ("text", avro(1, "J1")),
        ("json", b"J1"),
        ("json", b"7"),
        ("json", b"null"),
        ("json", b'["J1"]'),
        ("json", b'{"id":"J1","region":"eu"}'),
        ("json", b'{"key":"J1"}'),
        ("json", b'{"id":{"id":"J1"}}'),
        ("json", b'{"id":"J1","id":"J2"}'),
        ("json", b'{"id":"J1"'),
        ("json", rb'{"id":"J1\u0000"}'),
        ("json", rb'{"id":"\ud800"}'),
        ("json", DEBEZIUM),
        ("json", b"[" * 200_000),
        ("connect", b'{"payload":null}'),
        ("connect", b'{"schema":{},"payload":{"id":"J1"},"more":1}'),
        ("connect", b'{"payload":{"payload":"J1"}}'),
        ("registry", b"J1"),
        ("registry", b'{"id":"J1"}'),
        ("registry", b"\0\0"),
        ("registry", encode_header(99) + b"J1"),
        ("registry", avro(3, {"id": 7})),
        ("registry", avro(5, {"id": "J1", "region": "eu"})),
        ("registry", avro(2, {"id": "J1"}) + b"x"),
        ("registry", encode_header(JSON_SCHEMA) + b"J1"),
    ],
)
def test_a_key_of_another_format_than_declared_deletes_nothing(key_format, key):
    """It is a dead letter, even if the key would be an id in another format."""
    fault = deleted(Order, key, key_format)
    assert isinstance(fault, Fault)
    assert fault.reason == Reason.VALUE_MISSING
    assert fault.message.startswith("the value is null, and the key is no id whose row to delete: ")


@pytest.mark.parametrize("key", ["J1", "7", "order 7", "a:b", "ключ", "null", "true", "x{}", "1e5", "-"])
def test_a_plain_text_id_needs_no_declaration(key):
    """What our own producer writes deletes its row, whichever record is first in the topic."""
    assert deleted(Order, identity_of(Order).key_of(Order(id=key))) == key


@pytest.mark.parametrize(
    "key",
    [
        b'"J1"',
        b'{"id":"J1"}',
        b' {"id":"J1"}',
        b'{"id":"J1"',
        b'{"id":"J1","region":"eu"}',
        b'{"other":"J1"}',
        b'["J1"]',
        b"{}",
        DEBEZIUM,
        b"Struct{id=J1}",
        b"\x04J1",
        b"J1\n",
    ],
)
def test_a_text_id_that_looks_like_another_format_is_ambiguous(key):
    """A row is never deleted by a key that may mean another one: the dead letter says what to declare."""
    fault = deleted(Order, key)
    assert isinstance(fault, Fault)
    assert fault.reason == Reason.KEY_AMBIGUOUS
    assert "set key_format" in fault.message


def test_an_unusual_text_id_is_deleted_once_text_is_declared():
    """The declaration counts, whatever a key looks like."""
    assert deleted(Order, b'{"id":"J1"}', "text") == '{"id":"J1"}'


@pytest.mark.parametrize("key", [avro(1, "J1"), avro(2, {"id": "J1"}), encode_header(JSON_SCHEMA) + b'{"id":"J1"}'])
def test_a_key_with_a_header_needs_no_declaration(key):
    """No text id contains NUL, with which the header starts."""
    assert deleted(Order, key) == "J1"


@pytest.mark.parametrize(
    "key",
    [b"7", b'"7"', b'{"sensor":7}', b'{"schema":{},"payload":{"sensor":7}}', b'{"payload":7}', avro(4, {"sensor": 7})],
)
def test_a_number_is_parsed_in_the_only_possible_format(key):
    """An id that is not text is unambiguous: each format is parsed without a declaration."""
    assert deleted(Reading, key) == 7
    assert deleted(Reading, avro(6, 7)) == 7


@pytest.mark.parametrize("key", [b'{"sensor":true}', b'{"sensor":-1}', b'{"sensor":7.5}', b"[7]", b'{"payload":1e99}'])
def test_a_number_in_a_key_must_satisfy_the_rules_of_the_id(key):
    """A value that no record could have as id names no row."""
    assert isinstance(deleted(Reading, key), Fault)


def test_a_pattern_leaves_one_format():
    """A text in quotes is no id of such a record, so it is JSON."""
    assert deleted(Coded, b'"J1"') == deleted(Coded, b'{"id":"J1"}') == deleted(Coded, b"J1") == "J1"
    assert deleted(Coded, b'"j1"').reason == Reason.VALUE_MISSING


def test_a_key_has_the_name_used_in_messages():
    """A record that renames its fields is keyed by the renamed one."""
    assert deleted(Renamed, b'{"orderId":"J1"}', "json") == "J1"
    assert isinstance(deleted(Renamed, b'{"order_id":"J1"}', "json"), Fault)


def test_a_field_called_payload_is_an_id_and_no_envelope():
    """The record's own name for its id takes precedence."""
    named = msgspec.defstruct(
        "Named", [("payload", Annotated[int, Meta(ge=0, le=9, extra=KEY)])], bases=(Record,), frozen=True, kw_only=True
    )
    assert deleted(named, b'{"payload":7}') == 7


def test_an_unreachable_registry_is_not_the_keys_fault():
    """A key with a header needs the registry: the batch fails, and no dead letter is written."""
    away = Decoder(Order, FakeSchemas(error=RegistryUnreachable("away")))
    with pytest.raises(RegistryUnreachable):
        away.deleted(avro(1, "J1"), None)


@pytest.mark.parametrize("key_format", [None, *KEY_FORMATS])
@given(key=st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_parsing_a_key_never_raises_and_has_no_state(key_format, key):
    """The same bytes give the same id or dead letter in any process, in any order."""
    decoder = Decoder(Order, SCHEMAS, key_format)
    for proven in (None, frozenset(), frozenset({"text"}), frozenset(KEY_SHAPES)):
        first = decoder.deleted(key, proven)
        decoder.deleted(b'{"id":"J1"}', proven)
        assert decoder.deleted(key, proven) == first == deleted(Order, key, key_format, proven)


@given(st.text(min_size=1, max_size=200).filter(lambda text: not is_structured(text)))
def test_every_text_id_without_a_structure_round_trips_through_its_key(text):
    """Whatever the producer writes for a text id is parsed as that id, unless it starts like another format."""
    assert deleted(Order, text.encode()) == text


@given(st.uuids())
def test_every_uuid_round_trips_through_its_key(record_id):
    """In each text format, without a declaration."""
    keys = (b"%b", b'"%b"', b'{"id":"%b"}', b'{"schema":{},"payload":{"id":"%b"}}')
    assert {deleted(User, key % str(record_id).encode()) for key in keys} == {UUID(str(record_id))}
