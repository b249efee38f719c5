"""Progress of the readers: Kafka's consumer groups, and the Spark query, which commits nothing to Kafka."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cassandra.cluster import Session
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from penstock import pipelines
from penstock.broker.kafka import translate_error
from penstock.config import Settings
from penstock.contract.names import REGISTRY_TOPICS
from penstock.errors import PenstockError
from penstock.monitoring.services import TIMEOUT_S
from penstock.monitoring.snapshot import PartitionProgress
from penstock.process.checkpoint import checkpoint_of
from penstock.sink import cassandra
from penstock.sink.progress import Progress
from penstock.web.topics.inventory import read_ranges

MOST_GROUPS = 200


@dataclass(frozen=True)
class Reach:
    """A group's progress in a partition. `lag` is null if Kafka does not report the partition's end offset."""

    topic: str
    partition: int
    committed: int
    end: int | None
    lag: int | None
    client: str
    """Client id of the member that reads the partition; empty if there is none."""


@dataclass(frozen=True)
class ConsumerGroup:
    """A consumer group. A stale group has no members and never will: its lag is meaningless, and null."""

    name: str
    state: str
    members: int
    is_registry: bool
    is_stale: bool
    lag: int | None
    reaches: list[Reach] = field(default_factory=list)


@dataclass(frozen=True)
class CommittedPosition:
    """The Spark query's progress in a partition. Null means unknown.

    `planned` is the offset where the checkpoint's next batch begins, `reported` the offset where the newest batch
    reported by Spark ended, `recorded` the offset that the ledger reaches. `lag` counts from `recorded`, or from
    `planned` if that is null.
    """

    partition: int
    first: int
    end: int
    planned: int | None
    reported: int | None
    recorded: int | None
    lag: int | None


@dataclass(frozen=True)
class Positions:
    """The Spark query's positions. `problems` lists what could not be read, and why."""

    topic: str
    checkpoint: str
    partitions: list[CommittedPosition]
    lag: int | None
    reported_at: datetime | None
    batch_id: int | None
    problems: list[str]


def list_groups(client: AdminClient, settings: Settings) -> list[ConsumerGroup]:
    """Return the consumer groups, first those with members, stale groups last. Raises `KafkaUnreachable`."""
    try:
        names = _list_group_ids(client)[:MOST_GROUPS]
        described = _collect_results(client.describe_consumer_groups(names, request_timeout=TIMEOUT_S)) if names else {}
        committed = _fetch_committed(client, [name for name in names if not _is_forgotten(name, described.get(name))])
        ends = _fetch_end_offsets(
            client, {(offset.topic, offset.partition) for listed in committed.values() for offset in listed}
        )
    except KafkaException as error:
        raise translate_error(error, "reading the consumer groups", settings) from error
    listed = [_build_group(name, described[name], committed.get(name, []), ends) for name in names if name in described]
    return sorted(listed, key=lambda offset: (offset.is_stale, offset.is_registry, not offset.members, offset.name))


def _list_group_ids(client: AdminClient) -> list[str]:
    listed = client.list_consumer_groups(request_timeout=TIMEOUT_S).result()
    if listed.errors:
        raise KafkaException(listed.errors[0])
    return sorted(group.group_id for group in listed.valid)


def _collect_results(asked: dict[Any, "Future[Any]"]) -> dict[Any, Any]:
    """Return the answers that are not errors: a group may have been deleted meanwhile."""
    results = {}
    for name, future in asked.items():
        try:
            results[name] = future.result()
        except KafkaException:
            continue
    return results


def _is_forgotten(name: str, described: Any) -> bool:
    """Return whether a registry created the group at an earlier start: Apicurio creates a new group at each."""
    return name.startswith("apicurio") and (described is None or not described.members)


def _fetch_committed(client: AdminClient, names: Iterable[str]) -> dict[str, list[TopicPartition]]:
    asked: dict[str, Future[Any]] = {}
    for name in names:
        asked |= client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], request_timeout=TIMEOUT_S)
    answers = _collect_results(asked).items()
    return {name: [offset for offset in answer.topic_partitions if offset.offset >= 0] for name, answer in answers}


