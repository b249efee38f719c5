"""schema: render schemas/ from the pipeline, and apply changes of its record to registry and table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.text import print_json, print_progress
from penstock.stack.layout import REPOSITORY

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.contract.evolution import Change, Table
    from penstock.pipelines import Pipeline


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Schemas of the pipeline's record, and their changes to registry and table.", no_args_is_help=True
    )
    for command in (render, plan, apply):
        group.command()(command)
    app.add_typer(group, name="schema")


def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is stale.")] = False,
) -> None:
    """Render JSON Schema, Avro schema, Spark DDL and CQL of the configured pipeline to schemas/."""
    from penstock.errors import PenstockError

    stale = [path for path, text in render_files().items() if _is_stale(path, text)]
    if check and stale:
        names = ", ".join(path.name for path in stale)
        raise PenstockError(f"stale in schemas/: {names}", hint="./penstock schema render")
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(render_files()[path])
        typer.echo(f"wrote {path.relative_to(REPOSITORY)}")


def _is_stale(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text() != text


def render_files() -> dict[Path, str]:
    """Render the configured pipeline's files under schemas/, by path."""
    from penstock import config, pipelines
    from penstock.contract import cql, schemas

    settings = config.load()
    pipeline = pipelines.of(settings)
    keyspace = settings.cassandra_keyspace or pipeline.keyspace
    statements = (
        cql.render_create_keyspace(keyspace, settings.cassandra_replication),
        *(cql.render_create_type(keyspace, each) for each in cql.list_user_types(pipeline.stored)),
        cql.render_create_table(keyspace, pipeline.table, pipeline.stored),
    )
    texts = {
        "json": json.dumps(schemas.json_schema(pipeline.record), indent=2),
        "avsc": json.dumps(schemas.avro_schema(pipeline.record), indent=2),
        "ddl": schemas.spark_ddl(pipeline.record).replace(", ", ",\n"),
        "cql": ";\n\n".join(statements) + ";",
    }
    return {REPOSITORY / "schemas" / f"{pipeline.topic}.{suffix}": text + "\n" for suffix, text in texts.items()}


@dataclass(frozen=True)
class SchemaPlan:
    """Changes of the configured pipeline: `schema` in the registry, `columns` in the table."""

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
        """Return the changes that are not allowed. If there are any, nothing is applied."""
        from penstock.contract import evolution

        return evolution.list_refused([*self.schema, *self.columns])

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to do."""
        return self.is_registered and not self.statements and not self.refused

    def as_json(self) -> dict[str, Any]:
        """Convert the plan to a dict for JSON output."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"refused": len(self.refused), "nothing_to_do": self.is_empty}


def plan(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show the record's changes to registry and table. Exit 1 if a change is refused."""
    from penstock import config

    changes = make_plan(config.load())
    if as_json:
        print_json(changes.as_json())
    else:
        typer.echo("\n".join(format_plan(changes)))
    raise typer.Exit(1 if changes.refused else 0)


def apply(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Apply the plan: add columns to the table, then register the schema. Asks for confirmation.

    Only additions are possible. If a change is refused, nothing is changed.
    """
    from penstock import config
    from penstock.errors import SchemaRefused

    settings = config.load()
    planned = make_plan(settings)
    if planned.refused:
        lines = [
            f"{planned.subject}, {planned.table}: nothing was changed",
            *(f"  {change}" for change in planned.refused),
        ]
        raise SchemaRefused("\n".join(lines), hint="./penstock schema plan", changes=planned.refused)
    if planned.is_empty:
        typer.echo("nothing to do")
        return
    if not yes:
        print_progress("\n".join(format_plan(planned)))
        typer.confirm("Apply this plan?", abort=True, err=True)
    _apply_plan(settings, planned)
    print_progress("the running job still uses the old schema: ./penstock restart spark-job")


def make_plan(settings: "Settings") -> SchemaPlan:
    """Compute the changes of the configured pipeline. Raises `RegistryUnreachable`, `CassandraUnreachable`."""
    from penstock import pipelines
    from penstock.broker.registry import Registry
    from penstock.contract import evolution
    from penstock.sink import cassandra

    pipeline = pipelines.of(settings)
    standing = Registry(settings).check_subject(pipeline.subject, pipeline.record, settings.wire_format)
    with cassandra.open_session(settings) as session:
        table = cassandra.table_of(session, settings, pipeline)
    return SchemaPlan(
        subject=pipeline.subject,
        version=standing.version,
        is_registered=standing.schema_id is not None,
        schema=standing.changes,
        table=f"{cassandra.keyspace_of(settings, pipeline)}.{pipeline.table}",
        statements=_render_statements(settings, pipeline, table),
        columns=evolution.compare_table(table, pipeline.stored),
        left_alone=evolution.find_unmanaged_columns(table, pipeline.stored),
    )


def _render_statements(settings: "Settings", pipeline: "Pipeline", table: "Table") -> list[str]:
    """Return the CQL that creates the table or adds its missing columns."""
    from penstock.contract import cql, evolution
    from penstock.sink.cassandra import keyspace_of

    keyspace = keyspace_of(settings, pipeline)
    if not table.columns:
        make_keyspace = cql.render_create_keyspace(keyspace, settings.cassandra_replication)
        make_types = [cql.render_create_type(keyspace, each) for each in cql.list_user_types(pipeline.stored)]
        return [make_keyspace, *make_types, cql.render_create_table(keyspace, pipeline.table, pipeline.stored)]
    missing = evolution.find_missing_columns(table, pipeline.stored)
    return [cql.render_add_column(keyspace, pipeline.table, name, kind) for name, kind in missing.items()]


def format_plan(plan: SchemaPlan) -> list[str]:
    """Format the plan as lines."""
    lines = [f"subject {plan.subject}: {_describe_version(plan)}", *map(_describe_change, plan.schema)]
    lines += [f"table {plan.table}", *(_describe_change(change) for change in plan.columns if not change.allowed)]
    lines += [f"  {statement}" for statement in plan.statements]
    lines += [f"  unmanaged column: {column}" for column in plan.left_alone]
    if plan.refused:
        return [*lines, f"refused changes: {len(plan.refused)}; nothing will be applied"]
    return [*lines, "nothing to do"] if plan.is_empty else lines


def _describe_version(plan: SchemaPlan) -> str:
    if plan.version is None:
        return "does not exist yet; version 1 will be registered"
    if plan.is_registered:
        return "the schema is registered"
    return f"the latest version is {plan.version}; the next will be registered"


def _describe_change(change: "Change") -> str:
    return f"  {change}" if change.allowed else f"  refused, {change}"


def _apply_plan(settings: "Settings", plan: SchemaPlan) -> None:
    """Apply the plan, columns first, so that records of the new schema always find their columns."""
    from penstock import pipelines
    from penstock.broker.registry import Registry
    from penstock.sink import cassandra

    with cassandra.open_session(settings) as session:
        for statement in plan.statements:
            session.execute(statement)
            typer.echo(statement)
    if plan.is_registered:
        return
    pipeline = pipelines.of(settings)
    schema_id = Registry(settings).register(pipeline.subject, pipeline.record, settings.wire_format)
    typer.echo(f"registered {pipeline.subject}: schema {schema_id}")
