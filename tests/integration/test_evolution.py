"""A record that changes, in the real registry, topic and table."""

from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec
import pytest
from cassandra.util import Date
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
from penstock.contract.record import KEY, Alias, Record
from penstock.contract.table import build_table
from penstock.errors import SchemaRefused
from penstock.pipeline import ingest
from penstock.pipelines import Pipeline, users
from penstock.produce.send import Sender
from penstock.sink import cassandra
from penstock.sink.rows import RowWriter
from tests.conftest import Stack

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GAINS_A_FIELD = """
from typing import Annotated
from msgspec import Meta

class User(users.User, frozen=True, kw_only=True):
    __doc__ = users.User.__doc__
    age: Annotated[int, Meta(ge=0, le=150)] | None = None
"""
MUST_HAVE_IT = GAINS_A_FIELD.replace(" | None = None", "")
_PERSON = """
from datetime import date
from typing import Annotated
from uuid import UUID
from msgspec import Meta
from penstock.contract.record import KEY, Alias, Record

class User(Record, frozen=True, kw_only=True):
    "A person."
    id: Annotated[UUID, Meta(extra=KEY)]
    nick: str | None = None
"""
BEFORE = f"""{_PERSON}
    dob: date
    visits: Annotated[int, Meta(ge=0, le=1000)]
    fax: str | None = None
"""
AFTER = f"""{_PERSON}
    born: Annotated[date, Alias("dob")]
    visits: Annotated[int, Meta(ge=0, le=1000)] | None = None
    age: Annotated[int, Meta(ge=0, le=150)] | None = None
"""
FORMATS: list[WireFormat] = ["json", "avro"]


class World:
    """The users pipeline with its own topic, subject and table, at one version of its record."""

    def __init__(self, stack: Stack, wire_format: WireFormat, file: Path) -> None:
        self._stack, self.file = stack, file
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
            return dict(cassandra.table_of(session, self.settings, self.pipeline).columns)

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
        problems = cassandra.find_table_problems(session, version.settings, version.pipeline)
    assert any("column `phone` is int, the record needs text" in problem for problem in problems)
    assert any("column `first_name` text is new" in problem for problem in problems)
    assert not any("column `id`" in problem for problem in problems)
    kinds = {(column["field"], column["kind"]) for column in version.plan()["columns"] if not column["allowed"]}
    assert kinds == {("phone", "type_changed"), ("id", "key_changed")}
    assert version.schema("apply", "--yes").returncode == 1
    assert version.columns() == {"phone": "int", "id": "uuid"}


@pytest.mark.parametrize("wire_format", FORMATS)
def test_fields_are_renamed_made_optional_removed_and_added_at_once(
    world: Callable[..., World], wire_format: WireFormat
) -> None:
    """The registry accepts the schema, the table gains two columns and keeps all others, and each version finds its
    schema again.
    """
    old, new = world(wire_format, BEFORE), world(wire_format, AFTER)
    old.apply()
    plan = new.plan()
    assert [(item["field"], item["kind"], item["allowed"]) for item in plan["schema"]] == [
        ("born", "field_renamed", True),
        ("visits", "now_optional", True),
        ("age", "added_optional", True),
        ("fax", "removed_optional", True),
    ]
    adds = [f"ALTER TABLE {plan['table']} ADD {column}" for column in ("born date", "age int")]
    assert (plan["refused"], plan["statements"], plan["left_alone"]) == (0, adds, ["dob date", "fax text"])
    assert new.apply()[:2] == adds
    assert new.columns().keys() >= {"dob", "fax", "born", "age"}
    assert new.apply() == ["nothing to do"]
    ids = [version.register() for version in (old, new, old, new)]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    assert old.plan()["nothing_to_do"] is True


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_required_field_is_not_renamed_without_its_name(world: Callable[..., World], wire_format: WireFormat) -> None:
    """Without an Alias it is one field less and one more, both refused with what to write."""
    world(wire_format, BEFORE).apply()
    plan = world(wire_format, BEFORE.replace("dob", "born")).plan()
    assert [(item["field"], item["kind"]) for item in plan["schema"] if not item["allowed"]] == [
        ("born", "added_required"),
        ("dob", "removed"),
    ]
    assert "make it `date | None = None`" in plan["schema"][0]["why"]


