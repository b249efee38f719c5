"""A record that gains a field, in the real registry, topic and table."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from penstock import pipelines
from penstock.broker import registry, topics
from penstock.broker.kafka import create_producer
from penstock.broker.registry import Registry, WireFormat, schema_of
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.config import Settings
from penstock.contract.batch import Decoded
from penstock.contract.evolution import ChangeKind, compare_schemas, list_refused
from penstock.contract.record import KEY, Int64, Record
from penstock.contract.table import build_table
from penstock.errors import SchemaRefused
from penstock.pipeline import ingest
from penstock.pipelines import Pipeline, users
from penstock.produce.send import Sender
from penstock.sink import cassandra
from penstock.sink.rows import RowWriter
from tests.conftest import Stack

GAINS_A_FIELD = """
from typing import Annotated
from msgspec import Meta

class User(users.User, frozen=True, kw_only=True):
    __doc__ = users.User.__doc__
    age: Annotated[int, Meta(ge=0, le=150)] | None = None
"""
MUST_HAVE_IT = GAINS_A_FIELD.replace(" | None = None", "")
FORMATS: list[WireFormat] = ["json", "avro"]


class World:
    """The users pipeline with its own topic, subject and table, at one version of its record."""

    def __init__(self, stack: Stack, wire_format: WireFormat, file: Path) -> None:
        self._stack = stack
        self._environment = {"PENSTOCK_PIPELINE": str(file), "PENSTOCK_WIRE_FORMAT": wire_format}
        self.settings = stack.settings.model_copy(update={"pipeline": str(file), "wire_format": wire_format})

    @property
    def pipeline(self) -> Pipeline:
        return pipelines.of(self.settings)

    def plan(self) -> dict[str, Any]:
        done = self._stack.cli("schema", "plan", "--json", **self._environment)
        result: dict[str, Any] = msgspec.json.decode(done.stdout)
        assert done.returncode == (1 if result["refused"] else 0), done.stderr
        return result

    def schema(self, *words: str) -> Any:
        return self._stack.cli("schema", *words, **self._environment)

    def apply(self) -> list[str]:
        done = self.schema("apply", "--yes")
        assert done.returncode == 0, done.stderr
        return list(done.stdout.splitlines())

    def columns(self) -> dict[str, str]:
        with cassandra.open_session(self.settings) as session:
            return cassandra.table_of(session, self.settings, self.pipeline).columns

    def register(self) -> int:
        return Registry(self.settings).register(self.pipeline.subject, self.pipeline.record, self.settings.wire_format)


@pytest.fixture
def world(stack: Stack, tmp_path: Path, unique: str) -> Callable[..., World]:
    """Return a factory of versions; `before` is the initial content of the pipeline file, with `User` as the record."""
    versions: Iterator[int] = iter(range(100))

    def make(wire_format: WireFormat, before: str = "User = users.User") -> World:
        path = tmp_path / f"{unique}_{next(versions)}.py"
        path.write_text(
            "from dataclasses import replace\n"
            "from penstock.pipelines import users\n"
            f"{before}\n"
            f"PIPELINE = replace(users.PIPELINE, topic={unique!r}, keyspace={unique!r}, table='users', record=User)\n"
        )
        return World(stack, wire_format, path)

    return make


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_plan_is_applied_once(world: Callable[..., World], wire_format: WireFormat) -> None:
    """At first everything is created; another field adds a version and a column; then nothing is left to do."""
    old = world(wire_format)
    plan = old.plan()
    assert (plan["version"], plan["is_registered"]) == (None, False)
    assert [line.split()[0] for line in old.apply() if line[:1].isalpha()] == ["CREATE", "CREATE", "registered"]

    new = world(wire_format, GAINS_A_FIELD)
    plan = new.plan()
    assert [(item["field"], item["kind"]) for item in plan["schema"]] == [("age", "added_optional")]
    assert plan["statements"] == [f"ALTER TABLE {plan['table']} ADD age int"]
    assert new.apply()[0] == plan["statements"][0]
    assert new.columns()["age"] == "int"
    assert new.apply() == ["nothing to do"]
    plan = old.plan()
    assert (plan["nothing_to_do"], plan["left_alone"]) == (True, ["age int"])


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_rejected_plan_changes_nothing(world: Callable[..., World], wire_format: WireFormat) -> None:
    """A required field is rejected with a way out; no column is added, and no run sends anything."""
    world(wire_format).apply()
    wrong = world(wire_format, MUST_HAVE_IT)
    before = wrong.columns()
    plan = wrong.plan()
    assert plan["refused"] == 1
    assert plan["schema"][0]["why"].endswith("make it `int | None = None`")
    done = wrong.schema("apply", "--yes")
    assert done.returncode == 1
    assert "added_required: `age`" in done.stderr
    assert wrong.columns() == before
    with pytest.raises(SchemaRefused, match="added_required: `age`"):
        ingest.run(wrong.settings, wrong.pipeline, ingest.RunOrder("run", 10))
    assert [span.records for span in topics.fetch_offset_ranges(wrong.settings, wrong.pipeline.topic)] == [0, 0, 0, 0]


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_column_of_another_type_is_rejected(world: Callable[..., World], wire_format: WireFormat) -> None:
    """A table that somebody else created is compared with what a row needs, and not changed."""
    version = world(wire_format)
    with cassandra.open_session(version.settings) as session:
        cassandra.create_keyspace(session, version.settings, version.pipeline)
        session.execute(f"CREATE TABLE {version.pipeline.keyspace}.users (phone int PRIMARY KEY, id uuid)")
        lacking = cassandra.find_missing_columns(session, version.settings, version.pipeline)
    assert "phone text" in lacking
    assert "first_name text" in lacking
    assert "id uuid" not in lacking
    kinds = {(column["field"], column["kind"]) for column in version.plan()["columns"] if not column["allowed"]}
    assert kinds == {("phone", "type_changed"), ("id", "key_changed")}
    assert version.schema("apply", "--yes").returncode == 1
    assert version.columns() == {"phone": "int", "id": "uuid"}


def test_old_and_new_records_are_read_by_old_and_new_decoders(
    world: Callable[..., World], captured: list[dict[str, Any]]
) -> None:
    """JSON and Avro, with and without the field, in one topic: both decoders read all of them, and after `apply` all
    are stored.
    """
    old, new = world("json"), world("json", GAINS_A_FIELD)
    old.apply()
    old_decoder = Decoder(old.pipeline.record, Registry(old.settings))
    ids = {("old", "json"): old.register(), ("old", "avro"): _avro_id(old)}
    new.apply()
    ids |= {("new", "json"): new.register(), ("new", "avro"): _avro_id(new)}
    assert len(set(ids.values())) == 4
    topics.ensure_pipeline_topics(old.settings, old.pipeline)
    aged = _send(new, old, ids, captured)

    values = [
        bytes(record.value())
        for record in topics.read_records(
            new.settings, new.pipeline.topic, topics.fetch_offset_ranges(new.settings, new.pipeline.topic)
        )
    ]
    read = [Decoder(new.pipeline.record, Registry(new.settings)).decode(value) for value in values]
    assert {str(item.id): item.age for item in read} == aged  # type: ignore[union-attr]
    passed_over = [old_decoder.decode(value) for value in values]
    assert all(type(item) is old.pipeline.record for item in passed_over)
    assert {str(item.id) for item in passed_over} == aged.keys()  # type: ignore[union-attr]

    with cassandra.open_session(new.settings) as session:
        writer = RowWriter(
            session, build_table(new.pipeline.keyspace, "users", new.pipeline.stored), epoch_us=1, concurrency=8
        )
        writer.write(Decoded([(item, 1, 0, at) for at, item in enumerate(read)]))  # type: ignore[misc]
        rows = {
            str(row["id"]): row["age"] for row in session.execute(f"SELECT id, age FROM {new.pipeline.keyspace}.users")
        }
        assert rows == aged
        writer = RowWriter(
            session, build_table(old.pipeline.keyspace, "users", old.pipeline.stored), epoch_us=9, concurrency=8
        )
        writer.write(Decoded([(item, 1, 0, at) for at, item in enumerate(passed_over)]))  # type: ignore[misc]
        rows = {
            str(row["id"]): row["age"] for row in session.execute(f"SELECT id, age FROM {new.pipeline.keyspace}.users")
        }
        assert rows == aged


def _avro_id(world: World) -> int:
    return Registry(world.settings).register(f"{world.pipeline.topic}-avro", world.pipeline.record, "avro")


def _send(
    new: World, old: World, ids: dict[tuple[str, str], int], captured: list[dict[str, Any]]
) -> dict[str, int | None]:
    """Send each captured user in one of four formats; return the age that each id was sent with."""
    aged: dict[str, int | None] = {}
    with Sender(create_producer(new.settings), new.pipeline.topic, 30) as sender:
        for number, entry in enumerate(captured):
            version, wire_format = list(ids)[number % 4]
            result = users.from_source(entry) | ({"age": number} if version == "new" else {})
            record = (new if version == "new" else old).pipeline.record
            serialize = build_serializer(record, wire_format, ids[version, wire_format])  # type: ignore[arg-type]
            sender.send(result["id"].encode(), serialize(msgspec.convert(result, record)), [])
            aged[result["id"]] = number if version == "new" else None
    return aged


class Base(Record, frozen=True, kw_only=True):
    """A record."""

    id: Annotated[UUID, Meta(extra=KEY)]
    name: Annotated[str, Meta(min_length=1, max_length=50, pattern="^a")]
    number: Annotated[int, Meta(ge=0, le=100)]
    maybe: str | None = None


def changed(name: str, hint: Any, **default: Any) -> type[Record]:
    """The record with a field of another type, or one more field; with hint None, without the field."""
    hints = {**Base.__annotations__, name: hint}
    fields = [
        (field, kind, None) if field == "maybe" and field != name else (field, kind) for field, kind in hints.items()
    ]
    given = [
        (field, hints[field], default["default"]) if field == name and default else item
        for item, field in zip(fields, hints, strict=True)
        if hints[field] is not None
    ]
    return msgspec.defstruct(
        "Base", given, bases=(Record,), frozen=True, kw_only=True, namespace={"__doc__": Base.__doc__}
    )


CASES: dict[str, tuple[ChangeKind, type[Record]]] = {
    "optional more": (
        ChangeKind.ADDED_OPTIONAL,
        changed("more", Annotated[datetime, Meta(tz=True)] | None, default=None),
    ),
    "required more": (ChangeKind.ADDED_REQUIRED, changed("more", str)),
    "optional gone": (ChangeKind.REMOVED, changed("maybe", None)),
    "required gone": (ChangeKind.REMOVED, changed("number", None)),
    "int to text": (ChangeKind.TYPE_CHANGED, changed("number", str)),
    "int to bigint": (ChangeKind.TYPE_CHANGED, changed("number", Int64)),
    "text to uuid": (ChangeKind.TYPE_CHANGED, changed("name", UUID)),
    "shorter": (
        ChangeKind.RULE_TIGHTENED,
        changed("name", Annotated[str, Meta(min_length=1, max_length=40, pattern="^a")]),
    ),
    "longer": (
        ChangeKind.RULE_LOOSENED,
        changed("name", Annotated[str, Meta(min_length=1, max_length=60, pattern="^a")]),
    ),
    "another pattern": (
        ChangeKind.RULE_TIGHTENED,
        changed("name", Annotated[str, Meta(min_length=1, max_length=50, pattern="^b")]),
    ),
    "no pattern": (ChangeKind.RULE_LOOSENED, changed("name", Annotated[str, Meta(min_length=1, max_length=50)])),
    "smaller range": (ChangeKind.RULE_TIGHTENED, changed("number", Annotated[int, Meta(ge=1, le=100)])),
    "larger range": (ChangeKind.RULE_LOOSENED, changed("number", Annotated[int, Meta(ge=0, le=1000)])),
    "no longer required": (
        ChangeKind.NOW_OPTIONAL,
        changed("number", Annotated[int, Meta(ge=0, le=100)] | None, default=None),
    ),
    "no longer optional": (ChangeKind.NOW_REQUIRED, changed("maybe", str)),
    "described": (
        ChangeKind.DESCRIBED,
        changed("number", Annotated[int, Meta(ge=0, le=100, description="How many.")]),
    ),
}
TAKEN_ALL_THE_SAME = {
    ("json", ChangeKind.TYPE_CHANGED),
    ("avro", ChangeKind.TYPE_CHANGED),
    ("avro", ChangeKind.REMOVED),
    ("avro", ChangeKind.NOW_OPTIONAL),
}
"""What the registry takes, some of it at least, and we refuse: a column keeps its type, a job its fields."""


@pytest.mark.parametrize("wire_format", FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_the_registry_accepts_what_we_allow(
    settings: Settings, unique: str, wire_format: WireFormat, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of change is detected; the registry accepts what we allow and, with few exceptions, rejects what we
    reject.
    """
    kind, record = CASES[case]
    changes = compare_schemas(schema_of(Base, wire_format), schema_of(record, wire_format))
    has_rules = wire_format == "json" or kind not in (ChangeKind.RULE_TIGHTENED, ChangeKind.RULE_LOOSENED)
    assert [change.kind for change in changes] == ([kind] if has_rules else [])
    client = Registry(settings)
    client.register(f"{unique}-value", Base, wire_format)
    is_refused = bool(list_refused(changes))
    monkeypatch.setattr(registry, "list_refused", lambda _: [])
    try:
        client.register(f"{unique}-value", record, wire_format)
    except SchemaRefused:
        assert is_refused
    else:
        assert not is_refused or (wire_format, kind) in TAKEN_ALL_THE_SAME
