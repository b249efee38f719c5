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


def test_the_template_of_the_users_satisfies_their_contract():
    """It can be sent unchanged."""
    draft = message_draft.validate_text(users.PIPELINE, FakeSchemas(), message_draft.build_template(users.User))
    assert isinstance(draft, users.User)


def test_the_template_of_the_other_types_keeps_their_contract():
    """An example of each that can be sent as it is."""
    text = message_draft.build_template(Scalars)
    pipeline = dataclasses.replace(READINGS, record=Scalars)
    assert isinstance(message_draft.validate_text(pipeline, FakeSchemas(), text), Scalars)
    assert json.loads(text)["size"] == "L"


def test_a_template_has_every_field():
    """An example of each type; null for optional fields."""
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
def test_a_draft_is_validated_like_in_the_stream(text, reason):
    """What the stream would dead-letter is reported before it is sent."""
    draft = message_draft.validate_text(READINGS, FakeSchemas(), text)
    assert isinstance(draft, Fault)
    assert draft.reason == reason


def test_a_draft_is_encoded_like_by_the_producer():
    """Keyed by its id, with the id of the registered schema in its header."""
    draft = message_draft.validate_text(READINGS, FakeSchemas(), '{"sensor": 7, "celsius": 1.5}')
    key, value = message_draft.encode_record(SETTINGS, READINGS, FakeRegistry(), draft)
    assert (key, value) == (b"7", encode_header(JSON_ID) + b'{"sensor":7,"celsius":1.5}')


OPEN = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
ROW = '{"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}'


def test_a_value_of_a_registered_schema_gets_a_header():
    """JSON as it was typed, Avro encoded."""
    assert message_draft.encode_text(7, "JSON", OPEN, '{"n": 3}') == encode_header(7) + b'{"n": 3}'
    assert message_draft.encode_text(8, "AVRO", ROW, '{"n": 3}') == encode_header(8) + b"\x06"


@pytest.mark.parametrize(
    ("kind", "schema", "text", "problem"),
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
def test_a_value_that_breaks_its_schema_is_not_encoded(kind, schema, text, problem):
    """Each broken rule is named."""
    with pytest.raises(UsageError, match=problem):
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
def test_a_schema_that_cannot_be_used_is_a_usage_error(schema):
    """It may be invalid, or have a missing reference; no reference is fetched."""
    with pytest.raises(UsageError, match="the schema cannot be used for validation"):
        message_draft.encode_text(7, "JSON", schema, '"x"')


def test_a_dangerous_avro_schema_is_not_used():
    """A recursive type is rejected, as it is when values are read."""
    endless = '{"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}'
    with pytest.raises(UsageError, match="R contains itself"):
        message_draft.encode_text(7, "AVRO", endless, '{"r": null}')


@pytest.fixture
def sends(monkeypatch):
    """Return a function that installs a producer."""

    def put(**named):
        client = FakeProducer(**named)
        monkeypatch.setattr(message_draft, "create_producer", lambda _: client)
        return client

    return put


def test_the_position_is_the_acknowledged_one(sends):
    """Key and value are sent unchanged."""
    client = sends()
    assert str(message_draft.deliver_message(SETTINGS, "t", None, b"x")) == "0:0"
    assert client.sent[0].value() == b"x"
    assert client.sent[0].key() is None


@pytest.mark.parametrize("named", [{"held": 1}, {"fails": lambda _: True}])
def test_an_unacknowledged_message_is_not_reported_as_delivered(sends, named):
    """Neither without a delivery report nor with a failed one."""
    sends(**named)
    with pytest.raises(DeliveryFailed):
        message_draft.deliver_message(SETTINGS, "t", None, b"x")


@pytest.mark.parametrize("topic", ["kafkasql-journal", "__consumer_offsets"])
def test_nothing_is_sent_to_an_internal_topic(sends, topic):
    """A message there could break the registry, or Kafka."""
    client = sends()
    with pytest.raises(UsageError):
        message_draft.deliver_message(SETTINGS, topic, None, b"x")
    assert client.sent == []