def test_old_and_new_records_are_stored_in_one_batch(world: Callable[..., World], spark: "SparkSession") -> None:
    """JSON with and without a header and Avro of both versions, read by the new one: older rows get the new column by
    that replay, the former column stays, and a record with both names is a dead letter.
    """
    from tests.integration.streaming import Topic

    old, new = world("json", BEFORE), world("json", AFTER)
    old.apply()
    topic = Topic(old.settings, old.file, spark)
    older = [old.pipeline.record(id=UUID(int=at), dob=date(2000, 1, at), visits=at, fax="1") for at in (1, 2, 3)]
    topic.send(*(write(record) for write, record in zip(_writers(old), older, strict=True)))
    assert topic.store().stored == 3
    assert {row["dob"] for row in topic.rows().values()} == {Date(date(2000, 1, at)) for at in (1, 2, 3)}

    new.apply()
    topic = Topic(new.settings, new.file, spark)
    newer = [new.pipeline.record(id=UUID(int=at), born=date(2000, 1, at), visits=None, age=at) for at in (4, 5, 6)]
    both = {"id": str(UUID(int=7)), "dob": "2000-01-07", "born": "2000-01-07", "visits": 1}
    topic.send(*(write(record) for write, record in zip(_writers(new), newer, strict=True)), msgspec.json.encode(both))
    summary = topic.store()
    assert (summary.stored, summary.rejected) == (6, 1)
    rows = {row["id"].int: row for row in topic.rows().values()}
    assert {at: row["born"] for at, row in rows.items()} == {at: Date(date(2000, 1, at)) for at in range(1, 7)}
    assert [(rows[at]["dob"], rows[at]["fax"], rows[at]["visits"], rows[at]["age"]) for at in (1, 4)] == [
        (Date(date(2000, 1, 1)), "1", 1, None),
        (None, None, None, 4),
    ]
    (dead_letter,) = topic.dead_letters()
    assert "born: occurs twice: as dob and as born" in str(dead_letter.headers())


def _writers(version: World) -> list[Callable[[Any], bytes]]:
    """Functions that write a record of a version: without a header, and in both encodings with one."""
    record = version.pipeline.record
    framed = build_serializer(record, "json", version.register())
    return [lambda item: framed(item)[5:], framed, build_serializer(record, "avro", _avro_id(version))]


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


Name = Annotated[str, Meta(min_length=1, max_length=50, pattern="^a")]


class Base(Record, frozen=True, kw_only=True):
    """A record."""

    id: Annotated[UUID, Meta(extra=KEY)]
    name: Name
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
    "optional gone": (ChangeKind.REMOVED_OPTIONAL, changed("maybe", None)),
    "required gone": (ChangeKind.REMOVED, changed("number", None)),
    "another name": (ChangeKind.ALIAS_ADDED, changed("name", Annotated[Name, Alias("title")])),
    "int to text": (ChangeKind.TYPE_CHANGED, changed("number", str)),
    "int to bigint": (ChangeKind.WIDENED, changed("number", Annotated[int, Meta(ge=-1, le=2**40)])),
    "int to float": (ChangeKind.WIDENED, changed("number", float)),
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
    "a number no longer required": (
        ChangeKind.NOW_OPTIONAL,
        changed("number", Annotated[int, Meta(ge=0, le=100)] | None, default=None),
    ),
    "a text no longer required": (
        ChangeKind.NOW_OPTIONAL,
        changed("name", Annotated[str, Meta(min_length=1, max_length=50, pattern="^a")] | None, default=None),
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
    ("json", ChangeKind.REMOVED),
    ("avro", ChangeKind.REMOVED),
}
"""What the registry takes, some of it at least, and we refuse: older records are not read, or a job needs a field."""


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
