"""demo, run, verify: carry records and prove that they arrived."""

from typing import Annotated, Any

import typer

from penstock.cli.moment import HELP, moment
from penstock.cli.text import print_json, table, talk

Records = Annotated[int, typer.Option(min=1, help="How many records to ask the API for.")]
Source = Annotated[str | None, typer.Option(help="URL of another API than PENSTOCK_SOURCE_URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command()(run)
    app.command()(verify)
    app.command()(trace)


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


def verify(
    since: Annotated[str | None, typer.Option(metavar="TIME", help=f"Only what was produced since. {HELP}")] = None,
    as_json: AsJson = False,
) -> None:
    """Balance everything in the topic. Exit 1: something is missing, or two sources differ.

    Held against each other are Airflow's runs, the producer's journal, Kafka's records, the ledger, the table and the
    rejected records. Each difference is named.
    """
    from penstock import config
    from penstock.observe import verify as verification
    from penstock.sink.cassandra import connected

    settings = config.load()
    with connected(settings) as session:
        found = verification.verify(settings, session, moment(since) if since else None)
    if as_json:
        print_json(found)
    else:
        print_balance(found)
    raise typer.Exit(0 if found.balanced else 1)


def trace(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    as_json: AsJson = False,
) -> None:
    """Show the way of one record, hop by hop. Exit 1: no record has the id, or one is missing."""
    from penstock import config
    from penstock.observe import trace as tracing
    from penstock.sink.cassandra import connected

    settings = config.load()
    with connected(settings) as session:
        passages = tracing.trace(settings, session, record_id)
        if not passages and (of_row := tracing.trace_row(settings, session, record_id)):
            passages = [of_row]  # the topic may have forgotten the record of a row
    if as_json:
        print_json(passages)
    elif passages:
        _print_passages(passages)
    else:
        talk(f"neither the topic nor the rejected records have the id {record_id}")
    raise typer.Exit(0 if passages and all(one.outcome != "missing" for one in passages) else 1)


def _print_passages(passages: list[Any]) -> None:
    lines = []
    for one in passages:
        lines += [(hop.name, hop.at, hop.detail) for hop in one.hops]
        lines.append(("outcome", None, one.outcome))
    typer.echo(table(("hop", "at", "what"), lines))


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
        typer.echo(f"missing: partition {one['partition']} offset {one['offset']} id {one['id']}: {one['why']}")


_BALANCE = ("produced", "stored", "deleted", "rejected", "filtered", "waiting", "missing")
_COUNTS = (*_BALANCE, "deleted_nothing", "refused", "doubled", "reread", "rows", "distinct_ids", "older_rows")


def print_balance(found: Any) -> None:
    """Print the receipt of a topic."""
    heads = ("partition", "first", "end", *_BALANCE)
    typer.echo(table(heads, [[getattr(one, head) for head in heads] for one in found.partitions]))
    queue = ", ".join(f"{count} {state}" for state, count in found.queue.items())
    told = found.acknowledged
    runs = f"no run compared: {told.why}" if told.runs is None else f"{told.runs} runs"
    lines = [(name, getattr(found, name)) for name in _COUNTS]
    lines += [("queue", queue), ("acknowledged", f"{told.records} records of {told.attempts} attempts, {runs}")]
    lines += [(f"null: {name}", _share(one)) for name, one in found.nulls.items() if one.share]
    typer.echo("\n" + table((found.topic, ""), lines))
    for warning in found.warnings:
        typer.echo(f"warning: {warning}")
    for one in found.differences:
        typer.echo(f"{one.kind}: partition {one.partition} offset {one.offset} id {one.id}: {one.why}")
    typer.echo(
        "balanced: nothing is missing" if found.balanced else f"NOT balanced: {found.differences_found} differences"
    )


def _share(nulls: Any) -> str:
    moved = "" if nulls.moved is None else f", {nulls.moved:+.2%} since the last receipt"
    return f"{nulls.share:.2%}{moved}"


def _show_rows(settings: Any, limit: int) -> None:
    from penstock.cli.data import print_rows

    typer.echo("")
    print_rows(settings, limit)
