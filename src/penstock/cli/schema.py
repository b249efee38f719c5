"""schema: the files under schemas/, rendered from the pipelines; what a record changes in registry and table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.text import print_json, talk
from penstock.stack.layout import REPOSITORY

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.contract.evolution import Change, Table
    from penstock.pipelines import Pipeline


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="The schemas of the pipeline's record, and what they change in registry and table.", no_args_is_help=True
    )
    for command in (render, plan, apply):
        group.command()(command)
    app.add_typer(group, name="schema")


def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file is stale.")] = False,
) -> None:
    """Write schemas/: JSON Schema, Avro schema, Spark DDL and CQL of the pipeline in force."""
    from penstock.errors import PenstockError

    stale = [path for path, text in renderings().items() if _differs(path, text)]
    if check and stale:
        names = ", ".join(path.name for path in stale)
        raise PenstockError(f"stale in schemas/: {names}", hint="./penstock schema render")
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(renderings()[path])
        typer.echo(f"wrote {path.relative_to(REPOSITORY)}")


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text() != text


def renderings() -> dict[Path, str]:
    """The text of each file under schemas/ that the pipeline in force has."""
    from penstock import config, pipelines
    from penstock.contract import cql, schemas

    settings = config.load()
    pipeline = pipelines.of(settings)
    keyspace = settings.cassandra_keyspace or pipeline.keyspace
    statements = (
        cql.create_keyspace(keyspace, settings.cassandra_replication),
        cql.create_table(keyspace, pipeline.table, pipeline.stored),
    )
    texts = {
        "json": json.dumps(schemas.json_schema(pipeline.record), indent=2),
        "avsc": json.dumps(schemas.avro_schema(pipeline.record), indent=2),
        "ddl": schemas.spark_ddl(pipeline.record).replace(", ", ",\n"),
        "cql": ";\n\n".join(statements) + ";",
    }
    return {REPOSITORY / "schemas" / f"{pipeline.topic}.{suffix}": text + "\n" for suffix, text in texts.items()}


@dataclass(frozen=True)
class Plan:
    """What the pipeline in force changes: `schema` in the registry, `columns` in the table."""

    subject: str
    version: int | None
    is_registered: bool
    schema: "list[Change]"
    table: str
    statements: list[str]
    columns: "list[Change]"
    left_alone: list[str]

    @property
    def refused(self) -> "list[Change]":
        """What cannot be done; then nothing is."""
        from penstock.contract import evolution

        return evolution.refused([*self.schema, *self.columns])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return self.is_registered and not self.statements and not self.refused

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return told | {"refused": len(self.refused), "nothing_to_do": self.is_empty}


def plan(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show what the record in force changes in the registry and in the table. Exit 1: a change is refused."""
    from penstock import config

    found = make_plan(config.load())
    if as_json:
        print_json(found.as_json())
    else:
        typer.echo("\n".join(told(found)))
    raise typer.Exit(1 if found.refused else 0)


def apply(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Carry out the plan: the table's columns first, then the registration. Asks first; only ever adds.

    When one change is refused, nothing is done.
    """
    from penstock import config
    from penstock.errors import SchemaRefused

    settings = config.load()
    found = make_plan(settings)
    if found.refused:
        lines = [f"{found.subject}, {found.table}: nothing was done", *(f"  {change}" for change in found.refused)]
        raise SchemaRefused("\n".join(lines), hint="./penstock schema plan", changes=found.refused)
    if found.is_empty:
        typer.echo("nothing to do")
        return
    if not yes:
        talk("\n".join(told(found)))
        typer.confirm("Carry this out?", abort=True, err=True)
    _carry_out(settings, found)
    talk("a job that runs knows the record as it was: ./penstock restart spark-job")


def make_plan(settings: "Settings") -> Plan:
    """What the pipeline in force changes. Raises `RegistryUnreachable`, `CassandraUnreachable`."""
    from penstock import pipelines
    from penstock.broker.registry import Registry
    from penstock.contract import evolution
    from penstock.sink import cassandra

    pipeline = pipelines.of(settings)
    standing = Registry(settings).standing(pipeline.subject, pipeline.record, settings.wire_format)
    with cassandra.connected(settings) as session:
        table = cassandra.table_of(session, settings, pipeline)
    return Plan(
        subject=pipeline.subject,
        version=standing.version,
        is_registered=standing.schema_id is not None,
        schema=standing.changes,
        table=f"{cassandra.keyspace_of(settings, pipeline)}.{pipeline.table}",
        statements=_statements(settings, pipeline, table),
        columns=evolution.compare_table(table, pipeline.stored),
        left_alone=evolution.left_alone(table, pipeline.stored),
    )


def _statements(settings: "Settings", pipeline: "Pipeline", table: "Table") -> list[str]:
    """The CQL that brings the table about: all of it when there is none, otherwise a column at a time."""
    from penstock.contract import cql, evolution
    from penstock.sink.cassandra import keyspace_of

    keyspace = keyspace_of(settings, pipeline)
    if not table.columns:
        make_keyspace = cql.create_keyspace(keyspace, settings.cassandra_replication)
        return [make_keyspace, cql.create_table(keyspace, pipeline.table, pipeline.stored)]
    missing = evolution.missing_columns(table, pipeline.stored)
    return [cql.add_column(keyspace, pipeline.table, name, kind) for name, kind in missing.items()]


def told(found: Plan) -> list[str]:
    """The plan, in lines."""
    lines = [f"subject {found.subject}: {_told_version(found)}", *map(_told_change, found.schema)]
    lines += [f"table {found.table}", *(_told_change(change) for change in found.columns if not change.allowed)]
    lines += [f"  {statement}" for statement in found.statements]
    lines += [f"  left alone: {column}, which the record has not" for column in found.left_alone]
    if found.refused:
        return [*lines, f"refused: {len(found.refused)} of the changes; nothing would be done"]
    return [*lines, "nothing to do"] if found.is_empty else lines


def _told_version(found: Plan) -> str:
    if found.version is None:
        return "is not there yet; version 1 will be registered"
    if found.is_registered:
        return "the schema is registered"
    return f"the latest version is {found.version}; the next will be registered"


def _told_change(change: "Change") -> str:
    return f"  {change}" if change.allowed else f"  refused, {change}"


def _carry_out(settings: "Settings", found: Plan) -> None:
    """Columns first: a record of the new schema then finds its column, whoever sends it."""
    from penstock import pipelines
    from penstock.broker.registry import Registry
    from penstock.sink import cassandra

    with cassandra.connected(settings) as session:
        for statement in found.statements:
            session.execute(statement)
            typer.echo(statement)
    if found.is_registered:
        return
    pipeline = pipelines.of(settings)
    schema_id = Registry(settings).register(pipeline.subject, pipeline.record, settings.wire_format)
    typer.echo(f"registered {pipeline.subject}: schema {schema_id}")
