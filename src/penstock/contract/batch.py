"""Data passed from decode to write (rows, deletions and rejects), and what write returns: a summary per partition."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from penstock.contract.composites import JSON
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.fields import fields
from penstock.contract.latency import Histogram, build_histogram, merge_histograms
from penstock.contract.record import Headers, Record, build_null

_JSON_NULL = build_null()

Row = tuple[Record, int, int, int]
"""Record, Kafka timestamp in ms, partition, offset."""


class Deletion(NamedTuple):
    """A null value, Kafka's tombstone: deletes the row of `key`, a record's id."""

    key: Any
    timestamp_ms: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that a stage cannot use, byte for byte as received, and its fault. It is to be dead-lettered.

    `partition` and `offset` are its position in `topic`; the partition is -1 if it never reached Kafka. Its dead letter
    (`dead_letters.message`) has a position and a time of its own. Spark carries rejects between processes.
    """

    fault: Fault
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None = None
    """Kafka's timestamp; None if unknown, -1 if Kafka has none."""

    @property
    def has_bytes(self) -> bool:
        """Return whether key and value are available: a record that failed after decoding has only its position.

        A tombstone without a key has another reason.
        """
        is_late = self.fault.reason in (Reason.PROCESSING_ERROR, Reason.CONTRACT_BROKEN)
        failed_later = is_late and self.key is None and self.value is None
        return self.fault.stage != Stage.TRANSFORM and not failed_later


@dataclass(slots=True)
class Decoded:
    """A batch of decoded records. A write timestamp is the incarnation's `epoch_us`, plus a shift, plus the offset.

    `shifts` holds the shifts of single records by partition and offset, `shift_us` that of all others
    (`contract.order`).
    """

    rows: list[Row] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    shift_us: int = 0
    shifts: dict[tuple[int, int], int] = field(default_factory=dict)

    def write_times_us(self, items: Sequence[Row | Deletion], epoch_us: int) -> list[int]:
        """Return the write timestamps, in us, of some of its rows or deletions."""
        base_us = epoch_us + self.shift_us
        if not self.shifts:
            return [base_us + item[3] for item in items]
        shifts, usual_us = self.shifts, self.shift_us
        return [epoch_us + shifts.get(item[2:], usual_us) + item[3] for item in items]

    def resolve_ties(self, key_of_record: Callable[[Record], Any]) -> tuple[list[Row], list[Deletion]]:
        """Return the rows and deletions, without those replaced by another with the same id and write timestamp.

        Of several, only the one at the last position is kept: Cassandra would mix their columns.
        """
        keys = [*(key_of_record(row[0]) for row in self.rows), *(deletion.key for deletion in self.deletions)]
        times = [*self.write_times_us(self.rows, 0), *self.write_times_us(self.deletions, 0)]
        positions = [item[2:] for item in (*self.rows, *self.deletions)]
        last: dict[tuple[Any, int], tuple[int, ...]] = {}
        for version, position in zip(zip(keys, times, strict=True), positions, strict=True):
            last[version] = max(position, last.get(version, position))
        if len(last) == len(positions):
            return self.rows, self.deletions
        kept = set(last.values())
        rows = [row for row in self.rows if row[2:] in kept]
        return rows, [deletion for deletion in self.deletions if deletion[2:] in kept]

    def reject(self, rejects: list[Reject]) -> None:
        """Add `rejects`, and remove the rows and deletions at their positions."""
        if rejects:
            positions = {(reject.partition, reject.offset) for reject in rejects}
            self.rows = [row for row in self.rows if row[2:] not in positions]
            self.deletions = [deletion for deletion in self.deletions if deletion[2:] not in positions]
            self.rejects += rejects


