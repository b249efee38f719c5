"""replay, rebuild: process the topic again."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.moment import HELP, parse_time
from penstock.cli.spark import open_local_spark
from penstock.cli.text import format_table, print_json, print_progress

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from pyspark.sql import SparkSession

    from penstock.broker.topics import OffsetRange
    from penstock.config import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")
_FORMS = f"partition:offset[,partition:offset], or a time: {HELP}"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(replay)
    app.command()(rebuild)


def replay(
    start: Annotated[str | None, typer.Option("--from", metavar="START", help=f"First offsets: {_FORMS}")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="END", help="End, exclusive, like --from.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be read, without reading.")] = False,
    as_json: AsJson = False,
) -> None:
    """Process a range of the topic again, alongside the running stream.

    With offsets, only their partitions are read. With a time, or by default, all of them. Newer rows are not changed.
    Can be interrupted and repeated. Exit 1 if a record of the range is missing.
    """
    from penstock import config

    settings = config.load()
    ranges = parse_ranges(settings, start, to)
    print_progress(_format_ranges(ranges))
    if dry_run:
        if as_json:
            print_json(ranges)
        return
    from penstock.sink.cassandra import open_session

    with open_session(settings) as session:
        balanced = _replay_ranges(settings, session, ranges, as_json)
    raise typer.Exit(0 if balanced else 1)


def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Truncate the table and fill it again from the topic. Asks for confirmation.

    Refused if the table has rows whose records are no longer in the topic. The stream keeps running.
    """
    from penstock import config, pipelines
    from penstock.broker import topics
    from penstock.reconcile import verify as verification
    from penstock.sink import cassandra, table_orders

    settings = config.load()
    pipeline = pipelines.of(settings)
    with open_local_spark(settings, "penstock replay") as spark, cassandra.open_session(settings) as session:
        table_orders.fix_order(session, cassandra.keyspace_of(settings, pipeline), pipeline)
        rows = verification.count_rows_to_rebuild(settings, session)
        name = f"{cassandra.keyspace_of(settings, pipeline)}.{pipeline.table}"
        if not yes:
            typer.confirm(f"Delete the {rows} rows of {name} and fill it again?", abort=True, err=True)
        cassandra.truncate_table(session, settings, pipeline)
        print_progress(f"{name} truncated; it had {rows} rows")
        balanced = _replay_ranges(
            settings, session, topics.fetch_offset_ranges(settings, pipeline.topic), as_json, spark
        )
    raise typer.Exit(0 if balanced else 1)


def parse_ranges(settings: "Settings", start: str | None, to: str | None) -> list["OffsetRange"]:
    """Return the offset ranges from `start` to `to`, half open. Raises `UsageError`."""
    from penstock import pipelines
    from penstock.broker import topics
    from penstock.broker.topics import OffsetRange

    topic = pipelines.of(settings).topic
    whole = topics.fetch_offset_ranges(settings, topic)
    firsts = (
        _parse_offsets(settings, topic, whole, start)
        if start
        else {offset_range.partition: offset_range.first for offset_range in whole}
    )
    ends = (
        _parse_offsets(settings, topic, whole, to)
        if to
        else {offset_range.partition: offset_range.end for offset_range in whole}
    )
    ranges = []
    for offset_range in whole:
        if offset_range.partition in firsts and offset_range.partition in ends:
            first = min(max(firsts[offset_range.partition], offset_range.first), offset_range.end)
            ranges.append(
                OffsetRange(
                    offset_range.partition, first, min(max(ends[offset_range.partition], first), offset_range.end)
                )
            )
    return ranges


def _parse_offsets(settings: "Settings", topic: str, whole: list["OffsetRange"], text: str) -> dict[int, int]:
    from penstock.broker import topics
    from penstock.errors import UsageError

    if not _OFFSETS.fullmatch(text):
        return {
            offset_range.partition: offset_range.first
            for offset_range in topics.find_offset_ranges_since(settings, topic, whole, parse_time(text))
        }
    offsets = {int(partition): int(offset) for partition, offset in (item.split(":") for item in text.split(","))}
    unknown = sorted(offsets.keys() - {offset_range.partition for offset_range in whole})
    if unknown:
        raise UsageError(f"{topic} has no partition {unknown[0]}", hint="./penstock verify")
    return offsets


def _format_ranges(ranges: list["OffsetRange"]) -> str:
    lines = [
        (offset_range.partition, offset_range.first, offset_range.end, offset_range.records) for offset_range in ranges
    ]
    total = ("", "", "", sum(offset_range.records for offset_range in ranges))
    return format_table(("partition", "first", "end", "offsets"), [*lines, total])


def _replay_ranges(
    settings: "Settings",
    session: "Session",
    ranges: list["OffsetRange"],
    as_json: bool,
    spark: "SparkSession | None" = None,
) -> bool:
    """Replay the ranges, print their receipt, and return whether it balances."""
    if spark is None:
        with open_local_spark(settings, "penstock replay") as own_spark:
            return _replay_ranges(settings, session, ranges, as_json, own_spark)
    from penstock.cli.runs import print_balance
    from penstock.pipeline import replay as replaying
    from penstock.reconcile import verify as verification

    done = replaying.replay_ranges(
        spark, session, settings, ranges, lambda n, of: print_progress(f"{n} of {of} offsets")
    )
    receipt = verification.verify(settings, session, ranges=ranges)
    if as_json:
        print_json({"replay": _as_dict(done), "receipt": receipt})
    else:
        typer.echo(f"{done.job}: {done.records} records in {done.seconds} s\n")
        print_balance(receipt)
    return receipt.balanced


def _as_dict(done: Any) -> dict[str, Any]:
    return {
        "job": done.job,
        "records": done.records,
        "seconds": done.seconds,
        "partitions": [partition._asdict() for partition in done.partitions],
    }
