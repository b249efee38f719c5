import json
import ssl
import time
from typing import Annotated

import httpx2
import msgspec
import pytest
import stamina
from msgspec import Meta

from penstock.broker import registry
from penstock.broker.registry import Registry, SubjectStatus, WriterSchema, schema_of
from penstock.config import read
from penstock.contract.evolution import ChangeKind
from penstock.contract.record import KEY, Alias, Record
from penstock.contract.schemas import avro_schema, json_schema
from penstock.errors import RegistryUnreachable, SchemaRefused, SchemaUnknown
from tests.unit.records import Reading

SUBJECT = "readings-value"
FORMATS = ["json", "avro"]
Sensor = Annotated[int, Meta(ge=0, le=1_000_000, extra=KEY)]


class Wider(Record, frozen=True, kw_only=True):
    """A record with an integer key."""

    sensor: Sensor
    celsius: float
    place: str | None = None


class Stricter(Record, frozen=True, kw_only=True):
    """A record with an integer key."""

    sensor: Sensor
    celsius: float
    place: str


class Reordered(Record, frozen=True, kw_only=True):
    """A record with an integer key."""

    celsius: float
    sensor: Sensor


for one in (Wider, Stricter, Reordered):
    one.__name__ = "Reading"


def says(status, code, message="no"):
    return httpx2.Response(status, json={"error_code": code, "message": message})


class FakeServer:
    """A registry behind the real client: it stores schemas and checks nothing. `answer` is returned or raised first."""

    def __init__(self) -> None:
        self.subjects: dict[str, list[int]] = {}
        self.schemas: list[dict] = []
        self.levels: dict[str, str] = {"": "BACKWARD"}
        self.asked: list[str] = []
        self.authorization = None
        self.refuses_new = False
        self.refuses_text = ""
        self.answer = None

    def __call__(self, request):
        path = request.url.path.removeprefix("/apis/ccompat/v7/")
        self.asked.append(f"{request.method} {path}")
        self.authorization = request.headers.get("Authorization")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or self._answer(request.method, path.split("/"), json.loads(request.content or b"{}"))

    def _answer(self, method, words, body):
        match method, words:
            case "GET", ["schemas", "ids", number]:
                known = int(number) <= len(self.schemas)
                return self._given(int(number)) if known else says(404, 40403, f"Schema {number} not found.")
            case "POST", ["subjects", subject, "versions"]:
                return self._register(subject, body)
            case _, ["subjects", subject, *_] if subject not in self.subjects:
                return says(404, 40401)
            case "GET", ["subjects", subject, "versions", "latest"]:
                return self._given(self.subjects[subject][-1], version=len(self.subjects[subject]))
            case "POST", ["subjects", subject]:
                result = [number for number in self.subjects[subject] if self.schemas[number - 1] == self._kept(body)]
                return self._given(result[0], version=1) if result else says(404, 40403)
            case "GET", ["config", *subject]:
                level = self.levels.get("".join(subject))
                return httpx2.Response(200, json={"compatibilityLevel": level}) if level else says(404, 40408)
            case "PUT", ["config", *subject]:
                self.levels["".join(subject)] = body["compatibility"]
                return httpx2.Response(200, json=body)
        raise AssertionError((method, words))

    def _register(self, subject, body):
        if self.refuses_new and self.levels.get(subject) != "NONE":
            return says(409, 409, "incompatible")
        if self.refuses_text and self.refuses_text in body["schema"]:
            return says(409, 409, "incompatible")
        if self._kept(body) not in self.schemas:
            self.schemas.append(self._kept(body))
        self.subjects.setdefault(subject, []).append(self.schemas.index(self._kept(body)) + 1)
        return httpx2.Response(200, json={"id": self.subjects[subject][-1]})

    @staticmethod
    def _kept(body):
        return {"schema": body["schema"], "schemaType": body["schemaType"]}

    def _given(self, number, **more):
        return httpx2.Response(200, json={"subject": "s", "id": number, "guid": "g"} | self.schemas[number - 1] | more)

    def holds(self, subject, schema, kind):
        """Register a schema as another program would."""
        self._register(subject, {"schema": json.dumps(schema), "schemaType": kind})
        return self.subjects[subject][-1]


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture(scope="module")
def tls_context():
    """The context with the system's certificates, which each client would otherwise load in 30 ms."""
    return ssl.create_default_context()