class BatchSummary(NamedTuple):
    """Outcome of an offset range of one partition. `first_offset` and `last_offset` are both inclusive.

    records = stored + deleted + rejected + filtered. A row that had expired when it was written, by a field of its
    record, counts as stored, although it was written as a deletion. `stored_at_ms` is when the last of them was
    acknowledged. `nulls` counts the stored rows in which a column is null, for columns in which that occurred.
    `latencies` counts the stored rows by latency, measured from Kafka's timestamp.
    """

    partition: int
    first_offset: int
    last_offset: int
    records: int
    stored: int
    deleted: int
    rejected: int
    filtered: int
    stored_at_ms: int
    nulls: dict[str, int]
    latencies: Histogram


SUMMARY_DDL = (
    "partition INT, first_offset BIGINT, last_offset BIGINT, records BIGINT, stored BIGINT, deleted BIGINT, "
    "rejected BIGINT, filtered BIGINT, stored_at_ms BIGINT, nulls MAP<STRING, BIGINT>, latencies MAP<INT, BIGINT>"
)
"""Spark schema of a `BatchSummary`."""


def merge_summaries(summaries: Iterable[BatchSummary]) -> list[BatchSummary]:
    """Return one summary per partition, in partition order."""
    merged: dict[int, BatchSummary] = {}
    for summary in summaries:
        other = merged.get(summary.partition)
        merged[summary.partition] = summary if other is None else _add_summaries(summary, other)
    return [merged[partition] for partition in sorted(merged)]


def _add_summaries(first: BatchSummary, second: BatchSummary) -> BatchSummary:
    return BatchSummary(
        partition=first.partition,
        first_offset=min(first.first_offset, second.first_offset),
        last_offset=max(first.last_offset, second.last_offset),
        records=first.records + second.records,
        stored=first.stored + second.stored,
        deleted=first.deleted + second.deleted,
        rejected=first.rejected + second.rejected,
        filtered=first.filtered + second.filtered,
        stored_at_ms=max(first.stored_at_ms, second.stored_at_ms),
        nulls=dict(Counter(first.nulls) + Counter(second.nulls)),
        latencies=merge_histograms([first.latencies, second.latencies]),
    )


def summarize_batch(decoded: Decoded, stored_at_ms: int) -> list[BatchSummary]:
    """Return the summaries of a written batch, by partition: rows stored, deletions applied, rejects dead-lettered."""
    stored = _by_partition((partition, offset) for _, _, partition, offset in decoded.rows)
    latencies = _by_partition((partition, stored_at_ms - sent_ms) for _, sent_ms, partition, _ in decoded.rows)
    deleted = _by_partition((deletion.partition, deletion.offset) for deletion in decoded.deletions)
    rejected = _by_partition((reject.partition, reject.offset) for reject in decoded.rejects)
    nulls = _count_nulls(decoded.rows)
    summaries = []
    for partition in sorted({*stored, *deleted, *rejected}):
        offsets = stored[partition] + deleted[partition] + rejected[partition]
        summary = BatchSummary(
            partition=partition,
            first_offset=min(offsets),
            last_offset=max(offsets),
            records=len(offsets),
            stored=len(stored[partition]),
            deleted=len(deleted[partition]),
            rejected=len(rejected[partition]),
            filtered=0,
            stored_at_ms=stored_at_ms,
            nulls=dict(nulls[partition]),
            latencies=build_histogram(latencies[partition]),
        )
        summaries.append(summary)
    return summaries


def _by_partition(pairs: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the numbers paired with each partition."""
    sorted_in: dict[int, list[int]] = defaultdict(list)
    for partition, number in pairs:
        sorted_in[partition].append(number)
    return sorted_in


def _count_nulls(rows: list[Row]) -> dict[int, Counter[str]]:
    """Return how often each column is null, by partition."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    columns = fields(type(rows[0][0])) if rows else ()
    nullable = [(each.column, _JSON_NULL if each.kind is JSON else None) for each in columns if each.nullable]
    for name, null in nullable:
        for record, _, partition, _ in rows:
            value = getattr(record, name)
            if value is None or (null is not None and value == null):
                counts[partition][name] += 1
    return counts
