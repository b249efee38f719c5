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
    from penstock.contract.evolution import Change
    from penstock.contract.table import Table
    from penstock.contract.table_evolution import TableDefinition
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
        cql.render_create_table(pipeline.build_table(keyspace)),
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
    unmanaged_ttl_s: int = 0
    """The table's `default_time_to_live`, if the pipeline does not declare any."""

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
    print_progress(f"applied; next: {_describe_next_steps(planned)}")


def make_plan(settings: "Settings") -> SchemaPlan:
    """Compute the changes of the configured pipeline. Raises `RegistryUnreachable`, `CassandraUnreachable`."""
    from penstock import pipelines
    from penstock.broker.registry import Registry
    from penstock.contract import cql, table_evolution
    from penstock.contract.ttl_change import compare_ttl
    from penstock.sink import cassandra

    pipeline = pipelines.of(settings)
    standing = Registry(settings).check_subject(pipeline.subject, pipeline.record, settings.wire_format)
    with cassandra.open_session(settings) as session:
        table = cassandra.table_of(session, settings, pipeline)
        declared = cassandra.declared_table(settings, pipeline)
        ttl = cassandra.table_ttl(session, declared.keyspace, declared.name)
    ttl_change = compare_ttl(ttl[0], declared) if ttl else None
    return SchemaPlan(
        subject=pipeline.subject,
        version=standing.version,
        is_registered=standing.schema_id is not None,
        schema=standing.changes,
        table=f"{cassandra.keyspace_of(settings, pipeline)}.{pipeline.table}",
        statements=[
            *_render_statements(settings, pipeline, table),
            *([cql.render_set_ttl(declared)] if ttl_change else []),
        ],
        columns=[*table_evolution.compare_table(table, declared), *([ttl_change] if ttl_change else [])],
        left_alone=table_evolution.find_unmanaged_columns(table, declared),
        unmanaged_ttl_s=ttl[0] if ttl and declared.ttl_s is None else 0,
    )


def _render_statements(settings: "Settings", pipeline: "Pipeline", table: "TableDefinition") -> list[str]:
    """Return the CQL that creates the table, or adds what its types and columns lack."""
    from penstock.contract import cql, table_evolution
    from penstock.sink.cassandra import declared_table, keyspace_of

    keyspace, declared = keyspace_of(settings, pipeline), declared_table(settings, pipeline)
    user_types = cql.list_user_types(declared.row)
    make_types = [cql.render_create_type(keyspace, each) for each in user_types if each.name not in table.types]
    if not table.columns:
        make_keyspace = cql.render_create_keyspace(keyspace, settings.cassandra_replication)
        return [make_keyspace, *make_types, *_render_members(table, declared), cql.render_create_table(declared)]
    missing = table_evolution.find_missing_columns(table, declared)
    columns = [cql.render_add_column(keyspace, pipeline.table, name, kind) for name, kind in missing.items()]
    return [*make_types, *_render_members(table, declared), *columns]


def _render_members(table: "TableDefinition", declared: "Table") -> list[str]:
    from penstock.contract import cql, table_evolution

    members = table_evolution.find_missing_members(table, declared)
    return [cql.render_add_member(declared.keyspace, *member) for member in members]


def format_plan(plan: SchemaPlan) -> list[str]:
    """Format the plan as lines."""
    lines = [f"subject {plan.subject}: {_describe_version(plan)}", *map(_describe_change, plan.schema)]
    lines += [f"table {plan.table}", *map(_describe_change, plan.columns)]
    lines += [f"  {statement}" for statement in plan.statements]
    lines += [f"  unmanaged column: {column}" for column in plan.left_alone]
    if plan.unmanaged_ttl_s:
        declared = f"ttl=timedelta(seconds={plan.unmanaged_ttl_s})"
        lines.append(f"  unmanaged default_time_to_live: {plan.unmanaged_ttl_s} s; to manage it, declare {declared}")
    if plan.refused:
        return [*lines, f"refused changes: {len(plan.refused)}; nothing will be applied"]
    return [*lines, "nothing to do" if plan.is_empty else f"after that: {_describe_next_steps(plan)}"]


def _describe_next_steps(plan: SchemaPlan) -> str:
    """Return what to do once the plan is applied, in order."""
    from penstock import remedies

    restart = f"{remedies.restart('spark-job')} before the next run, because a running job reads with the older record"
    is_filled = any(remedies.replay() in change.why for change in plan.columns)
    return f"{restart}; then {remedies.replay()}" if is_filled else restart


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
