"""Facts for a reconciliation as plain data: no services, no stream."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.broker.topics import OffsetRange
from penstock.contract.batch import BatchSummary
from penstock.dead_letters.message import DeadLetter, Origin
from penstock.reconcile.audit import Audit, DeadLetterCopy, Row, RowAuthor, RowPlace, Sent
from penstock.reconcile.auditor import copy_of
from penstock.reconcile.coverage import Coverage
from penstock.reconcile.engine import local_loader
from penstock.reconcile.excuses import Compaction
from penstock.reconcile.fact_loading import Columns, LineFinder, chunks, record_columns, row_columns
from penstock.reconcile.reconciliation import Reconciliation, Scope
from penstock.sink.ledger import LedgerEntry
from tests.unit.carried import settings_in

STORED_MS = 1_000_000


@dataclass
class Evidence:
    """Evidence that excuses an absence, as given."""

    expiries: list[tuple[int, int]] = field(default_factory=list)
    compaction: Compaction | None = None
    queue_firsts: dict[int, int] = field(default_factory=lambda: {0: 0})
    accepted: list[tuple[str, int | None, int | None, str | None, str | None]] = field(default_factory=list)
    now_ms: int = STORED_MS

    def accepted_rows(self) -> Iterator[tuple[str, int | None, int | None, str | None, str | None]]:
        return iter(self.accepted)


@dataclass
class Facts:
    """A topic, its ledger, its table and its dead letters."""

    home: Path
    records: list[Sent] = field(default_factory=list)
    lines: list[LedgerEntry] = field(default_factory=list)
    table: list[Row] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    later: list[Sent] = field(default_factory=list)
    starts: dict[int, int] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)

    def coverage(self, span: OffsetRange) -> Coverage:
        return Coverage([line for line in self.lines if line.summary.partition == span.partition])

    def letter_copies(self) -> Iterator[DeadLetterCopy]:
        return (copy_of(letter, is_current=True) for letter in self.letters)

    def row_columns(self) -> Iterator[Columns]:
        return map(row_columns, chunks(self.table))

    def rows_of(self, ids: Iterable[Any]) -> Iterator[Row]:
        wanted = set(ids)
        return (row for row in self.table if row.id in wanted)

    def record_columns(self, ranges: list[OffsetRange], finder: LineFinder, run_id: str | None) -> Iterator[Columns]:
        return (record_columns(chunk, finder, run_id) for chunk in chunks(self._sent(ranges)))

    def _sent(self, ranges: list[OffsetRange]) -> Iterator[Sent]:
        for span in ranges:
            within = (record for record in self.records if record.partition == span.partition)
            yield from sorted(
                (item for item in within if span.first <= item.offset < span.end), key=lambda item: item.offset
            )

    def log_starts(self) -> dict[int, int]:
        return self.starts

    def later_deletions(self, ranges: list[OffsetRange]) -> Iterator[Sent]:
        return iter(self.later)

    def id_of_key(self, key: bytes) -> Any:
        return key.decode()

    def id_of_text(self, text: str) -> Any:
        return text

    def spans(self) -> list[OffsetRange]:
        partitions = {record.partition for record in self.records} | {line.summary.partition for line in self.lines}
        return [
            OffsetRange(at, 0, max((record.offset + 1 for record in self.records if record.partition == at), default=0))
            for at in sorted(partitions)
        ]

    def reconcile(self, **scope: Any) -> Audit:
        with local_loader(settings_in(self.home), self) as loader:
            spans = scope.pop("spans", None) or self.spans()
            return Reconciliation(loader, self, self.evidence, Scope(spans, **scope)).carry_out()


def record(partition: int, offset: int, record_id: str | None, **more: Any) -> Sent:
    """A record whose key is its id."""
    key = None if record_id is None else record_id.encode()
    given = {"timestamp_ms": 0, "key": key, "is_deletion": False, "run": None} | more
    return Sent(partition=partition, offset=offset, id=record_id, **given)


def line(partition: int, first: int, end: int, job: str = "a", **counts: int) -> LedgerEntry:
    """A ledger entry that counts all of its records as stored, or as given."""
    given = {"records": end - first, "deleted": 0, "rejected": 0, "filtered": 0, "stored_at_ms": STORED_MS} | counts
    stored = given["records"] - given["deleted"] - given["rejected"] - given["filtered"]
    return LedgerEntry(BatchSummary(partition, first, end - 1, stored=stored, nulls={}, latencies={}, **given), 1, job)


def row(record_id: str, partition: int, offset: int, shift_us: int = 0, **more: Any) -> Row:
    """A row of a record in the topic."""
    return Row(record_id, RowAuthor.TOPIC, RowPlace(partition, offset, shift_us), **more)


def letter(partition: int, offset: int, *, queue: int = 0, at: int = 0, sent_ms: int = STORED_MS - 1) -> DeadLetter:
    """A dead letter at `queue` and `at` in the dead-letter topic."""
    time = datetime.fromtimestamp(sent_ms / 1000, UTC)
    origin = Origin("t", 1, partition, offset)
    return DeadLetter(queue, at, origin, "decode", "json_malformed", (), "", None, time, "", None, b"junk", [])