@pytest.fixture
def made(monkeypatch, server, tls_context):
    """Return a factory of registries whose real client uses the fake server."""
    real = httpx2.Client
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: tls_context)

    def client(**conf):
        server.timeout = conf["timeout"]
        return real(transport=httpx2.MockTransport(server), auth=conf["auth"])

    monkeypatch.setattr("confluent_kafka.schema_registry._sync.schema_registry_client.httpx.Client", client)
    return lambda **overrides: Registry(read(**overrides))


def test_the_registry_is_configured_by_settings(made, server):
    """Address and timeout; there is no password unless a user is set."""
    server.holds(SUBJECT, {}, "JSON")
    made(registry_timeout_s=7).writer(1)
    assert server.asked == ["GET schemas/ids/1"]
    assert (server.timeout, server.authorization) == (7, None)


def test_a_user_and_password_are_sent(made, server):
    """With a user, the registry gets that user's credentials."""
    server.holds(SUBJECT, {}, "JSON")
    made(registry_username="me", registry_password="secret").writer(1)
    assert server.authorization == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize(("wire_format", "kind"), [("json", "JSON"), ("avro", "AVRO")])
def test_a_records_schema_is_registered_once(made, server, wire_format, kind):
    """A new subject gets the record's schema; the next time its id is looked up."""
    assert made().register(SUBJECT, Reading, wire_format) == 1
    assert server.schemas == [{"schema": json.dumps(schema_of(Reading, wire_format)), "schemaType": kind}]
    server.asked.clear()
    assert made().register(SUBJECT, Reading, wire_format) == 1
    assert server.asked == [f"GET subjects/{SUBJECT}/versions/latest"]


@pytest.mark.parametrize("wire_format", FORMATS)
def test_an_additional_optional_field_is_a_new_version(made, server, wire_format):
    """It is logged as a change, and registered."""
    made().register(SUBJECT, Reading, wire_format)
    standing = made().check_subject(SUBJECT, Wider, wire_format)
    assert (standing.schema_id, standing.version) == (None, 1)
    assert [(change.field, change.kind) for change in standing.changes] == [("place", ChangeKind.ADDED_OPTIONAL)]
    assert made().register(SUBJECT, Wider, wire_format) == 2
    assert made().check_subject(SUBJECT, Wider, wire_format) == SubjectStatus(2, 2, [])


@pytest.mark.parametrize("wire_format", FORMATS)
def test_an_older_version_stays_registered(made, wire_format):
    """A producer of the earlier record continues under its own id: going back is no change."""
    made().register(SUBJECT, Reading, wire_format)
    made().register(SUBJECT, Wider, wire_format)
    assert made().register(SUBJECT, Reading, wire_format) == 1
    assert made().check_subject(SUBJECT, Reading, wire_format) == SubjectStatus(1, 2, [])


@pytest.mark.parametrize("wire_format", FORMATS)
def test_an_incompatible_schema_is_rejected_before_the_registry_is_asked(made, server, wire_format):
    """The error names field, rule and way out, on one line, and has the changes; nothing is registered."""
    made().register(SUBJECT, Reading, wire_format)
    with pytest.raises(SchemaRefused) as failed:
        made().register(SUBJECT, Stricter, wire_format)
    first, second = failed.value.message.splitlines()
    for part in (f"schema Reading as {SUBJECT}", "http://127.0.0.1:8081"):
        assert part in first
    assert second == f"  {failed.value.changes[0]}"
    assert "added_required: `place`" in second
    assert failed.value.hint == "./penstock schema plan"
    assert len(server.schemas) == 1


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_rejection_of_the_registry_is_reported_with_the_changes(made, server, wire_format):
    """A registry with stricter rules than ours decides, and the changes are next to its message."""
    made().register(SUBJECT, Reading, wire_format)
    server.refuses_new = True
    with pytest.raises(SchemaRefused, match="incompatible") as failed:
        made().register(SUBJECT, Wider, wire_format)
    assert "added_optional: `place`" in failed.value.message
    assert failed.value.hint == "./penstock schema plan"


class Fewer(Record, frozen=True, kw_only=True):
    """A record with an integer key."""

    sensor: Sensor


