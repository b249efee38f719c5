"""checkpoint: where the Spark job is in the topic, and how it starts somewhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from penstock.cli.text import print_json, table, talk

_HEADS = ("partition", "checkpoint", "planned", "first", "end")


class To(StrEnum):
    """Where the next query starts."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True)
class Partition:
    """One partition: where the query goes on and up to where it has planned, and what Kafka holds of it."""

    partition: int
    checkpoint: int | None
    planned: int | None
    first: int | None
    end: int | None


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Where the Spark job is in the topic.", no_args_is_help=True)
    group.command()(show)
    group.command()(reset)
    app.add_typer(group, name="checkpoint")


def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show where the Spark job goes on, beside what Kafka holds.

    Exit 1 when the job would refuse to go on from there.
    """
    from penstock import config, pipelines
    from penstock.broker import topics
    from penstock.process import checkpoint

    settings = config.load()
    topic = pipelines.of(settings).topic
    found = checkpoint.checkpoint_of(settings, topic)
    place, spans = found.place(), topics.spans(settings, topic)
    topic_id = topics.topic_id(settings, topic) if spans else ""
    misfits = checkpoint.misfits(place, found.origin(), spans, topic_id)
    partitions = _partitions(place, spans)
    if as_json:
        begun = bool(place and place.begun)
        print_json(
            {"folder": found.folder, "topic": topic, "begun": begun, "partitions": partitions, "misfits": misfits}
        )
    else:
        typer.echo(found.folder)
        typer.echo(table(_HEADS, [[getattr(one, head) for head in _HEADS] for one in partitions]))
        _say(place, misfits)
    raise typer.Exit(1 if misfits else 0)


def _partitions(place: Any, spans: list[Any]) -> list[Partition]:
    first, end = (place.first, place.end) if place else ({}, {})
    held = {span.partition: span for span in spans}
    return [
        Partition(
            one,
            checkpoint=first.get(one),
            planned=end.get(one),
            first=held[one].first if one in held else None,
            end=held[one].end if one in held else None,
        )
        for one in sorted(held.keys() | end.keys())
    ]


def _say(place: Any, misfits: list[str]) -> None:
    if place is None:
        talk("there is no checkpoint: the job starts with all that Kafka holds")
    elif not place.begun:
        talk("the job has not started from here yet")
    for line in misfits:
        talk(line)
    if misfits:
        talk("the job refuses to go on from here\n  try: ./penstock checkpoint reset --to earliest")


def reset(
    to: Annotated[To, typer.Option("--to", help="earliest: all that Kafka holds; latest: what comes from now on.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Start somewhere else: set the checkpoint aside, keep where the next one begins; asks first.

    Rows stay the same. With `--to latest` records are skipped, and `verify` names them. Refused while a job runs.
    """
    from penstock import config, pipelines
    from penstock.process import checkpoint
    from penstock.sink import cassandra

    settings = config.load()
    pipeline = pipelines.of(settings)
    folder = checkpoint.folder_of(settings, pipeline.topic)
    if not yes:
        typer.confirm(_question(folder, to), abort=True, err=True)
    with cassandra.connected(settings) as session, _owned(session, settings, folder):
        kept = _reset(settings, pipeline.topic, to)
    talk(f"kept as {kept}" if kept else "there was no checkpoint before")
    talk(f"the next start of the job reads {_MEANING[to]}: ./penstock restart spark-job")


@contextmanager
def _owned(session: Any, settings: Any, folder: str) -> Iterator[None]:
    """The checkpoint without any job on it for the length of a `with` block. Raises `JobRunning`."""
    from penstock import pipelines
    from penstock.errors import JobRunning
    from penstock.sink import cassandra, lease

    pipeline = pipelines.of(settings)
    keyspace = cassandra.keyspace_of(settings, pipeline)
    statements = cassandra.keyspace_statement(settings, pipeline) | lease.statements(keyspace)
    cassandra.create_missing(session, keyspace, statements)
    try:
        with lease.held(lease.Lease(session, keyspace, folder), wait_s=0):
            yield
    except JobRunning as error:
        raise JobRunning(error.message, hint="./penstock down spark-job, then the same again") from error


_MEANING = {To.EARLIEST: "all that Kafka holds", To.LATEST: "what comes from now on"}


def _question(folder: str, to: To) -> str:
    return f"Set the checkpoint {folder} aside, and read {_MEANING[to]}?"


def _reset(settings: Any, topic: str, to: To) -> str | None:
    """The name under which the checkpoint is kept, None when there was none."""
    import msgspec

    from penstock.broker import topics
    from penstock.errors import PenstockError
    from penstock.process import checkpoint

    ends = {span.partition: span.end for span in topics.spans(settings, topic)}
    start = ends if to is To.LATEST else None
    origin = checkpoint.Origin(topic_id=topics.topic_id(settings, topic), start=start)
    folder = checkpoint.folder_of(settings, topic)
    if "://" in folder:
        text = msgspec.json.encode(origin).decode()
        raise PenstockError(
            f"only Spark reaches {folder}: do it by hand. Nothing was changed.",
            hint=f"rename the folder to {folder}.before-reset, then write {folder}/{checkpoint.ORIGIN}: {text}",
        )
    return checkpoint.checkpoint_of(settings, topic).begin_at(origin)
