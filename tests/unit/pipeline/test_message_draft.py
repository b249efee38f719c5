"""A message written by hand."""

import dataclasses
import json

import pytest

from penstock.codec.wire_format import encode_header
from penstock.config import read
from penstock.contract.fault import Fault, Reason
from penstock.errors import DeliveryFailed, UsageError
from penstock.pipeline import message_draft
from penstock.pipelines import users
from tests.unit.fakes import JSON_ID, FakeProducer, FakeRegistry, FakeSchemas
from tests.unit.records import READINGS, Everything, Scalars

SETTINGS = read(home="unused")


def test_the_template_of_the_users_keeps_their_contract():
    """It can be sent as it is."""
    found = message_draft.validate_text(users.PIPELINE, FakeSchemas(), message_draft.build_template(users.User))
    assert isinstance(found, users.User)


def test_the_template_of_the_other_types_keeps_their_contract():
    """An example of each that can be sent as it is."""
    text = message_draft.build_template(Scalars)
    pipeline = dataclasses.replace(READINGS, record=Scalars)
    assert isinstance(message_draft.validate_text(pipeline, FakeSchemas(), text), Scalars)
    assert json.loads(text)["size"] == "L"


def test_a_template_has_every_field():
    """Of each type an example; null where a field may be absent."""
    made = json.loads(message_draft.build_template(Everything))
    assert set(made) == set(Everything.__struct_fields__)
    assert made["maybe_text"] is None
    assert made["flag"] is False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.VALUE_MISSING),
        ("{", Reason.JSON_MALFORMED),
        ('{"sensor": 1, "sensor": 2, "celsius": 1}', Reason.JSON_MALFORMED),
        ('{"sensor": -1}', Reason.CONTRACT_BROKEN),
        ("\0\0\0\0\1{}", Reason.JSON_MALFORMED),
    ],
)
def test_it_is_checked_as_the_stream_checks_it(text, reason):
    """What the stream would set aside is told before."""
    found = message_draft.validate_text(READINGS, FakeSchemas(), text)
    assert isinstance(found, Fault)
    assert found.reason == reason


def test_it_is_packed_as_the_producer_packs_it():
    """Keyed by its id, framed with the id of the registered schema."""
    one = message_draft.validate_text(READINGS, FakeSchemas(), '{"sensor": 7, "celsius": 1.5}')
    key, value = message_draft.encode_record(SETTINGS, READINGS, FakeRegistry(), one)
    assert (key, value) == (b"7", encode_header(JSON_ID) + b'{"sensor":7,"celsius":1.5}')


OPEN = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
ROW = '{"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}'


def test_a_value_of_a_registered_schema_is_framed():
    """JSON as it was typed, Avro in its bytes."""
    assert message_draft.encode_text(7, "JSON", OPEN, '{"n": 3}') == encode_header(7) + b'{"n": 3}'
    assert message_draft.encode_text(8, "AVRO", ROW, '{"n": 3}') == encode_header(8) + b"\x06"


@pytest.mark.parametrize(
    ("kind", "schema", "text", "told"),
    [
        ("JSON", OPEN, '{"n": "x"}', r"\$\.n: 'x' is not of type 'integer'"),
        ("JSON", OPEN, "{}", "'n' is a required property"),
        ("JSON", OPEN, "{", "invalid JSON"),
        ("AVRO", ROW, '{"n": "x"}', "not a record of Avro schema 7"),
        ("AVRO", ROW, '{"m": 1}', "not a record of Avro schema 7"),
        ("AVRO", ROW, "[1]", "not a record of Avro schema 7"),
        ("PROTOBUF", "{}", "{}", "send the text as typed"),
    ],
)
def test_a_value_that_breaks_its_schema_is_not_framed(kind, schema, text, told):
    """Each broken rule is named."""
    with pytest.raises(UsageError, match=told):
        message_draft.encode_text(7, kind, schema, text)


@pytest.mark.parametrize(
    "schema",
    [
        '{"$ref": "#"}',
        '{"$ref": "#/nowhere"}',
        '{"$ref": "http://127.0.0.1:1/schema.json"}',
        '{"type": "no-such"}',
        '{"pattern": "("}',
        "5",
        "null",
    ],
)
def test_a_schema_that_cannot_be_checked_with_is_a_wrong_use(schema):
    """It may be in itself, or name what is not there; nothing that it refers to is fetched."""
    with pytest.raises(UsageError, match="the schema cannot be used for validation"):
        message_draft.encode_text(7, "JSON", schema, '"x"')


def test_an_avro_schema_that_could_hurt_is_not_written_with():
    """A type inside of itself is refused, as it is when values are read."""
    endless = '{"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}'
    with pytest.raises(UsageError, match="R contains itself"):
        message_draft.encode_text(7, "AVRO", endless, '{"r": null}')


@pytest.fixture
def sends(monkeypatch):
    """Puts a producer in place."""

    def put(**named):
        client = FakeProducer(**named)
        monkeypatch.setattr(message_draft, "create_producer", lambda _: client)
        return client

    return put


def test_the_place_is_the_one_that_kafka_acknowledged(sends):
    """Key and value are sent as they are given."""
    client = sends()
    assert str(message_draft.deliver_message(SETTINGS, "t", None, b"x")) == "0:0"
    assert client.sent[0].value() == b"x"
    assert client.sent[0].key() is None


@pytest.mark.parametrize("named", [{"held": 1}, {"fails": lambda _: True}])
def test_what_is_not_acknowledged_is_not_called_delivered(sends, named):
    """Neither without a report nor with a bad one."""
    sends(**named)
    with pytest.raises(DeliveryFailed):
        message_draft.deliver_message(SETTINGS, "t", None, b"x")


@pytest.mark.parametrize("topic", ["kafkasql-journal", "__consumer_offsets"])
def test_nothing_is_sent_to_a_topic_that_a_service_keeps(sends, topic):
    """A message there could break the registry, or Kafka."""
    client = sends()
    with pytest.raises(UsageError):
        message_draft.deliver_message(SETTINGS, topic, None, b"x")
    assert client.sent == []
