import json
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import pytest
from typer.testing import CliRunner

from penstock import pipelines
from penstock.broker import registry
from penstock.broker.registry import SubjectStatus
from penstock.cli import app, schema
from penstock.contract.evolution import Change, ChangeKind
from penstock.contract.fields import fields
from penstock.contract.record import Alias
from penstock.errors import CassandraUnreachable, PenstockError, RegistryUnreachable, SchemaRefused
from penstock.pipelines.users import PIPELINE, User
from penstock.sink import cassandra
from tests.unit.fakes import FakeSession

NAMES = [f"users_created.{suffix}" for suffix in ("json", "avsc", "ddl", "cql")]


@pytest.fixture
def root(monkeypatch, tmp_path):
    """A separate project without schemas."""
    monkeypatch.setattr(schema, "REPOSITORY", tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["schema", "render", *words])


def test_render_writes_each_schema_once(root):
    """`render` writes the four files, and writes nothing if they are up to date."""
    assert run().stdout.splitlines() == [f"wrote schemas/{name}" for name in NAMES]
    assert sorted(path.name for path in (root / "schemas").iterdir()) == sorted(NAMES)
    assert run().stdout == ""


def test_check_writes_nothing(root):
    """`--check` names stale files without writing, and passes once they are up to date."""
    failed = run("--check").exception
    assert isinstance(failed, PenstockError)
    assert all(name in failed.message for name in NAMES)
    assert failed.hint == "./penstock schema render"
    assert not (root / "schemas").exists()
    run()
    assert run("--check").exit_code == 0


def test_one_stale_file_is_named_alone(root):
    """Only stale files are named."""
    run()
    (root / "schemas" / NAMES[3]).write_text("DROP TABLE")
    assert run("--check").exception.message == f"stale in schemas/: {NAMES[3]}"


def test_renderings_contain_every_field(root):
    """Each rendering contains every field of the record."""
    texts = {path.suffix: text for path, text in schema.render_files().items()}
    names = [field.name for field in fields(User)]
    assert list(json.loads(texts[".json"])["properties"]) == names
    assert [item["name"] for item in json.loads(texts[".avsc"])["fields"]] == names
    assert [line.split()[0] for line in texts[".ddl"].splitlines()] == names
    assert texts[".cql"].count(";") == 2
    assert all(f"  {name} " in texts[".cql"] for name in names)


OPTIONAL = Change.of("age", ChangeKind.ADDED_OPTIONAL, "`age` (int) is new; older records do not have it")
REQUIRED = Change.of("age", ChangeKind.ADDED_REQUIRED, "`age` is required")
COLUMNS = PIPELINE.build_table("ks").columns
TABLE = "spark_streams.created_users"
ADDS_PHONE = f"ALTER TABLE {TABLE} ADD phone text"
RESTART = "./penstock restart spark-job before the next run, because a running job reads with the older record"


class World:
    """Registry and table, with a record of all changes in order."""

    def __init__(self) -> None:
        self.standing, self.done = SubjectStatus(7, 1, []), []
        self.columns, self.key = dict(COLUMNS), "id"
        self.away, self.ttl_s = None, 0

    def session(self, _settings):
        session = FakeSession(self._answer)
        return session

    def _answer(self, query, values):
        if "system_schema" not in query:
            self.done.append(query)
            return []
        assert values == ("spark_streams", "created_users")
        if "default_time_to_live" in query:
            return [{"ttl_s": self.ttl_s, "altered_us": 1}] if self.columns else []
        if "system_schema.columns" not in query:
            return []
        kinds = {self.key: ("partition_key", 0)}
        names = ("column_name", "type", "clustering_order", "kind", "position")
        return [
            dict(zip(names, (name, kind, "none", *kinds.get(name, ("regular", -1))), strict=True))
            for name, kind in self.columns.items()
        ]


class FakeRegistry:
    """The registry of a world."""

    def __init__(self, world) -> None:
        self._world = world

    def check_subject(self, subject, record, wire_format):
        assert (subject, record, wire_format) == ("users_created-value", User, "json")
        if self._world.away:
            raise self._world.away
        return self._world.standing

    def register(self, subject, record, wire_format):
        self._world.done.append(f"register {subject}")
        return 8


