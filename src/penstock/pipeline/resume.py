"""Where a job resumes if the ledger ends before its checkpoint: the keyspace was restored from an older snapshot.

Spark commits a batch after its entries are in the ledger. A ledger that ends earlier is older, and so are the rows next
to it: the query starts again where the ledger ends, not at a checkpoint that is ahead of it.
"""

from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.log import get_logger
from penstock.process.checkpoint import Checkpoint, CheckpointOrigin, Offsets, check_fits
from penstock.sink.ledger import Ledger

log = get_logger(__name__)


class Behind(NamedTuple):
    """A partition whose ledger ends at the offset `ledger` although the checkpoint is at `checkpoint`."""

    partition: int
    ledger: int
    checkpoint: int

    def __str__(self) -> str:
        return f"partition {self.partition}: the ledger ends at {self.ledger}, the checkpoint is at {self.checkpoint}"


def resume_from_ledger(checkpoint: Checkpoint, ledger: Ledger, topic_id: str, settings: Settings) -> str:
    """Restart the checkpoint where the ledger ends, if that is earlier. Returns a description, or '' if unchanged.

    The previous checkpoint is kept. Raises `CheckpointRefused` if Kafka no longer holds the next records.
    """
    position = checkpoint.read_position()
    if position is None or not position.begun:
        return ""
    behind = find_behind(position.first, checkpoint.read_beginning(), ledger, settings)
    if not behind:
        return ""
    start = position.first | {each.partition: each.ledger for each in behind}
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    note = f"{moment}: resumed from the ledger, which ends before the checkpoint: {'; '.join(map(str, behind))}"
    kept = checkpoint.begin_at(CheckpointOrigin(topic_id=topic_id, start=start, note=note))
    log.warning("resumed_from_ledger", behind=[each._asdict() for each in behind], checkpoint_kept_as=kept)
    check_fits(checkpoint, topics.fetch_offset_ranges(settings, checkpoint.topic), topic_id)
    return note


def find_behind(first: Offsets, beginning: Offsets, ledger: Ledger, settings: Settings) -> list[Behind]:
    """Return the partitions with records before the checkpoint, at `first`, that the ledger does not hold.

    The query began at `beginning`, or at 0 in partitions missing there. Earlier records were never its own.
    """
    ends = {
        partition: ledger.reached(OffsetRange(partition, min(at, beginning.get(partition, 0)), at))
        for partition, at in first.items()
    }
    unread = [
        OffsetRange(partition, ends[partition], at) for partition, at in sorted(first.items()) if ends[partition] < at
    ]
    available = (
        {offset_range.partition: offset_range for offset_range in topics.fetch_offset_ranges(settings, ledger.topic)}
        if unread
        else {}
    )
    return [
        Behind(offset_range.partition, offset_range.first, offset_range.end)
        for offset_range in unread
        if offset_range.partition in available
        and _has_record(offset_range, available[offset_range.partition], ledger.topic, settings)
    ]


def _has_record(offset_range: OffsetRange, available: OffsetRange, topic: str, settings: Settings) -> bool:
    """Return whether Kafka holds a record of `offset_range`. All of its offsets may belong to transaction markers."""
    still_available = OffsetRange(
        offset_range.partition, max(offset_range.first, available.first), min(offset_range.end, available.end)
    )
    if still_available.records <= 0:
        log.warning(
            "ledger_not_comparable",
            partition=offset_range.partition,
            ledger=offset_range.first,
            log_start=available.first,
        )
        return False
    with closing(topics.read_records(settings, topic, [still_available])) as records:
        return next(records, None) is not None
