"""checkpoint: show and reset the Spark job's position in the topic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from penstock.cli.text import format_table, print_json, print_progress

_HEADS = ("partition", "checkpoint", "planned", "first", "end")


class To(StrEnum):
    """Start position of the next query."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True)
class CheckpointPartition:
    """Offsets of a partition: the query's next and planned end, and the range available in Kafka."""

    partition: int
    checkpoint: int | None
    planned: int | None
    first: int | None
    end: int | None


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The Spark job's position in the topic.", no_args_is_help=True)
    group.command()(show)
    group.command()(reset)
    app.add_typer(group, name="checkpoint")


def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the offsets at which the Spark job resumes, and those available in Kafka.

    Exit 1 if the job would refuse to resume from there.
    """
    from penstock import config, pipelines
    from penstock.broker import topics
    from penstock.process import checkpoint

    settings = config.load()
    topic = pipelines.of(settings).topic
    current = checkpoint.checkpoint_of(settings, topic)
    position, ranges = current.read_position(), topics.fetch_offset_ranges(settings, topic)
    topic_id = topics.fetch_topic_id(settings, topic) if ranges else ""
    origin = current.origin()
    misfits = checkpoint.find_misfits(position, origin, ranges, topic_id)
    partitions = _list_partitions(position, ranges)
    if as_json:
        begun = bool(position and position.begun)
        print_json(
            {
                "folder": current.folder,
                "topic": topic,
                "begun": begun,
                "partitions": partitions,
                "misfits": misfits,
                "note": origin.note,
            }
        )
    else:
        typer.echo(current.folder)
        typer.echo(format_table(_HEADS, [[getattr(partition, head) for head in _HEADS] for partition in partitions]))
        _print_status(position, misfits, origin.note)
    raise typer.Exit(1 if misfits else 0)


def _list_partitions(position: Any, ranges: list[Any]) -> list[CheckpointPartition]:
    first, end = (position.first, position.end) if position else ({}, {})
    available = {offset_range.partition: offset_range for offset_range in ranges}
    return [
        CheckpointPartition(
            partition,
            checkpoint=first.get(partition),
            planned=end.get(partition),
            first=available[partition].first if partition in available else None,
            end=available[partition].end if partition in available else None,
        )
        for partition in sorted(available.keys() | end.keys())
    ]


def _print_status(position: Any, misfits: list[str], note: str) -> None:
    if note:
        print_progress(note)
    if position is None:
        print_progress("no checkpoint: the job starts with the earliest offsets")
    elif not position.begun:
        print_progress("the job has not started from this checkpoint yet")
    for line in misfits:
        print_progress(line)
    if misfits:
        print_progress(
            "the job refuses to resume from this checkpoint\n  try: ./penstock checkpoint reset --to earliest"
        )


def reset(
    to: Annotated[To, typer.Option("--to", help="earliest: all records in Kafka; latest: only new records.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Move the checkpoint aside and set where the next one starts. Asks for confirmation.

    Rows do not change. With `--to latest` records are skipped, and `verify` reports them. Refused while a job runs.
    """
    from penstock import config, pipelines
    from penstock.process import checkpoint
    from penstock.sink import cassandra

    settings = config.load()
    pipeline = pipelines.of(settings)
    folder = checkpoint.folder_of(settings, pipeline.topic)
    if not yes:
        typer.confirm(_ask_question(folder, to), abort=True, err=True)
    with cassandra.open_session(settings) as session, _hold_lease(session, settings, folder):
        moved = _reset_checkpoint(settings, pipeline.topic, to)
    print_progress(f"moved to {moved}" if moved else "there was no checkpoint")
    print_progress(f"the next start of the job reads {_MEANING[to]}: ./penstock restart spark-job")


@contextmanager
def _hold_lease(session: Any, settings: Any, folder: str) -> Iterator[None]:
    """Hold the checkpoint's lease, so that no job can use it. Raises `JobRunning`."""
    from penstock import pipelines
    from penstock.errors import JobRunning
    from penstock.sink import cassandra, lease

    pipeline = pipelines.of(settings)
    keyspace = cassandra.keyspace_of(settings, pipeline)
    statements = cassandra.keyspace_statement(settings, pipeline) | lease.statements(keyspace)
    cassandra.create_missing(session, keyspace, statements)
    try:
        with lease.hold_lease(lease.Lease(session, keyspace, folder), wait_s=0):
            yield
    except JobRunning as error:
        raise JobRunning(error.message, hint="./penstock down spark-job, then run the command again") from error


_MEANING = {To.EARLIEST: "all records in Kafka", To.LATEST: "only new records"}


def _ask_question(folder: str, to: To) -> str:
    return f"Move the checkpoint {folder} aside and read {_MEANING[to]}?"


def _reset_checkpoint(settings: Any, topic: str, to: To) -> str | None:
    """Reset the checkpoint. Returns the new name of the old one, or None if there was none."""
    from penstock.broker import topics
    from penstock.errors import PenstockError
    from penstock.process import checkpoint

    ends = {offset_range.partition: offset_range.end for offset_range in topics.fetch_offset_ranges(settings, topic)}
    start = ends if to is To.LATEST else None
    origin = checkpoint.CheckpointOrigin(topic_id=topics.fetch_topic_id(settings, topic), start=start)
    folder = checkpoint.folder_of(settings, topic)
    if "://" in folder:
        text = checkpoint.encode_origin(origin).decode()
        raise PenstockError(
            f"only Spark can access {folder}: nothing was changed",
            hint=f"rename the folder to {folder}.before-reset, then create {folder}/{checkpoint.ORIGIN} with: {text}",
        )
    return checkpoint.checkpoint_of(settings, topic).begin_at(origin)