class Optional(Record, frozen=True, kw_only=True):
    """A record with an integer key."""

    sensor: Sensor
    celsius: float | None = None


class Renamed(Record, frozen=True, kw_only=True):
    """A record with an integer key."""

    sensor: Sensor
    degrees: Annotated[float, Alias("celsius")]


for one in (Fewer, Optional, Renamed):
    one.__name__ = "Reading"


def registered(server, number):
    return json.loads(server.schemas[number - 1]["schema"])


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_field_that_is_gone_stays_in_the_json_schema(made, server, wire_format):
    """Older records have it, and the schema is closed. Producers of both versions then find theirs."""
    made().register(SUBJECT, Wider, wire_format)
    assert made().register(SUBJECT, Reading, wire_format) == 2
    if wire_format == "json":
        own = json_schema(Reading)["properties"]
        assert registered(server, 2)["properties"] == own | {
            "place": json_schema(Wider)["properties"]["place"] | {"x-removed": True}
        }
    else:
        assert registered(server, 2) == avro_schema(Reading)
    for record, schema_id in ((Wider, 1), (Reading, 2)) * 2:
        assert made().register(SUBJECT, record, wire_format) == schema_id
    assert len(server.schemas) == 2


def test_an_optional_number_is_registered_as_the_registry_accepts_it(made, server):
    """First as it is; if the registry refuses null for a number, as a property that allows anything, with its type."""
    made().register(SUBJECT, Reading, "json")
    assert made().register(SUBJECT, Optional, "json") == 2
    assert registered(server, 2) == json_schema(Optional)
    made().register("other", Reading, "json")
    server.refuses_text = '"celsius": {"anyOf"'
    assert made().register("other", Optional, "json") == 3
    assert registered(server, 3)["properties"]["celsius"] == {"x-type": json_schema(Optional)["properties"]["celsius"]}
    assert made().check_subject("other", Optional, "json") == SubjectStatus(3, 2, [])


def test_a_registry_that_refuses_each_form_is_reported_once(made, server):
    """With its message about the schema as it is, and the changes."""
    made().register(SUBJECT, Reading, "json")
    server.refuses_new = True
    with pytest.raises(SchemaRefused, match="incompatible") as failed:
        made().register(SUBJECT, Optional, "json")
    assert [line.strip().partition(":")[0] for line in failed.value.message.splitlines()[1:]] == ["now_optional"]
    assert len([call for call in server.asked if call.startswith("POST") and call.endswith("versions")]) == 3


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_renamed_field_is_a_new_version(made, wire_format):
    """Its former name is in the schema, and it is registered once."""
    made().register(SUBJECT, Reading, wire_format)
    changes = made().check_subject(SUBJECT, Renamed, wire_format).changes
    assert [(change.field, change.kind) for change in changes] == [("degrees", ChangeKind.FIELD_RENAMED)]
    assert made().register(SUBJECT, Renamed, wire_format) == 2
    assert made().check_subject(SUBJECT, Renamed, wire_format) == SubjectStatus(2, 2, [])


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_required_field_that_is_gone_is_rejected_with_a_way_out(made, server, wire_format):
    """It is made optional first."""
    made().register(SUBJECT, Reading, wire_format)
    with pytest.raises(SchemaRefused, match="first make it `float") as failed:
        made().register(SUBJECT, Fewer, wire_format)
    assert "`float | None = None`" in failed.value.message
    made().register(SUBJECT, Optional, wire_format)
    assert made().register(SUBJECT, Fewer, wire_format) == 3


def test_a_subject_of_another_encoding_is_rejected(made, server):
    """The subject's own kind of schema is named."""
    made().register(SUBJECT, Reading, "json")
    server.holds("other", "x", "PROTOBUF")
    with pytest.raises(SchemaRefused, match="has JSON schemas and this one is AVRO"):
        made().register(SUBJECT, Reading, "avro")
    with pytest.raises(SchemaRefused, match="has PROTOBUF schemas"):
        made().register("other", Reading, "json")


def test_avro_is_sent_under_exactly_its_schema(made):
    """Fields in another order are other bytes, and another id; JSON's are the same."""
    made().register(SUBJECT, Reading, "avro")
    assert made().register(SUBJECT, Reordered, "avro") == 2
    made().register("json", Reading, "json")
    before = made().check_subject("json", Reading, "json")
    assert made().check_subject("json", Reordered, "json") == before


