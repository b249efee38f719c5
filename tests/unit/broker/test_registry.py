import json

import msgspec
import pytest
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError

from penstock.broker import registry
from penstock.broker.registry import Registry, WriterSchema
from penstock.config import read
from penstock.contract.schemas import avro_schema, json_schema
from penstock.errors import RegistryUnreachable, SchemaRefused, SchemaUnknown
from tests.unit.records import Reading


class FakeClient:
    """The registry's client: answers what it is given, or raises it."""

    def __init__(self, conf) -> None:
        self.conf = conf
        self.answer = None
        self.calls = []

    def register_schema(self, subject, schema):
        return self._give(subject, schema)

    def get_schema(self, schema_id):
        return self._give(schema_id)

    def _give(self, *call):
        self.calls.append(call)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def made(monkeypatch):
    """Makes a registry and the client behind it."""

    def make(**overrides):
        clients = []
        monkeypatch.setattr(
            registry, "SchemaRegistryClient", lambda conf: clients.append(FakeClient(conf)) or clients[0]
        )
        return Registry(read(**overrides)), clients[0]

    return make


def test_where_the_registry_is_asked(made):
    """Address and timeout come from the settings; there is no password unless a user is set."""
    _, client = made()
    assert client.conf["url"] == "http://127.0.0.1:8081/apis/ccompat/v7"
    assert client.conf["timeout"] == 10
    assert "basic.auth.user.info" not in client.conf


def test_a_user_and_password_are_given(made):
    """With a user, the registry is asked as that user."""
    _, client = made(registry_username="me", registry_password="secret")
    assert client.conf["basic.auth.user.info"] == "me:secret"


@pytest.mark.parametrize(
    ("wire_format", "kind", "schema"), [("json", "JSON", json_schema(Reading)), ("avro", "AVRO", avro_schema(Reading))]
)
def test_a_records_schema_is_registered(made, wire_format, kind, schema):
    """The record's rendering for the wire format is registered under the subject; the id is given back."""
    schemas, client = made()
    client.answer = 7
    assert schemas.register("readings-value", Reading, wire_format) == 7
    subject, sent = client.calls[0]
    assert (subject, sent.schema_type, json.loads(sent.schema_str)) == ("readings-value", kind, schema)


@pytest.mark.parametrize(("kind", "wire_format"), [("JSON", "json"), ("AVRO", "avro")])
def test_a_writer_schema_is_asked_for_once(made, kind, wire_format):
    """An id never changes its meaning, so it is looked up once."""
    schemas, client = made()
    client.answer = Schema('{"type": "object"}', schema_type=kind)
    assert schemas.writer(3) == schemas.writer(3) == WriterSchema(wire_format, {"type": "object"})
    assert client.calls == [(3,)]


def test_a_schema_of_another_kind_is_unknown(made):
    """Protobuf cannot be read: the record is set aside, not the job stopped."""
    schemas, client = made()
    client.answer = Schema('syntax = "proto3";', schema_type="PROTOBUF")
    with pytest.raises(SchemaUnknown, match="schema 3 is PROTOBUF"):
        schemas.writer(3)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SchemaRegistryError(404, 40403, "Schema not found"), SchemaUnknown),
        (SchemaRegistryError(409, 409, "incompatible"), SchemaRefused),
        (SchemaRegistryError(422, 42201, "invalid"), SchemaRefused),
        (SchemaRegistryError(500, 50001, "broken"), RegistryUnreachable),
        (SchemaRegistryError(503, 503, "starting"), RegistryUnreachable),
        (ConnectionError("refused"), RegistryUnreachable),
        (TimeoutError("late"), RegistryUnreachable),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_registrys_errors_are_ours(made, error, kind):
    """Unknown, refused and away are told apart; the message says what was asked, where, and what came back."""
    schemas, client = made()
    client.answer = error
    with pytest.raises(kind) as failed:
        schemas.register("readings-value", Reading, "avro")
    assert type(failed.value) is kind
    for part in ("AVRO schema Reading as readings-value", "http://127.0.0.1:8081", str(error)):
        assert part in failed.value.message
    with pytest.raises(kind, match="looking up schema 3"):
        schemas.writer(3)


def test_a_failed_look_up_is_not_remembered(made):
    """Once the registry is back, it is asked again."""
    schemas, client = made()
    client.answer = TimeoutError()
    with pytest.raises(RegistryUnreachable):
        schemas.writer(3)
    client.answer = Schema(msgspec.json.encode(avro_schema(Reading)).decode(), schema_type="AVRO")
    assert schemas.writer(3).wire_format == "avro"
