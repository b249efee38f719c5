"""demo, run, verify: carry records and prove that they arrived."""

from typing import Annotated, Any

import typer

from penstock.cli.text import print_json, table, talk

Records = Annotated[int, typer.Option(min=1, help="How many records to ask the API for.")]
Source = Annotated[str | None, typer.Option(help="URL of another API than PENSTOCK_SOURCE_URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command()(run)
    app.command()(verify)


def demo(
    records: Records = 500,
    source: Source = None,
    as_json: AsJson = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the stack afterwards.")] = False,
) -> None:
    """Start everything, carry records once, show rows and receipt."""
    from penstock import config
    from penstock.cli import stack

    settings = config.load()
    stack.up_for(settings)
    try:
        complete = _carry(settings, records, source, as_json)
        if not as_json:
            _show_rows(settings, limit=10)
    finally:
        if stop:
            stack.down_all(settings)
    if not stop:
        talk("\n" + stack.where_to_look(settings) + "\n\nThe stack stays up. Stop it with: ./penstock down")
    raise typer.Exit(0 if complete else 1)


def run(records: Records = 500, source: Source = None, as_json: AsJson = False) -> None:
    """Carry records once, on services that are up; give a receipt."""
    from penstock import config

    complete = _carry(config.load(), records, source, as_json)
    raise typer.Exit(0 if complete else 1)


def verify(as_json: AsJson = False) -> None:
    """Balance everything in the topic. Exit 1: something is missing.

    Compared are Kafka's offsets and records, the ledger, the table and the rejected records.
    """
    from penstock import config
    from penstock.observe import receipt
    from penstock.sink.cassandra import connected

    settings = config.load()
    with connected(settings) as session:
        found = receipt.verify(settings, session)
    if as_json:
        print_json(found)
    else:
        _print_balance(found)
    raise typer.Exit(0 if found.balanced else 1)


def _carry(settings: Any, records: int, source: str | None, as_json: bool) -> bool:
    """Whether a run was carried out with nothing missing; its receipt is printed."""
    from penstock.observe import receipt
    from penstock.sink.cassandra import connected

    parameters = {"records": records, "source_url": source}
    with connected(settings) as session:
        found = receipt.run(settings, session, parameters, talk)
    if as_json:
        print_json(found)
    else:
        _print_receipt(found)
    return found.missing == 0 and found.dag_run_state == "success"


def _print_receipt(found: Any) -> None:
    p50, p99 = found.latency_ms["p50"], found.latency_ms["p99"]
    latency = f"p50 {p50} ms, p99 {p99} ms, from Kafka's timestamp to the stored row" if p50 is not None else None
    lines = [
        ("run", f"{found.run_id} ({found.dag_run_state})"),
        *((name, getattr(found, name)) for name in ("asked", "fetched", "produced", "stored", "rejected", "missing")),
        *((f"{name} at", moment) for name, moment in found.stages.items()),
        ("latency", latency),
        ("took", f"{found.seconds} s"),
    ]
    typer.echo("\n" + table(("receipt", ""), lines))
    for one in found.missing_records:
        typer.echo(f"missing: partition {one['partition']} offset {one['offset']} id {one['id']}")


def _print_balance(found: Any) -> None:
    heads = ("partition", "first", "end", "recorded", "stored", "rejected", "filtered", "waiting")
    typer.echo(table(heads, [[getattr(one, head) for head in heads] for one in found.partitions]))
    names = ("produced", "stored", "rejected", "filtered", "waiting", "missing", "rows", "distinct_ids")
    typer.echo("\n" + table((found.topic, ""), [(name, getattr(found, name)) for name in names]))
    typer.echo("balanced: nothing is missing" if found.balanced else f"NOT balanced: {found.missing} missing")
    for one in found.missing_records:
        typer.echo(f"missing: partition {one['partition']} offset {one['offset']} id {one['id']}")


def _show_rows(settings: Any, limit: int) -> None:
    from penstock.cli.data import print_rows

    typer.echo("")
    print_rows(settings, limit)
