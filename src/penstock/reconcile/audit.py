"""A reconciliation's facts and result: what a record is, what a row is, and what became of the records.

stored    the table has a row of its id, from its offset or a later one, or a later tombstone took the row away
deleted   it is a tombstone, and the table has no row of its id, or one from a later offset
rejected  the dead-letter topic has it
filtered  the pipeline's transform dropped it: the ledger counts so many on its line
expired   its row is gone, and the TTL that the table had when the row was written has passed
pruned    the ledger counts it as rejected, and its dead letter may lie below the dead-letter topic's log start
accepted  it is missing, and an operator has accepted that
waiting   the ledger has not come to its offset yet
missing   the ledger covers its offset, or has gone past it, and it is nowhere
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from penstock.broker.topics import Place
from penstock.contract.order import FIRST_RANK, Rank
from penstock.reconcile.coverage import Coverage

NAMED_AT_MOST = 100
"""So many of each kind are named one by one."""
Named = dict[str, Any]
"""A difference: partition, offset, id and why."""


class Sent(NamedTuple):
    """A record as it lies in Kafka; `id` is None when it cannot be decoded."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    id: Any
    is_deletion: bool
    run: str | None
    rank: Rank = FIRST_RANK
    digest: int = 0
    """Of the value, where an id may have one only; else 0, and of a tombstone."""

    @property
    def order_us(self) -> int:
        """Its place in the order of all records: its write timestamp, from the generation's epoch on."""
        return self.rank.shift_us + self.offset

    def is_replaced_at(self, order_us: int) -> bool:
        """Return whether a row or a deletion of its id at this place in the order explains that it is not there.

        At its own place too where `order_by` says so: two versions that tie are named as such.
        """
        return order_us > self.order_us or (self.rank.is_declared and order_us == self.order_us)


class RowPlace(NamedTuple):
    """Where the record of a row was in Kafka, and what its write timestamp has beside the epoch and the offset."""

    partition: int
    offset: int
    shift_us: int = 0

    @property
    def order_us(self) -> int:
        """Its place in the order of all records, as `Sent.order_us`."""
        return self.shift_us + self.offset

    @property
    def place(self) -> Place:
        """Its partition and offset."""
        return Place(self.partition, self.offset)


class Writer(StrEnum):
    """Who wrote a row, by its write time."""

    TOPIC = "topic"
    """A record of the topic's present generation."""
    OLDER = "older"
    """One of an earlier generation."""
    HAND = "hand"
    """Somebody with a wall clock, over a row that came from a record."""
    UNKNOWN = "unknown"
    """Something else than penstock."""


class Row(NamedTuple):
    """A row of the table."""

    id: Any
    writer: Writer
    place: RowPlace | None = None
    """Of a row that the topic wrote."""
    is_mixed: bool = False
    """The topic wrote it, and some of its columns were changed by hand."""
    changed_us: int | None = None
    """When it was changed by hand."""


@dataclass
class Balance:
    """What became of the records of one partition."""

    partition: int
    first: int
    end: int
    produced: int = 0
    stored: int = 0
    deleted: int = 0
    deleted_nothing: int = 0
    """Of those deleted: tombstones whose id had no row from the records before them."""
    rejected: int = 0
    filtered: int = 0
    expired: int = 0
    pruned: int = 0
    accepted: int = 0
    waiting: int = 0
    missing: int = 0
    compacted: int = 0
    """Records that the ledger counted and compaction removed: no part of those produced."""
    gaps: int = 0
    """Records that the ledger went past without a line, though they are where they should be."""
    doubled: int = 0
    """Offsets that one job recorded twice."""
    reread: int = 0
    """Offsets that a later job recorded again, from a new checkpoint."""


@dataclass
class Audit:
    """What became of the records of some spans."""

    balances: dict[int, Balance]
    covered: dict[int, Coverage] = field(default_factory=dict)
    """What the ledger said, by partition."""
    refused: int = 0
    """How many dead letters are of records that never got to the topic."""
    known_ids: int = 0
    """How many ids were found in the topic."""
    expected_ids: int = 0
    """How many of these are to have a row."""
    expected_rows: int = 0
    """How many of these have it."""
    other_rows: int = 0
    """Rows of ids that were not found in the topic."""
    latency_ms: dict[str, int | None] = field(default_factory=dict)
    """Of each stored record: from Kafka's timestamp to the acknowledgement of the last row of its task's batch."""
    first_produced_ms: int = 0
    last_stored_ms: int = 0
    named: dict[str, list[Named]] = field(default_factory=lambda: defaultdict(list))
    """The first differences of each kind that nobody has accepted."""
    differences: Counter[str] = field(default_factory=Counter)
    """How many there are of each kind."""
    accepted: Counter[str] = field(default_factory=Counter)
    """How many an operator has accepted."""
    delivered: int = 0
    """How many records lie where Kafka acknowledged one."""
    runs: Counter[str] = field(default_factory=Counter)
    """How many records each run produced."""

    def total(self, name: str) -> int:
        """The sum over all partitions."""
        return sum(getattr(balance, name) for balance in self.balances.values())