def _fetch_end_offsets(client: AdminClient, partitions: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
    asked = {TopicPartition(*partition): OffsetSpec.latest() for partition in partitions}
    answers = _collect_results(client.list_offsets(asked, request_timeout=TIMEOUT_S)) if asked else {}
    return {(partition.topic, partition.partition): answer.offset for partition, answer in answers.items()}


def _build_group(
    name: str, described: Any, committed: list[TopicPartition], ends: dict[tuple[str, int], int]
) -> ConsumerGroup:
    clients = {
        (part.topic, part.partition): member.client_id
        for member in described.members
        for part in (member.assignment.topic_partitions if member.assignment else [])
    }
    reaches = [
        _measure_lag(offset, ends, clients)
        for offset in sorted(committed, key=lambda offset: (offset.topic, offset.partition))
    ]
    is_registry = name.startswith("apicurio") or (
        bool(reaches) and all(offset.topic in REGISTRY_TOPICS for offset in reaches)
    )
    is_stale = is_registry and not described.members
    lags = [offset.lag for offset in reaches]
    known = [offset for offset in lags if offset is not None]
    return ConsumerGroup(
        name=name,
        state=_format_state(described.state),
        members=len(described.members),
        is_registry=is_registry,
        is_stale=is_stale,
        lag=None if is_stale or len(known) < len(lags) else sum(known),
        reaches=[] if is_stale else reaches,
    )


def _format_state(state: ConsumerGroupState) -> str:
    return str(state.name).lower().replace("_", " ")


def _measure_lag(
    offset: TopicPartition, ends: dict[tuple[str, int], int], clients: dict[tuple[str, int], str]
) -> Reach:
    key = offset.topic, offset.partition
    end = ends.get(key)
    lag = None if end is None else max(0, end - offset.offset)
    return Reach(offset.topic, offset.partition, offset.offset, end, lag, clients.get(key, ""))


def read_positions(
    client: AdminClient, settings: Settings, session: Callable[[], Session], recorded: dict[int, int | None]
) -> Positions:
    """Return the progress of the Spark query. `recorded` is the offset that the ledger reaches, per partition.

    A checkpoint or a table that cannot be read is listed in `problems`. Raises `KafkaUnreachable`, or `NotFound` if the
    topic does not exist yet.
    """
    pipeline = pipelines.of(settings)
    ranges = read_ranges(client, settings, pipeline.topic)
    problems: list[str] = []
    planned = _read_planned_offsets(settings, pipeline.topic, problems)
    reported = _read_newest_batch(settings, session, problems)
    ended = reported.positions if reported else {}
    partitions = []
    for offset_range in ranges:
        at, ledger = planned.get(offset_range.partition), recorded.get(offset_range.partition)
        known = at if ledger is None else ledger
        lag = PartitionProgress(offset_range.partition, offset_range.first, offset_range.end, known).lag_records
        partitions.append(
            CommittedPosition(
                offset_range.partition,
                offset_range.first,
                offset_range.end,
                at,
                ended.get(offset_range.partition),
                ledger,
                lag,
            )
        )
    lags = [position.lag for position in partitions if position.lag is not None]
    return Positions(
        topic=pipeline.topic,
        checkpoint=f"{settings.checkpoint}/{pipeline.topic}",
        partitions=partitions,
        lag=sum(lags) if len(lags) == len(partitions) else None,
        reported_at=reported and reported.began_at,
        batch_id=reported and reported.batch_id,
        problems=problems,
    )


def _read_planned_offsets(settings: Settings, topic: str, problems: list[str]) -> dict[int, int]:
    try:
        position = checkpoint_of(settings, topic).read_position()
    except (PenstockError, OSError) as error:
        problems.append(f"cannot read the checkpoint: {getattr(error, 'message', error)}")
        return {}
    return position.first if position else {}


def _read_newest_batch(settings: Settings, session: Callable[[], Session], problems: list[str]) -> Any:
    pipeline = pipelines.of(settings)
    try:
        with cassandra.translate_errors(settings):
            progress = Progress(session(), cassandra.keyspace_of(settings, pipeline), pipeline.topic)
            return next(iter(progress.batches(1)), None)
    except PenstockError as error:
        problems.append(f"cannot read the newest batch: {error.message}")
    return None
