"""The streaming query: whether it runs, its latest micro-batches, and its failures, from Cassandra."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cassandra.cluster import Session

from penstock.config import Settings
from penstock.contract.failing import FailingBatch, stuck_batches
from penstock.process.checkpoint import folder_of
from penstock.sink import cassandra, lease
from penstock.sink.failing_batches import FailingBatches
from penstock.sink.lease import Holder
from penstock.sink.progress import Batch, Failure, Progress

State = Literal["running", "waiting", "stuck", "starting", "stopped", "unknown"]
_BACK_OFF_S = 35.0
"""The job retries after at most half a minute."""
TOTAL = "triggerExecution"
PHASES = {
    "latestOffset": "gets the latest offsets from Kafka",
    "walCommit": "writes the offsets of the batch to the checkpoint",
    "getBatch": "creates the DataFrame of these offsets",
    "queryPlanning": "plans the query",
    "addBatch": "reads, validates and writes the records, then the ledger",
    "commitOffsets": "marks the batch as committed in the checkpoint",
}
"""The phases of a micro-batch, in order, by Spark's names."""
OTHER = "other"


@dataclass(frozen=True)
class QueryStatus:
    """State of the query. `owner` is the process that owns the checkpoint, `since` the start of its ownership."""

    state: State
    told: str
    checkpoint: str
    owner: str | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class StreamFacts:
    """What Cassandra stores about the stream: its owner, and the latest batches and failures, newest first."""

    holder: Holder | None
    batches: list[Batch]
    failures: list[Failure]
    elsewhere: list[str] = field(default_factory=list)
    """Other checkpoints for this topic that a job owns."""
    stuck: list[FailingBatch] = field(default_factory=list)
    """The batches on which the stream is stuck."""


def read_facts(
    settings: Settings, keyspace: str, topic: str, session: Callable[[], Session], batches: int
) -> StreamFacts:
    """Return what Cassandra has now. Raises `CassandraUnreachable`."""
    with cassandra.translate_errors(settings):
        connected = session()
        progress, ours = Progress(connected, keyspace, topic), folder_of(settings, topic)
        failing = FailingBatches(connected, keyspace, topic).read()
        return StreamFacts(
            holder=lease.read_holder(connected, keyspace, ours),
            batches=progress.batches(batches),
            failures=progress.failures(),
            elsewhere=[
                name
                for name in lease.list_held_names(connected, keyspace)
                if name.endswith(f"/{topic}") and name != ours
            ],
            stuck=stuck_batches([batch for batch in failing if batch.checkpoint == ours], ours, {}),
        )


def describe_query(facts: StreamFacts, checkpoint: str, process: str = "", now: datetime | None = None) -> QueryStatus:
    """Return the state of the query. `process` is the state of the job's process, if known."""
    owner = facts.holder
    if owner is None and facts.elsewhere:
        details = (
            f"a job runs with the checkpoint {facts.elsewhere[0]}, but PENSTOCK_SPARK_CHECKPOINT is different here"
        )
        return QueryStatus("unknown", details, checkpoint)
    if owner is None or owner.is_dead:
        return _without_owner(checkpoint, process, died=owner is not None)
    if facts.stuck:
        details = facts.stuck[0].notice
        return QueryStatus("stuck", details, checkpoint, str(owner.owner), owner.since)
    failure = facts.failures[0] if facts.failures else None
    ago_s = ((now or datetime.now(UTC)) - failure.at).total_seconds() if failure else 0.0
    is_retrying = not has_recovered(facts) and ago_s < _BACK_OFF_S
    if process == "stopping":
        return QueryStatus(
            "running", "finishing the batch in flight, then stopping", checkpoint, str(owner.owner), owner.since
        )
    if is_retrying:
        details = f"failed {ago_s:.0f} s ago; retrying automatically"
        return QueryStatus("waiting", details, checkpoint, str(owner.owner), owner.since)
    details = "processing records as they arrive"
    return QueryStatus("running", details, checkpoint, str(owner.owner), owner.since)


def _without_owner(checkpoint: str, process: str, *, died: bool) -> QueryStatus:
    if process in {"starting", "ready", "failing"}:
        return QueryStatus("starting", "the job's process is running; its query has not started yet", checkpoint)
    if process == "restarting":
        return QueryStatus("waiting", "the job exited and is being restarted", checkpoint)
    if process == "dead":
        return QueryStatus("stopped", "the job exited too often and is no longer restarted automatically", checkpoint)
    reason = "its process was killed" if died else "no job owns the checkpoint"
    return QueryStatus("stopped", f"{reason}; records stay in Kafka, none are lost", checkpoint)


def has_recovered(facts: StreamFacts) -> bool:
    """Return whether a batch succeeded after the newest failure, or there is no failure."""
    if not facts.failures:
        return True
    return bool(facts.batches) and facts.batches[0].began_at >= facts.failures[0].at


def phases_ms(batch: Batch) -> dict[str, int]:
    """Return the batch's time by phase; time that Spark does not name is `other`."""
    known = {name: batch.durations_ms.get(name, 0) for name in PHASES}
    return known | {OTHER: max(0, batch.durations_ms.get(TOTAL, 0) - sum(known.values()))}


def phase_shares(batches: Iterable[Batch]) -> Mapping[str, float]:
    """Return each phase's share of the batches' total time; empty if that is 0."""
    took = dict.fromkeys([*PHASES, OTHER], 0)
    for batch in batches:
        for name, ms in phases_ms(batch).items():
            took[name] += ms
    total = sum(took.values())
    return {name: ms / total for name, ms in took.items()} if total else {}