@pytest.fixture
def world(monkeypatch):
    """Fake both services."""
    world = World()
    monkeypatch.setattr(cassandra, "connect", world.session)
    monkeypatch.setattr(registry, "Registry", lambda _settings: FakeRegistry(world))
    return world


def call(*words, **more):
    return CliRunner().invoke(app, ["schema", *words], **more)


def planned():
    return json.loads(call("plan", "--json").stdout)


def test_the_fake_registry_has_the_calls_of_the_real_one():
    """The fake registry has the methods of the real one."""
    assert all(hasattr(registry.Registry, name) for name in vars(FakeRegistry) if not name.startswith("_"))


def test_an_empty_plan_says_so(world):
    """If registry and table match the record, plan says so, and apply changes nothing."""
    result = call("plan")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "subject users_created-value: the schema is registered",
        f"table {TABLE}",
        "nothing to do",
    ]
    assert planned()["nothing_to_do"] is True
    assert call("apply").stdout == "nothing to do\n"
    assert world.done == []


def test_a_plan_names_every_change(world):
    """The plan lists the registration, its changes, each statement and unmanaged columns."""
    world.standing = SubjectStatus(None, 1, [OPTIONAL])
    del world.columns["phone"]
    world.columns["fax"] = "text"
    result = call("plan")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "subject users_created-value: the latest version is 1; the next will be registered",
        "  added_optional: `age` (int) is new; older records do not have it",
        f"table {TABLE}",
        "  added_optional: column `phone` text is new; null in existing rows",
        f"  {ADDS_PHONE}",
        "  unmanaged column: fax text",
        f"after that: {RESTART}",
    ]
    assert world.done == []


def test_a_plan_as_json_is_complete(world):
    """The JSON plan contains the same, with a verdict on each change."""
    world.standing = SubjectStatus(None, 1, [OPTIONAL])
    del world.columns["phone"]
    result = planned()
    assert result["schema"] == [
        {
            "field": "age",
            "kind": "added_optional",
            "allowed": True,
            "why": "`age` (int) is new; older records do not have it",
        }
    ]
    assert (result["subject"], result["version"], result["is_registered"]) == ("users_created-value", 1, False)
    assert (result["table"], result["statements"], result["left_alone"]) == (TABLE, [ADDS_PHONE], [])
    assert [column["field"] for column in result["columns"]] == ["phone"]
    assert (result["refused"], result["nothing_to_do"]) == (0, False)


def test_missing_tables_and_subjects_are_planned(world):
    """The first plan creates keyspace, table and subject."""
    world.standing, world.columns = SubjectStatus(None, None, []), {}
    lines = call("plan").stdout.splitlines()
    assert lines[0] == "subject users_created-value: does not exist yet; version 1 will be registered"
    assert lines[2].startswith("  CREATE KEYSPACE IF NOT EXISTS spark_streams")
    assert call("apply", "--yes").exit_code == 0
    assert [item.split("(")[0].split(" WITH")[0] for item in world.done] == [
        "CREATE KEYSPACE IF NOT EXISTS spark_streams",
        f"CREATE TABLE IF NOT EXISTS {TABLE} ",
        "register users_created-value",
    ]


def test_columns_are_added_before_the_registration(world):
    """Columns are added before the registration, and each step is printed."""
    world.standing = SubjectStatus(None, 1, [OPTIONAL])
    del world.columns["phone"]
    result = call("apply", "--yes")
    assert world.done == [ADDS_PHONE, "register users_created-value"]
    assert result.stdout.splitlines() == [ADDS_PHONE, "registered users_created-value: schema 8"]
    assert "./penstock restart spark-job" in result.stderr


def test_a_declared_ttl_is_planned_and_applied(world, monkeypatch):
    """The plan says what the table has and what is declared, and shows the statement that alters it."""
    monkeypatch.setattr(pipelines, "of", lambda _settings: replace(PIPELINE, ttl=timedelta(days=1)))
    lines = call("plan").stdout.splitlines()
    assert lines[1:4] == [
        f"table {TABLE}",
        "  ttl_changed: rows of the table do not expire, and the pipeline declares 86400 s; existing rows keep the TTL "
        "that they were written with",
        f"  ALTER TABLE {TABLE} WITH default_time_to_live = 86400",
    ]
    result = planned()
    assert ([change["kind"] for change in result["columns"]], result["refused"]) == (["ttl_changed"], 0)
    assert call("apply", "--yes").exit_code == 0
    assert world.done == [f"ALTER TABLE {TABLE} WITH default_time_to_live = 86400"]
    world.ttl_s = 86_400
    assert planned()["nothing_to_do"] is True


