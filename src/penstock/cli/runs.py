"""demo, run, verify, trace: run the pipeline and verify its records."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from penstock.cli import acceptance
from penstock.cli.moment import HELP, parse_time
from penstock.cli.text import format_table, print_json, print_progress

Records = Annotated[int, typer.Option(min=1, help="Number of records to fetch from the API.")]
Source = Annotated[str | None, typer.Option(help="URL of the API; default: PENSTOCK_SOURCE_URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class EngineName(StrEnum):
    """Engine that compares the sources."""

    DUCKDB = "duckdb"
    SPARK = "spark"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command()(run)
    acceptance.register(app, verify)
    app.command()(trace)


def demo(
    records: Records = 500,
    source: Source = None,
    as_json: AsJson = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the stack afterwards.")] = False,
) -> None:
    """Start all services, run the pipeline once, and show rows and receipt."""
    from penstock import config
    from penstock.cli import stack

    settings = config.load()
    stack.start_stack(settings)
    try:
        complete = _run_pipeline(settings, records, source, as_json)
        if not as_json:
            _show_rows(settings, limit=10)
    finally:
        if stop:
            stack.stop_stack(settings)
    if not stop:
        print_progress(
            "\n" + stack.format_web_pages(settings) + "\n\nThe stack keeps running. Stop it with: ./penstock down"
        )
    raise typer.Exit(0 if complete else 1)


def run(records: Records = 500, source: Source = None, as_json: AsJson = False) -> None:
    """Run the pipeline once on running services, and print a receipt."""
    from penstock import config

    complete = _run_pipeline(config.load(), records, source, as_json)
    raise typer.Exit(0 if complete else 1)


def verify(
    context: typer.Context,
    since: Annotated[str | None, typer.Option(metavar="TIME", help=f"Only records produced since. {HELP}")] = None,
    engine: Annotated[
        EngineName,
        typer.Option(help="Compare in this process (duckdb), or on Spark if the topic is too large for it."),
    ] = EngineName.DUCKDB,
    as_json: AsJson = False,
) -> None:
    """Balance all records in the topic. Exit 1 if a record is missing or sources differ.

    Reconciles Airflow's runs, the producer's delivery log, Kafka's records, the ledger, the table and the dead letters,
    and lists each difference.
    """
    if context.invoked_subcommand is not None:
        return
    from penstock import config
    from penstock.reconcile import verify as verification
    from penstock.sink.cassandra import open_session

    settings = config.load()
    start = parse_time(since) if since else None
    with open_session(settings) as session, _loader_on(engine, settings) as open_loader:
        receipt = verification.verify(settings, session, start, open_loader=open_loader)
    if as_json:
        print_json(receipt)
    else:
        print_balance(receipt)
    raise typer.Exit(0 if receipt.balanced else 1)


@contextmanager
def _loader_on(engine: EngineName, settings: Any) -> Iterator[Any]:
    """Yield the function that opens the engine, as `verify.verify` takes it."""
    if engine is EngineName.DUCKDB:
        from penstock.reconcile.engine import local_loader

        yield local_loader
    else:
        from penstock.cli.spark import open_cluster_spark
        from penstock.reconcile.spark_loading import open_on

        with open_cluster_spark(settings, "penstock verify") as spark:
            yield open_on(spark)


def trace(
    record_id: Annotated[list[str], typer.Argument(metavar="ID", help="The record's id.")],
    as_json: AsJson = False,
) -> None:
    """Trace a record stage by stage. Exit 1 if no record has the id, or one is missing.

    An id of several fields is typed as one argument for each, in the record's order, or as the JSON object that is its
    Kafka key.
    """
    from penstock import config
    from penstock.reconcile import trace as tracing
    from penstock.sink.cassandra import open_session

    settings = config.load()
    with open_session(settings) as session:
        passages = tracing.trace_record(settings, session, *record_id)
        if not passages and (of_row := tracing.trace_row(settings, session, *record_id)):
            passages = [of_row]  # the record of a row may have expired in the topic
    if as_json:
        print_json(passages)
    elif passages:
        _print_passages(passages)
    else:
        print_progress(f"no record or dead letter with id {' '.join(record_id)}")
    raise typer.Exit(0 if passages and all(passage.outcome != "missing" for passage in passages) else 1)


def _print_passages(passages: list[Any]) -> None:
    lines = []
    for passage in passages:
        lines += [(step.name, step.at, step.detail) for step in passage.hops]
        lines.append(("outcome", None, passage.outcome))
    typer.echo(format_table(("stage", "at", "details"), lines))


def _run_pipeline(settings: Any, records: int, source: str | None, as_json: bool) -> bool:
    """Run the pipeline, print the receipt, and return whether nothing is missing."""
    from penstock.reconcile import receipt
    from penstock.sink.cassandra import open_session

    parameters = {"records": records, "source_url": source}
    with open_session(settings) as session:
        result = receipt.run_and_reconcile(settings, session, parameters, print_progress)
    if as_json:
        print_json(result)
    else:
        _print_receipt(result)
    return result.missing == 0 and result.dag_run_state == "success"


def _print_receipt(receipt: Any) -> None:
    p50, p99 = receipt.latency_ms["p50"], receipt.latency_ms["p99"]
    latency = f"p50 {p50} ms, p99 {p99} ms, from Kafka's timestamp to the stored row" if p50 is not None else None
    lines = [
        ("run", f"{receipt.run_id} ({receipt.dag_run_state})"),
        *((name, getattr(receipt, name)) for name in ("asked", "fetched", "produced", "stored", "rejected", "missing")),
        *([("excused", receipt.excused)] if receipt.excused else []),
        *((f"{name} at", moment) for name, moment in receipt.stages.items()),
        ("latency", latency),
        ("duration", f"{receipt.seconds} s"),
    ]
    typer.echo("\n" + format_table(("receipt", ""), lines))
    for record in receipt.missing_records:
        typer.echo(
            f"missing: partition {record['partition']} offset {record['offset']} id {record['id']}: {record['why']}"
        )


_BALANCE = (
    "produced",
    "stored",
    "deleted",
    "rejected",
    "filtered",
    "expired",
    "pruned",
    "accepted",
    "waiting",
    "missing",
)
_COUNTS = (
    *_BALANCE,
    "compacted",
    "deleted_nothing",
    "refused",
    "doubled",
    "reread",
    "rows",
    "distinct_ids",
    "older_rows",
)


def print_balance(receipt: Any) -> None:
    """Print the receipt of a topic."""
    heads = ("partition", "first", "end", *_BALANCE)
    typer.echo(format_table(heads, [[getattr(partition, head) for head in heads] for partition in receipt.partitions]))
    queue = ", ".join(f"{count} {state}" for state, count in receipt.queue.items())
    acknowledged = receipt.acknowledged
    runs = f"no run compared: {acknowledged.why}" if acknowledged.runs is None else f"{acknowledged.runs} runs"
    lines = [(name, getattr(receipt, name)) for name in _COUNTS]
    lines += [
        ("queue", queue),
        ("acknowledged", f"{acknowledged.records} records of {acknowledged.attempts} attempts, {runs}"),
    ]
    accepted = ", ".join(f"{count} {kind}" for kind, count in receipt.accepted_differences.items())
    lines += [("accepted differences", accepted)] if accepted else []
    lines += [("evidence", sentence) for sentence in receipt.evidence]
    lines += [(f"null: {name}", _format_share(nulls)) for name, nulls in receipt.nulls.items() if nulls.share]
    typer.echo("\n" + format_table((receipt.topic, ""), lines))
    for warning in receipt.warnings:
        typer.echo(f"warning: {warning}")
    for difference in receipt.differences:
        position = f"partition {difference.partition} offset {difference.offset}"
        typer.echo(f"{difference.kind}: {position} id {difference.id}: {difference.why}")
    typer.echo(
        "balanced: nothing is missing" if receipt.balanced else f"NOT balanced: {receipt.differences_found} differences"
    )


def _format_share(nulls: Any) -> str:
    moved = "" if nulls.moved is None else f", {nulls.moved:+.2%} since the last receipt"
    return f"{nulls.share:.2%}{moved}"


def _show_rows(settings: Any, limit: int) -> None:
    from penstock.cli.data import print_rows

    typer.echo("")
    print_rows(settings, limit)