def test_an_open_schema_is_accepted_for_the_same_record(made, server):
    """Another author's subject is not changed while the record's fields are the same."""
    schema_id = server.holds(SUBJECT, json_schema(Reading) | {"additionalProperties": True}, "JSON")
    server.refuses_new = True
    assert made().register(SUBJECT, Reading, "json") == schema_id
    assert made().check_subject(SUBJECT, Reading, "json") == SubjectStatus(schema_id, 1, [])


@pytest.mark.parametrize(("kind", "wire_format"), [("JSON", "json"), ("AVRO", "avro")])
def test_a_writer_schema_is_requested_once(made, server, kind, wire_format):
    """An id never changes its meaning, so it is looked up once, and stays known while the registry is unavailable."""
    server.holds(SUBJECT, {"type": "object"}, kind)
    schemas = made()
    expected = WriterSchema(wire_format, {"type": "object"} if wire_format == "avro" else None)
    assert schemas.writer(1) == expected
    server.answer = httpx2.ConnectError("refused")
    assert schemas.writer(1) == expected
    assert server.asked == ["GET schemas/ids/1"]


def test_a_schema_registered_later_is_found(made, server):
    """A running job requests the newer schema that a record names."""
    schemas = made()
    server.holds(SUBJECT, avro_schema(Reading), "AVRO")
    schemas.writer(1)
    server.holds(SUBJECT, avro_schema(Wider), "AVRO")
    assert schemas.writer(2).schema == avro_schema(Wider)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("PROTOBUF", 'syntax = "proto3";', "PROTOBUF, neither"),
        ("AVRO", "no json", "cannot be read"),
        ("AVRO", '{"type": "array", "items": ' * 100_000 + '"int"' + "}" * 100_000, "cannot be read"),
        ("AVRO", '["int", ' * 1000 + '"int"' + "]" * 1000, "cannot be read"),
        ("AVRO", "1" * 5000, "cannot be read"),
        ("AVRO", json.dumps("x" * registry.MAX_SCHEMA_CHARACTERS), "more than 1,000,000 characters"),
    ],
    ids=lambda value: value[:20],
)
def test_an_unreadable_schema_counts_as_unknown(made, server, kind, text, message):
    """The record is dead-lettered, and the job continues."""
    server.schemas.append({"schema": text, "schemaType": kind})
    with pytest.raises(SchemaUnknown, match=f"schema 1.*{message}"):
        made().writer(1)


@pytest.mark.parametrize("text", ["no json", '{"not": ' * 5000 + "true" + "}" * 5000])
def test_a_json_schema_is_not_parsed(made, server, text):
    """It is not used for reading: a JSON value is JSON, whatever its schema is."""
    server.schemas.append({"schema": text, "schemaType": "JSON"})
    assert made().writer(1) == WriterSchema("json")


@pytest.mark.parametrize(("wire_format", "kind"), [("json", "JSON"), ("avro", "AVRO")])
@pytest.mark.parametrize(
    "text",
    [
        "no json",
        '{"not": ' * 5000 + "true" + "}" * 5000,
        '{"type": "record", "name": "R", "fields": [5]}',
        '{"type": "record"}',
        '{"properties": [1]}',
    ],
    ids=lambda text: text[:20],
)
def test_a_subject_whose_latest_schema_is_unreadable_is_rejected(made, server, wire_format, kind, text):
    """A run ends with the subject and the version, and what to do; nothing is registered."""
    server.schemas.append({"schema": text, "schemaType": kind})
    server.subjects[SUBJECT] = [1]
    with pytest.raises(SchemaRefused, match=f"the schema of {SUBJECT} version 1 cannot be read") as failed:
        made().register(SUBJECT, Reading, wire_format)
    assert failed.value.hint == "delete that version in the registry, then ./penstock schema plan"
    assert len(server.schemas) == 1


def test_an_id_that_no_registry_assigns_is_not_requested(made, server):
    """A header can contain larger numbers than a registry accepts."""
    with pytest.raises(SchemaUnknown, match="4294967295"):
        made().writer(2**32 - 1)
    assert server.asked == []