def test_a_ttl_that_is_not_declared_is_left_alone(world):
    """It is shown, with what to declare to manage it."""
    world.ttl_s = 3600
    lines = call("plan").stdout.splitlines()
    declared = "to manage it, declare ttl=timedelta(seconds=3600)"
    assert lines[-2:] == [f"  unmanaged default_time_to_live: 3600 s; {declared}", "nothing to do"]
    assert (planned()["unmanaged_ttl_s"], planned()["statements"]) == (3600, [])


def test_only_missing_parts_are_applied(world):
    """A registered schema is not registered again when a column is missing."""
    del world.columns["phone"]
    assert call("apply", "--yes").exit_code == 0
    assert world.done == [ADDS_PHONE]


def test_apply_asks_first(world):
    """Without --yes apply prints the plan and asks. Declining exits with 1 and changes nothing."""
    world.standing = SubjectStatus(None, 1, [OPTIONAL])
    refused = call("apply", input="n\n")
    assert refused.exit_code == 1
    assert "added_optional: `age`" in refused.stderr
    assert world.done == []
    assert call("apply", input="y\n").exit_code == 0
    assert world.done == ["register users_created-value"]


def test_one_rejected_change_rejects_the_plan(world):
    """With a rejected change, plan exits with 1, apply fails with the reason, and nothing is changed."""
    world.standing = SubjectStatus(None, 1, [OPTIONAL, REQUIRED])
    del world.columns["phone"]
    result = call("plan")
    assert result.exit_code == 1
    assert "  refused, added_required: `age` is required" in result.stdout.splitlines()
    assert planned()["refused"] == 1
    failed = call("apply", "--yes").exception
    assert isinstance(failed, SchemaRefused)
    assert str(REQUIRED) in failed.message
    assert str(OPTIONAL) not in failed.message
    assert (failed.changes, failed.exit_code, world.done) == ([REQUIRED], 1, [])


@pytest.mark.parametrize(
    ("columns", "key", "message"),
    [
        ({"phone": "int"}, "id", "`phone` is int, the record needs text"),
        ({}, "phone", "the key is `id`, but the table's"),
    ],
)
def test_a_table_that_cannot_be_altered_rejects_the_plan(world, columns, key, message):
    """A column of another type or another key is rejected, and nothing is registered."""
    world.standing = SubjectStatus(None, 1, [OPTIONAL])
    world.columns |= columns
    world.key = key
    assert message in call("plan").stdout
    assert isinstance(call("apply", "--yes").exception, SchemaRefused)
    assert world.done == []


class Person(User, frozen=True, kw_only=True):
    """A user whose first name had another name."""

    given_name: Annotated[str, Alias("first_name")]


def test_a_renamed_field_is_planned_with_its_replay(world, monkeypatch):
    """Its new column is null in older rows: the plan says what fills it, after the restart of the job."""
    renamed = replace(PIPELINE, record=User, row=Person)
    monkeypatch.setattr(pipelines, "of", lambda _: renamed)
    world.standing = SubjectStatus(None, 1, [OPTIONAL])
    lines = call("plan").stdout.splitlines()
    assert "until ./penstock replay fills it from the records that Kafka still has" in lines[3]
    assert lines[-2:] == [
        f"  ALTER TABLE {TABLE} ADD given_name text",
        f"after that: {RESTART}; then ./penstock replay",
    ]
    assert call("apply", "--yes").stderr.splitlines()[-1] == f"applied; next: {RESTART}; then ./penstock replay"


@pytest.mark.parametrize("command", ["plan", "apply"])
@pytest.mark.parametrize("away", [RegistryUnreachable("away"), CassandraUnreachable("away")], ids=repr)
def test_an_unavailable_service_prevents_a_plan(world, command, away):
    """If a service is unavailable, there is no plan."""
    world.away = away
    result = call(command)
    assert result.exception is away
    assert (result.stdout, world.done) == ("", [])
