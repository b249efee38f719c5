"""What passes from decode to write: rows and rejects; and what write gives back: a tally per partition."""

from dataclasses import dataclass
from typing import NamedTuple

from penstock.contract.record import Record
from penstock.contract.reject import Reject

Row = tuple[Record, int, int, int]
"""A record, its Kafka timestamp in ms, its partition, its offset."""


@dataclass(slots=True)
class Decoded:
    """A batch of decoded records."""

    rows: list[Row]
    rejects: list[Reject]


class Tally(NamedTuple):
    """What became of a stretch of one partition. `first_offset` and `last_offset` are both part of it.

    records = stored + rejected + filtered; `stored_at_ms` is when the last of them was acknowledged.
    """

    partition: int
    first_offset: int
    last_offset: int
    records: int
    stored: int
    rejected: int
    filtered: int
    stored_at_ms: int


TALLY_DDL = (
    "partition INT, first_offset BIGINT, last_offset BIGINT, records BIGINT, stored BIGINT, rejected BIGINT, "
    "filtered BIGINT, stored_at_ms BIGINT"
)
"""A `Tally` as Spark schema."""


def merge(tallies: list[Tally]) -> list[Tally]:
    """One tally per partition, in partition order."""
    merged: dict[int, Tally] = {}
    for one in tallies:
        other = merged.get(one.partition)
        merged[one.partition] = one if other is None else _add(one, other)
    return [merged[partition] for partition in sorted(merged)]


def _add(one: Tally, other: Tally) -> Tally:
    return Tally(
        partition=one.partition,
        first_offset=min(one.first_offset, other.first_offset),
        last_offset=max(one.last_offset, other.last_offset),
        records=one.records + other.records,
        stored=one.stored + other.stored,
        rejected=one.rejected + other.rejected,
        filtered=one.filtered + other.filtered,
        stored_at_ms=max(one.stored_at_ms, other.stored_at_ms),
    )


def tally(decoded: Decoded, stored_at_ms: int) -> list[Tally]:
    """The tallies of one batch whose rows were stored and whose rejects were set aside."""
    places = [(partition, offset) for _, _, partition, offset in decoded.rows]
    stored = _count(places, stored_at_ms, is_stored=True)
    rejected = _count([(one.partition, one.offset) for one in decoded.rejects], stored_at_ms, is_stored=False)
    return merge(stored + rejected)


def _count(places: list[tuple[int, int]], stored_at_ms: int, *, is_stored: bool) -> list[Tally]:
    offsets: dict[int, list[int]] = {}
    for partition, offset in places:
        offsets.setdefault(partition, []).append(offset)
    return [
        Tally(
            partition=partition,
            first_offset=min(found),
            last_offset=max(found),
            records=len(found),
            stored=len(found) if is_stored else 0,
            rejected=0 if is_stored else len(found),
            filtered=0,
            stored_at_ms=stored_at_ms,
        )
        for partition, found in offsets.items()
    ]
