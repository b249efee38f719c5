"""A micro-batch that keeps failing, and when the stream is stuck on it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from penstock import remedies

State = Literal["retrying", "transform_failed"]

STUCK_AFTER = timedelta(seconds=60)
"""A batch that has been failing for this long is stuck: a restarting service usually takes less."""


@dataclass(frozen=True)
class FailingBatch:
    """A batch that failed and has not succeeded since.

    `first` and `end` are the offsets per partition that it covers, half open; empty if unknown. `cause` is short, names
    the line of the user's code if there is one, and never quotes a record; `message` may.
    """

    checkpoint: str
    batch_id: int
    first: Mapping[int, int]
    end: Mapping[int, int]
    failures: int
    first_at: datetime
    last_at: datetime
    state: State
    cause: str
    message: str

    def is_stuck(self, now: datetime | None = None) -> bool:
        """Return whether retrying has not helped, or cannot."""
        if self.state == "transform_failed":
            return True
        return (now or datetime.now(UTC)) - self.first_at >= STUCK_AFTER

    def is_past(self, reached: Mapping[int, int]) -> bool:
        """Return whether the ledger has reached the batch's end, so that it must have succeeded since."""
        return bool(self.end) and all(reached.get(partition, 0) >= end for partition, end in self.end.items())

    def is_current(self, checkpoint: str, reached: Mapping[int, int]) -> bool:
        """Return whether the batch still counts. The job at `checkpoint` resolves its own batches.

        A batch of another checkpoint is over once the ledger is past it; `reached` holds the ledger's ends by
        partition.
        """
        return self.checkpoint == checkpoint or not self.is_past(reached)

    @property
    def position(self) -> str:
        """Return the offset ranges that are not stored, both ends inclusive: `0:17 to 0:20`."""
        ranges = [
            f"{partition}:{self.first.get(partition, 0)} to {partition}:{end - 1}"
            for partition, end in sorted(self.end.items())
            if end > self.first.get(partition, 0)
        ]
        return ", ".join(ranges) or "unknown position"

    @property
    def summary(self) -> str:
        """Return what is stuck, where, since when and why, in one line that quotes no record."""
        since = self.first_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        tries = "1 failure" if self.failures == 1 else f"{self.failures} failures"
        return f"the stream is stuck on batch {self.batch_id} ({self.position}) since {since}, {tries}: {self.cause}"

    @property
    def remedy(self) -> str:
        """Return what to do about it."""
        if self.state == "transform_failed":
            return f"correct transform in the pipeline's file, then {remedies.restart('spark-job')}"
        return f"the batch is retried until it succeeds: {remedies.show_logs('spark-job')}"

    @property
    def notice(self) -> str:
        """Return the summary and the remedy, in one line."""
        return f"{self.summary}; {self.remedy}"


def stuck_batches(
    batches: Iterable[FailingBatch], checkpoint: str, reached: Mapping[int, int], now: datetime | None = None
) -> list[FailingBatch]:
    """Return the batches on which a stream is stuck now; `checkpoint` is that of the effective settings."""
    return [batch for batch in batches if batch.is_stuck(now) and batch.is_current(checkpoint, reached)]