def test_an_unknown_id_is_requested_again_after_a_second(made, server, clock):
    """Many records with one unknown id cause one request; and the id does not stay unknown."""
    schemas = made()
    for _ in range(100):
        with pytest.raises(SchemaUnknown, match=r"looking up schema 1 at http.*not found"):
            schemas.writer(1)
    assert len(server.asked) == 1
    server.holds(SUBJECT, avro_schema(Reading), "AVRO")
    clock.sleep(1.1)
    assert schemas.writer(1).wire_format == "avro"


HTML = "<html>Welcome</html>"
NOT_THE_REGISTRYS = {
    "refused": httpx2.ConnectError("refused"),
    "late": httpx2.ReadTimeout("late"),
    "cut": httpx2.RemoteProtocolError("cut"),
    "500": says(500, 50001),
    "503": says(503, 503),
    "502 page": httpx2.Response(502, text=HTML),
    "429": says(429, 429),
    "401": says(401, 401),
    "403": says(403, 403),
    "403 page": httpx2.Response(403, text=HTML),
    "404 page": httpx2.Response(404, text=HTML),
    "404 of a proxy": httpx2.Response(404, json={"message": "no route", "status": 404}),
    "404 of another kind": says(404, 404, "HTTP 404 Not Found"),
    "404 of a subject": says(404, 40401),
    "404 of text": says(404, "40403"),
    "404 list": httpx2.Response(404, json=[]),
    "400": says(400, 40403),
    "200 page": httpx2.Response(200, text=HTML),
    "200 nothing": httpx2.Response(200),
    "200 list": httpx2.Response(200, json=[1]),
    "200 other": httpx2.Response(200, json={"status": "ok"}),
    "200 number": httpx2.Response(200, json={"schema": 3, "schemaType": "AVRO"}),
    "301": httpx2.Response(301, headers={"Location": "http://elsewhere/"}),
}


@pytest.mark.parametrize("case", NOT_THE_REGISTRYS)
def test_with_any_other_response_the_registry_is_unavailable(made, server, case, clock):
    """Only the registry's own 40403 makes a record's schema unknown; and once it is back, it is asked again."""
    server.holds(SUBJECT, avro_schema(Reading), "AVRO")
    schemas = made()
    server.answer = NOT_THE_REGISTRYS[case]
    with pytest.raises(RegistryUnreachable, match=r"looking up schema 1 at http://127\.0\.0\.1:8081") as failed:
        schemas.writer(1)
    assert "PENSTOCK_REGISTRY" in failed.value.hint
    server.answer = None
    assert schemas.writer(1).wire_format == "avro"


@pytest.mark.parametrize("case", sorted(set(NOT_THE_REGISTRYS) - {"404 of a subject"}))
def test_nothing_is_registered_without_the_registrys_own_response(made, server, case, clock):
    """A subject is only new if the registry itself says so; otherwise the run fails before anything is sent."""
    made_registry = made()
    server.answer = NOT_THE_REGISTRYS[case]
    with pytest.raises(RegistryUnreachable, match=f"looking up {SUBJECT}"):
        made_registry.register(SUBJECT, Reading, "avro")
    assert not any(asked.startswith("POST") for asked in server.asked)


def test_an_unavailable_registry_is_retried(made, server, clock, monkeypatch):
    """With back-off, within the configured time; the last error is raised."""
    monkeypatch.setattr(stamina, "is_testing", lambda: False)
    server.answer = says(503, 503)
    began = time.monotonic()
    with pytest.raises(RegistryUnreachable):
        made().writer(1)
    assert 2 <= len(server.asked) <= registry._ATTEMPTS
    assert len(clock.slept_s) == len(server.asked) - 1
    assert time.monotonic() - began <= read().registry_timeout_s


def test_a_registry_that_recovers_is_not_noticed(made, server):
    """A request that fails once is retried."""
    server.holds(SUBJECT, avro_schema(Reading), "AVRO")
    answers = iter([httpx2.ConnectError("refused"), None])
    real = server._answer
    server._answer = lambda *words: _raised(next(answers)) or real(*words)
    assert made().writer(1).schema == msgspec.json.decode(server.schemas[0]["schema"])
    assert len(server.asked) == 2


def _raised(error):
    if error:
        raise error
