"""An audit: every record that lies in Kafka, looked for in the ledger, the table and the dead-letter topic.

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

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from penstock.broker.dlq import Letter
from penstock.broker.topics import Place, Span
from penstock.contract.order import FIRST_RANK, Rank
from penstock.observe.compaction import KEPT, Remains
from penstock.observe.coverage import Coverage
from penstock.observe.evidence import Evidence
from penstock.observe.lines import Lines, name
from penstock.observe.versions import Home, SingleVersions, Versions
from penstock.sink.ledger import Line

NAMED_AT_MOST = 100
"""So many of each kind are named one by one."""


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


@dataclass
class Rows:
    """What the table holds: by id, the place of each row that was written from the topic's present generation."""

    places: dict[Any, RowPlace] = field(default_factory=dict)
    older: int = 0
    """Rows from records of an earlier topic of this name."""
    foreign: list[Any] = field(default_factory=list)
    """Ids of rows that something else than penstock wrote."""
    changed: dict[Any, int | None] = field(default_factory=dict)
    """Ids of rows changed by hand, and when, in us; None where other columns were than the one that tells the time."""


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
    rejected: list[str] = field(default_factory=list)
    """The identity of each letter, those of records which never got to the topic too."""
    refused: int = 0
    """How many of these never got to the topic."""
    ids: dict[Any, bool] = field(default_factory=dict)
    """The ids found, and whether the last record of each is to have a row."""
    waiting_ids: set[Any] = field(default_factory=set)
    """The ids of waiting records: their rows may be there before the ledger says so."""
    latencies_ms: list[int] = field(default_factory=list)
    """Of each stored record: from Kafka's timestamp to the acknowledgement of the last row of its task's batch."""
    first_produced_ms: int = 0
    last_stored_ms: int = 0
    missing_records: list[dict[str, Any]] = field(default_factory=list)
    """The first hundred: partition, offset, id, and why."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """The first hundred."""
    unordered: list[dict[str, Any]] = field(default_factory=list)
    """The first hundred ids whose versions Kafka gives no order."""
    unordered_ids: int = 0
    repeated: list[dict[str, Any]] = field(default_factory=list)
    """Records of ids that were to have one version."""
    miscounted: list[dict[str, Any]] = field(default_factory=list)
    """Lines of the ledger that count something else than what lies in Kafka."""
    accepted: Counter[str] = field(default_factory=Counter)
    """How many differences of each kind an operator has accepted."""
    compacted_ids: set[Any] = field(default_factory=set)
    """The ids of rows whose records are gone from a compacted topic, whether that is excused or not."""
    compacted_rows: list[dict[str, Any]] = field(default_factory=list)
    """Those that compaction must have kept: the topic lost them."""
    unexplained: Callable[[Mapping[Place, Any], Mapping[Any, Any]], list[Place]] = lambda gone, _rows: sorted(gone)
    """Return which records that are gone, given with their ids and the rows, compaction cannot have removed."""

    def total(self, name: str) -> int:
        """The sum over all partitions."""
        return sum(getattr(balance, name) for balance in self.balances.values())


class Work:
    """An audit under way."""

    def __init__(
        self,
        spans: list[Span],
        covered: dict[int, Coverage],
        letters: dict[str, Letter],
        rows: Rows,
        later_deletions: Callable[[list[Span]], Iterable[Sent]],
        evidence: Evidence,
        read_key: Callable[[bytes | None], Any],
        named_at_most: int = NAMED_AT_MOST,
    ) -> None:
        self._spans = spans
        self._named_at_most = named_at_most
        self._covered = covered
        self._evidence = evidence
        self._rows = rows.places
        self._letters = {(one.origin.partition, one.origin.offset): key for key, one in letters.items()}
        self._later_deletions = later_deletions
        self._deletions: dict[Any, Sent] = {}
        self._versions = Versions()
        self._single = SingleVersions()
        self._absent: list[Sent] = []
        balances = {span.partition: Balance(span.partition, span.first, span.end) for span in spans}
        self._result = Audit(balances, covered)
        self._lines = Lines(covered, letters, evidence)
        ends = {span.partition: span.end for span in spans}
        self._remains = Remains(self._versions, self._result.waiting_ids, read_key, self._lines.gone_tombstones, ends)
        refused = [key for key, letter in letters.items() if letter.origin.partition < 0]
        self._result.rejected += refused
        self._result.refused = len(refused)

    def take(self, one: Sent, *, counts: bool = True) -> None:
        """Look at a record; one that does not count may still be the tombstone of one that does."""
        line = self._covered[one.partition].at(one.offset)
        identity = self._letters.get((one.partition, one.offset))
        if one.is_deletion:
            self._note_deletion(one)
        is_blank = identity is not None or one.id is None
        self._lines.add(line, one.partition, one.offset, one.is_deletion, is_blank and identity is None)
        if is_blank and one.key is not None:
            self._remains.unread[one.key, one.partition] = one.offset
        if counts:
            self._count(one, line, identity)

    def _note_deletion(self, deletion: Sent) -> None:
        """Keep the last deletion of each id."""
        known = self._deletions.get(deletion.id)
        if known is None or deletion.order_us > known.order_us:
            self._deletions[deletion.id] = deletion

    def _count(self, one: Sent, line: Line | None, identity: str | None) -> None:
        result, balance = self._result, self._result.balances[one.partition]
        balance.produced += 1
        result.first_produced_ms = min(result.first_produced_ms or one.timestamp_ms, one.timestamp_ms)
        outcome = self._outcome(one, line, identity)
        if outcome is None:
            self._absent.append(one)
            return
        setattr(balance, outcome, getattr(balance, outcome) + 1)
        if line is None and one.offset < self._covered[one.partition].reached:
            self._note_gap(one, balance, outcome)
        if outcome == "stored" and line is not None:
            result.latencies_ms.append(line.tally.stored_at_ms - one.timestamp_ms)
            result.last_stored_ms = max(result.last_stored_ms, line.tally.stored_at_ms)

    def _note_gap(self, one: Sent, balance: Balance, outcome: str) -> None:
        gap = _named(one.partition, one.offset, one.id, f"it is {outcome}, and no line of the ledger says so")
        if self._evidence.accepts("gap", gap):
            self._result.accepted["gap"] += 1
            return
        balance.gaps += 1
        if len(self._result.gaps) < self._named_at_most:
            self._result.gaps.append(gap)

    def _outcome(self, one: Sent, line: Line | None, identity: str | None) -> str | None:
        """What became of a record; None when it is nowhere, or the proof of it comes later."""
        if identity is not None:
            self._result.rejected.append(identity)
            row = self._rows.get(one.id)
            if row is not None and row.place == (one.partition, one.offset):  # stored since, by a replay
                self._result.ids[one.id] = True
            return "rejected"
        if line is None and one.offset >= self._covered[one.partition].reached:
            self._result.waiting_ids.add(one.id)
            return "waiting"
        had_row = self._result.ids.get(one.id, False)
        if one.id is not None:
            self._note_version(one)
        row = self._rows.get(one.id)
        if _is_misplaced(one, row):
            return None
        if one.is_deletion and (row is None or one.is_replaced_at(row.order_us)):
            self._result.balances[one.partition].deleted_nothing += not had_row
            return "deleted"
        if one.is_deletion:
            return None
        return "stored" if row is not None and row.order_us >= one.order_us else None

    def _note_version(self, one: Sent) -> None:
        """Note a version of an id, and whether the newest one is to have a row."""
        if not one.rank.is_kept or one.order_us > self._versions.newest_us(one.id):
            self._result.ids[one.id] = not one.is_deletion
        if one.digest or one.is_deletion:
            self._single.note(one.id, one.digest, Place(one.partition, one.offset))
        self._versions.note(one.id, Home.of(one.partition, one.rank, one.order_us, one.timestamp_ms))

    def finish(self) -> Audit:
        """The audit, once every record was looked at."""
        if self._absent:
            for deletion in self._later_deletions(self._spans):
                self._note_deletion(deletion)
        filtered: Counter[tuple[str, int, int]] = Counter()
        for one in self._absent:
            self._settle(one, filtered)
        for partition, covered in self._covered.items():
            balance = self._result.balances[partition]
            balance.doubled, balance.reread = covered.doubled, covered.reread
            self._compare_lines(balance)
        self._name_unordered()
        self._name_repeated()
        self._compare_rows()
        self._result.unexplained = self._remains.unexplained
        return self._result

    def _name_repeated(self) -> None:
        why = "another value than an earlier record of the id, and the pipeline declares one_version_per_id"
        self._result.repeated = [_named(*place, record_id, why) for record_id, place in self._single.repeated]

    def _name_unordered(self) -> None:
        for record_id, home, why in self._versions.named():
            unordered = _named(home.partition, home.order_us - home.rank.shift_us, record_id, why)
            if self._evidence.accepts("unordered", unordered):
                self._result.accepted["unordered"] += 1
                continue
            self._result.unordered_ids += 1
            if len(self._result.unordered) < self._named_at_most:
                self._result.unordered.append(unordered)

    def _settle(self, one: Sent, filtered: Counter[tuple[str, int, int]]) -> None:
        """Count a record that was nowhere: deleted since, filtered as far as its line says so, or missing."""
        balance = self._result.balances[one.partition]
        line = self._covered[one.partition].at(one.offset)
        deletion = self._deletions.get(one.id)
        is_newer = deletion is not None and one.is_replaced_at(deletion.order_us)
        if not one.is_deletion and is_newer and one.id not in self._rows:
            balance.stored += 1
            if line is None:  # or it would be waiting
                self._note_gap(one, balance, "deleted since")
            return
        is_misplaced = _is_misplaced(one, self._rows.get(one.id))
        transformed = one.id is not None and not one.is_deletion and not is_misplaced
        if transformed and line is not None and line.tally.filtered > filtered[name(line)]:
            filtered[name(line)] += 1
            balance.filtered += 1
            self._result.ids[one.id] = one.id in self._rows
            return
        is_excusable = line is not None and not one.is_deletion and not is_misplaced
        excuse = self._excuse(one, line) if is_excusable and line is not None else None
        if excuse is not None:
            setattr(balance, excuse, getattr(balance, excuse) + 1)
            if one.id is not None and self._versions.newest(one.id) == (one.partition, one.offset):
                self._result.ids[one.id] = one.id in self._rows
            return
        why = "the ledger went past it" if line is None else "the ledger counts it, and it is nowhere"
        if one.is_deletion and line is not None:
            why = "the row that it deletes is there"
        elif is_misplaced:
            why = "it was redriven, and its row does not have the write time of its place: see dlq redrive"
        missing = _named(one.partition, one.offset, one.id, why)
        if self._evidence.accepts("missing", missing):
            self._result.accepted["missing"] += 1
            balance.accepted += 1
            return
        balance.missing += 1
        if len(self._result.missing_records) < self._named_at_most:
            self._result.missing_records.append(missing)

    def _excuse(self, one: Sent, line: Line) -> str | None:
        """Return what explains that a record is nowhere, if anything does."""
        if self._lines.is_pruned(line, one.key, has_id=one.id is not None):
            return "pruned"
        if one.id is None or one.id in self._rows:
            return None
        newest = self._versions.newest(one.id)
        last = newest and self._covered[newest.partition].at(newest.offset)
        written_ms = [at.tally.stored_at_ms for at in (line, last) if at is not None]
        return "expired" if any(map(self._evidence.is_expired, written_ms)) else None

    def _compare_lines(self, balance: Balance) -> None:
        """Compare each line that lies in the span as a whole with what lies in Kafka."""
        span = Span(balance.partition, balance.first, balance.end)
        balance.compacted = self._lines.compact(span)
        for line, why in self._lines.miscounted(span):
            self._result.miscounted.append(_named(balance.partition, line.tally.first_offset, None, why))

    def _compare_rows(self) -> None:
        """Look for the record of each row in the partitions that were compacted."""
        compacted = {span.partition: span for span in self._spans if self._lines.is_compacted(span)}
        for record_id, row in self._rows.items() if compacted else ():
            span = compacted.get(row.partition)
            if span is None or not span.first <= row.offset < span.end:
                continue
            if self._versions.last_offset(record_id, row.partition) < row.offset:
                self._result.compacted_ids.add(record_id)
                if not self._remains.has_newer(record_id, row.place):
                    self._result.compacted_rows.append(_named(*row.place, record_id, f"a row came from it; {KEPT}"))


def _is_misplaced(one: Sent, row: RowPlace | None) -> bool:
    """Return whether the row of a redriven record was written as if the record were new."""
    if row is None or not one.rank.is_kept or one.rank.is_declared:
        return False
    return row.place == (one.partition, one.offset) and row.order_us != one.order_us


def _named(partition: int, offset: int, record_id: Any, why: str) -> dict[str, Any]:
    return {"partition": partition, "offset": offset, "id": None if record_id is None else str(record_id), "why": why}
