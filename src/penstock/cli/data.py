"""cql, rows, row: query the table."""

import os
import sys
from typing import Annotated, Any

import typer

from penstock.cli.text import format_table, print_json

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHOWN = ("id", "first_name", "last_name", "post_code", "nationality", "kafka_partition", "kafka_offset")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(cql)
    app.command()(rows)
    app.command()(row)


def cql(context: typer.Context) -> None:
    """Open cqlsh on the pipeline's keyspace.

    Other arguments are passed to cqlsh, such as -e 'SELECT ...'.
    """
    from penstock import config, pipelines
    from penstock.sink.cassandra import keyspace_of

    settings = config.load()
    host = settings.cassandra_hosts.split(",")[0]
    keyspace = keyspace_of(settings, pipelines.of(settings))
    command = [sys.executable, "-m", "cqlshlib", host, str(settings.cassandra_port), "-k", keyspace, *context.args]
    os.execv(sys.executable, command)  # noqa: S606


def rows(
    limit: Annotated[int, typer.Option(min=1, help="Number of rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show rows of the table."""
    from penstock import config

    settings = config.load()
    if as_json:
        print_json(_select_rows(settings, "", (), limit))
    else:
        print_rows(settings, limit)


def row(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    as_json: AsJson = False,
) -> None:
    """Show the row with an id. Exit 1 if there is none."""
    from penstock import config, pipelines
    from penstock.contract import cql
    from penstock.contract.identity import identity_of
    from penstock.errors import PenstockError
    from penstock.reconcile.trace import parse_id

    settings = config.load()
    pipeline = pipelines.of(settings)
    key = cql.quote_name(identity_of(pipeline.stored).columns[0])
    selected = _select_rows(settings, f"WHERE {key} = %s", (parse_id(pipeline, record_id),), 1)
    if not selected:
        raise PenstockError(f"no row with id {record_id}", hint="./penstock rows, ./penstock verify")
    if as_json:
        print_json(selected[0])
    else:
        typer.echo(format_table(("column", "value"), list(selected[0].items())))


def print_rows(settings: Any, limit: int) -> None:
    """Print the main columns of up to `limit` rows."""
    selected = _select_rows(settings, "", (), limit)
    if not selected:
        typer.echo("the table is empty; to fill it: ./penstock run", err=True)
        return
    heads = [name for name in _SHOWN if name in selected[0]] or list(selected[0])
    typer.echo(format_table(heads, [[row[head] for head in heads] for row in selected]))


def _select_rows(settings: Any, where: str, values: tuple[Any, ...], limit: int) -> list[dict[str, Any]]:
    from penstock import pipelines
    from penstock.contract import cql
    from penstock.sink import cassandra
    from penstock.sink.cells import format_row

    pipeline = pipelines.of(settings)
    name = cql.quote_table(cassandra.keyspace_of(settings, pipeline), pipeline.table)
    query = f"SELECT * FROM {name} {where} LIMIT {limit}"
    with cassandra.open_session(settings) as session:
        return [format_row(row, pipeline.stored) for row in session.execute(query, values or None)]
