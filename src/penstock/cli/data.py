"""cql, rows, row: query the table."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from penstock.cli.text import format_table, print_json, print_progress

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
    record_id: Annotated[list[str], typer.Argument(metavar="ID", help="The record's id.")],
    as_json: AsJson = False,
) -> None:
    """Show the row with an id. Exit 1 if there is none.

    An id of several fields is typed as one argument for each, in the record's order, or as the JSON object that is its
    Kafka key.
    """
    from penstock import config, pipelines
    from penstock.contract import cql
    from penstock.errors import PenstockError
    from penstock.reconcile.typed_id import parse_id
    from penstock.sink.cassandra import declared_table, open_session
    from penstock.sink.written import read_expiry

    settings = config.load()
    pipeline = pipelines.of(settings)
    table = declared_table(settings, pipeline)
    parsed_id = parse_id(pipeline, *record_id)
    with open_session(settings) as session:
        where = f" WHERE {cql.render_key_condition(table)}"
        selected = _select_rows_in(session, settings, where, table.key_values(parsed_id), 1)
        expires_at = read_expiry(session, table, parsed_id) if selected else None
    if not selected:
        raise PenstockError(f"no row with id {' '.join(record_id)}", hint="./penstock rows, ./penstock verify")
    if as_json:
        print_json(selected[0])
    else:
        typer.echo(format_table(("column", "value"), list(selected[0].items())))
    if expires_at is not None:
        print_progress(f"the row expires at {expires_at.isoformat()}")


def print_rows(settings: Any, limit: int) -> None:
    """Print the main columns of up to `limit` rows."""
    selected = _select_rows(settings, "", (), limit)
    if not selected:
        typer.echo("the table is empty; to fill it: ./penstock run", err=True)
        return
    heads = _SHOWN if selected[0].keys() >= set(_SHOWN) else list(selected[0])
    typer.echo(format_table(heads, [[row[head] for head in heads] for row in selected]))


def _select_rows(settings: Any, where: str, values: tuple[Any, ...], limit: int) -> list[dict[str, Any]]:
    from penstock.sink.cassandra import open_session

    with open_session(settings) as session:
        return _select_rows_in(session, settings, where, values, limit)


def _select_rows_in(
    session: Any, settings: Any, where: str, values: tuple[Any, ...], limit: int
) -> list[dict[str, Any]]:
    from penstock import pipelines
    from penstock.contract import cql
    from penstock.sink import cassandra
    from penstock.sink.cells import format_row

    pipeline = pipelines.of(settings)
    table = cassandra.declared_table(settings, pipeline)
    query = f"SELECT * FROM {cql.render_name(table)}{where} LIMIT {limit}"
    selected = session.execute(session.prepare(query), values) if values else session.execute(query)
    return [format_row(_order_columns(row, table.columns), pipeline.stored) for row in selected]


def _order_columns(row: Mapping[str, Any], declared: Iterable[str]) -> dict[str, Any]:
    """Return the columns of a row in the record's own order, followed by those of other programs."""
    own = {name: row[name] for name in declared if name in row}
    return own | {name: value for name, value in row.items() if name not in own}
