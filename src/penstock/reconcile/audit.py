"""Facts and result of a reconciliation: what a record is, what a row is, and the outcome of each record.

stored    the table has a row of its id, from its offset or a later one, or a later tombstone deleted the row
deleted   it is a tombstone, and the table has no row of its id, or a row from a later offset
rejected  the dead-letter topic has it
filtered  the pipeline's transform dropped it: its ledger line counts filtered records
expired   its row is gone, and the TTL that the table had when the row was written has passed, or its own expiry
pruned    the ledger counts it as rejected, and its dead letter may lie below the dead-letter topic's log start
accepted  it is missing, and an operator has accepted that
waiting   the ledger has not reached its offset yet
missing   the ledger covers or has passed its offset, and it is not found in any store
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from penstock.broker.topics import Position
from penstock.contract.expiry import NEVER_MS
from penstock.contract.order import FIRST_RANK, Rank
from penstock.reconcile.coverage import Coverage

NAMED_AT_MOST = 100
"""Maximum number of differences of each kind that are listed individually."""
Named = dict[str, Any]
"""A difference: partition, offset, id and why."""


class DeadLetterCopy(NamedTuple):
    """A message of the dead-letter topic, and the position of its record, whose partition is -1 if it has none."""

    identity: str
    queue_partition: int
    """Its partition in the dead-letter topic."""
    time: datetime
    run: str
    is_shrunk: bool
    partition: int
    offset: int
    is_current: bool
    """Whether it belongs to the current topic incarnation. Records that never reached a topic count as current."""


class Sent(NamedTuple):
    """A record in Kafka. `id` is the text of its identity (`Identity.text_of`), None if it cannot be decoded."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    id: str | None
    is_deletion: bool
    run: str | None
    rank: Rank = FIRST_RANK
    digest: int = 0
    """Hash of the value, where an id may have only one version; 0 otherwise, and for a tombstone."""
    expired_from_ms: int = NEVER_MS
    """From when its row may be gone, because it expires by a field."""

    @property
    def order_us(self) -> int:
        """Return the record's place in the order of all records: its write timestamp minus the timestamp base."""
        return self.rank.shift_us + self.offset

    def is_replaced_at(self, order_us: int) -> bool:
        """Return whether a row or a tombstone of its id at this place in the order explains the record's absence.

        If `order_by` orders it, so does its own place: two versions that tie are reported as such.
        """
        return order_us > self.order_us or (self.rank.is_declared and order_us == self.order_us)


class RowPlace(NamedTuple):
    """Position in Kafka of a row's record. `shift_us` is its write timestamp minus timestamp base and offset."""

    partition: int
    offset: int
    shift_us: int = 0

    @property
    def order_us(self) -> int:
        """Return its place in the order of all records, as `Sent.order_us`."""
        return self.shift_us + self.offset

    @property
    def place(self) -> Position:
        """Return partition and offset."""
        return Position(self.partition, self.offset)


class RowAuthor(StrEnum):
    """Who wrote a row, according to its write timestamp."""

    TOPIC = "topic"
    """A record of the current topic incarnation."""
    OLDER = "older"
    """A record of an earlier incarnation."""
    HAND = "hand"
    """Another writer with a wall clock, over a row that came from a record."""
    UNKNOWN = "unknown"
    """Anything other than penstock."""


class Row(NamedTuple):
    """A row of the table. `id` is the text of its identity."""

    id: str
    writer: RowAuthor
    place: RowPlace | None = None
    """Set if the topic wrote the row."""
    is_mixed: bool = False
    """The topic wrote the row, and some of its columns were changed by hand."""
    changed_us: int | None = None
    """When the row was changed by hand."""


@dataclass
class Balance:
    """Outcomes of the records of one partition."""

    partition: int
    first: int
    end: int
    produced: int = 0
    stored: int = 0
    deleted: int = 0
    deleted_nothing: int = 0
    """The part of `deleted` whose ids had no row from earlier records."""
    rejected: int = 0
    filtered: int = 0
    expired: int = 0
    pruned: int = 0
    accepted: int = 0
    waiting: int = 0
    missing: int = 0
    compacted: int = 0
    """Records that the ledger counted and compaction removed. Not part of `produced`."""
    gaps: int = 0
    """Records that the ledger passed without a line, although they reached their destination."""
    doubled: int = 0
    """Offsets that one job recorded twice."""
    reread: int = 0
    """Offsets that a later job recorded again, from a new checkpoint."""


@dataclass
class Audit:
    """Outcomes of the records of some offset ranges."""

    balances: dict[int, Balance]
    covered: dict[int, Coverage] = field(default_factory=dict)
    """Coverage by the ledger, per partition."""
    refused: int = 0
    """Number of dead letters whose records never reached the topic."""
    known_ids: int = 0
    """Number of ids in the topic."""
    expected_ids: int = 0
    """Number of these ids that should have a row."""
    expected_rows: int = 0
    """Number of these ids that should have a row and have one."""
    other_rows: int = 0
    """Number of rows whose ids are not in the topic."""
    latency_ms: dict[str, int | None] = field(default_factory=dict)
    """Latency of the stored records: from Kafka's timestamp to the acknowledgement of the last row of the task's
    batch."""
    first_produced_ms: int = 0
    last_stored_ms: int = 0
    named: dict[str, list[Named]] = field(default_factory=lambda: defaultdict(list))
    """The first unaccepted differences of each kind."""
    differences: Counter[str] = field(default_factory=Counter)
    """Number of unaccepted differences of each kind."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Number of differences of each kind that an operator has accepted."""
    delivered: int = 0
    """Number of acknowledged positions at which Kafka holds a record."""
    runs: Counter[str] = field(default_factory=Counter)
    """Number of records that each run produced."""

    def total(self, name: str) -> int:
        """Return the sum over all partitions."""
        return sum(getattr(balance, name) for balance in self.balances.values())
