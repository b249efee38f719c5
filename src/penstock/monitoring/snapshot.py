"""The pipeline at one moment: what the alert watcher, pages, API and metrics show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.contract.failing import FailingBatch

RATE_S = 10.0
"""Rates are averaged over this period."""


@dataclass(frozen=True)
class Counts:
    """Number of records at each stage. Counts only grow while the topic and the ledger stay the same."""

    fetched: int | None = None
    """Records fetched by the runs in `PipelineState.run_totals` and by active runs; null while any active run's
    progress is unknown."""
    produced: int | None = None
    """Records produced by the same runs; null under the same condition."""
    kafka: int | None = None
    """Sum of the topic's end offsets."""
    read: int | None = None
    """Sum of the offsets that the ledger reaches."""
    stored: int | None = None
    """Rows acknowledged, as counted by the ledger."""
    rejected: int | None = None
    """Sum of the dead-letter topic's end offsets."""


@dataclass(frozen=True)
class PartitionProgress:
    """A partition of the topic. `reached` is the offset that the ledger reaches, null if unknown."""

    partition: int
    first: int
    end: int
    reached: int | None

    @property
    def lag_records(self) -> int | None:
        """Return the number of records that are not stored yet; None if unknown."""
        return None if self.reached is None else max(0, self.end - max(self.first, self.reached))


class Growth(NamedTuple):
    """Records of the last `over_s` seconds, at most five minutes.

    `received` counts the records received or processed, whichever are more; `rejected` counts dead letters.
    """

    received: int
    rejected: int
    over_s: float


@dataclass(frozen=True)
class Receipt:
    """Result of the last `verify`."""

    balanced: bool
    missing: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """The pipeline at one moment. None means unknown, because a service is unavailable.

    `services` maps each service to its error, or to an empty string. Only a `Monitor` follows runs and ledger entries:
    without one, what it counts is unknown.
    """

    at_s: float
    topic: str
    services: Mapping[str, str] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    lag_records: int | None = None
    partitions: list[PartitionProgress] = field(default_factory=list)
    topic_records: int | None = None
    """Offsets that the topic holds."""
    dead_letter_records: int | None = None
    """Offsets that the dead-letter topic holds."""
    newest_record_s: float | None = None
    growth: Growth | None = None
    p50_ms: int | None = None
    p99_ms: int | None = None
    """Latencies of the rows stored in the last five minutes; also None if there are none."""
    receipt: Receipt | None = None
    change: str | None = None
    """Evidence that the topic was recreated since the job read it; empty if it was not."""
    stuck: tuple[FailingBatch, ...] | None = None
    """The batches on which the stream is stuck."""


def compute_rate(snapshots: Sequence[Snapshot], count: str, over_s: float = RATE_S) -> float | None:
    """Return the rate of one of the `Counts` up to the last snapshot, in records per second over `over_s`.

    None if it is unknown, or the count was reset.
    """
    if len(snapshots) < 2:
        return None
    last = snapshots[-1]
    first = next(snapshot for snapshot in snapshots if last.at_s - snapshot.at_s <= over_s or snapshot is snapshots[-2])
    before, after = getattr(first.counts, count), getattr(last.counts, count)
    if before is None or after is None or after < before:
        return None
    return float(after - before) / (last.at_s - first.at_s)
