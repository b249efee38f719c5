"""A reconciliation: facts are loaded into an engine, and the statements of `reconciliation.sql` compare them.

The ledger is read before the table and the dead-letter topic: what it covers is there by then. No record, row or id
stays in this process's memory; what an operator is to see of them is read from the engine.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from penstock.broker.dlq import Letter
from penstock.broker.topics import Span
from penstock.contract.fields import epoch_ms, from_epoch_ms
from penstock.observe.audit import NAMED_AT_MOST, Audit, Balance, Row, RowPlace, Sent
from penstock.observe.coverage import Coverage
from penstock.observe.engine import Engine, chunks
from penstock.observe.evidence import Evidence
from penstock.observe.excuses import Pruning, find_pruned
from penstock.produce.journal import Entry
from penstock.sink.ledger import REPLAY

_LOOK_UP_IDS = 5_000
_NO_LINE = -1


@dataclass(frozen=True)
class Scope:
    """What is reconciled."""

    spans: list[Span]
    run_id: str | None = None
    """The run whose records alone are counted; None: all are."""
    is_whole: bool = True
    """The whole table is read, instead of the rows of the records' ids."""
    is_meant: Callable[[Letter], bool] = lambda _letter: True
    """Whether the dead letter of a record that never got to the topic counts."""
    deliveries: Iterable[Entry] = ()
    """What Kafka acknowledged to the producers, the newest last."""
    named_at_most: int = NAMED_AT_MOST


class Sources(Protocol):
    """Where the facts come from: `auditor.Auditor`."""

    def coverage(self, span: Span) -> Coverage: ...  # noqa: D102
    def letter_copies(self) -> Iterator[tuple[Letter, bool]]: ...  # noqa: D102
    def rows(self) -> Iterator[Row]: ...  # noqa: D102
    def rows_of(self, ids: Iterable[Any]) -> Iterator[Row]: ...  # noqa: D102
    def sent(self, spans: list[Span]) -> Iterator[Sent]: ...  # noqa: D102
    def later_deletions(self, spans: list[Span]) -> Iterator[Sent]: ...  # noqa: D102
    def id_of_key(self, key: bytes) -> Any: ...  # noqa: D102
    def id_of_text(self, text: str) -> Any: ...  # noqa: D102


@dataclass
class Reconciliation:
    """One reconciliation in an engine that is open."""

    engine: Engine
    sources: Sources
    evidence: Evidence
    scope: Scope
    runs: list[str] = field(default_factory=list)
    """The ids of the runs whose records were read; their place here is their number in the engine."""
    _pruning_made: Pruning | None = field(default=None, init=False)

    def carry_out(self) -> Audit:
        """Load the facts, compare them, and return what became of the records."""
        covered = self._load()
        self._compare()
        return self._result(covered)

    def _load(self) -> dict[int, Coverage]:
        engine, scope = self.engine, self.scope
        engine.run("inputs")
        covered = {span.partition: self.sources.coverage(span) for span in scope.spans}
        finder = LineFinder(covered)
        engine.append("spans", [(*_bounds(span), covered[span.partition].reached) for span in scope.spans])
        engine.append("lines", finder.rows())
        engine.append("letter_copies", self._letter_rows(finder))
        if scope.is_whole:
            self._load_rows(self.sources.rows())
        self._load_records(finder)
        if not scope.is_whole:
            ids = (row[0] for row in engine.rows("SELECT DISTINCT id FROM records WHERE id IS NOT NULL AND is_counted"))
            self._load_rows(self._look_up(ids))
        engine.append("deliveries", (_delivery(number, entry) for number, entry in enumerate(scope.deliveries)))
        return covered

    def _load_records(self, finder: "LineFinder") -> None:
        """Load the topic's records, column by column: they are the most there is of anything."""
        numbers: dict[str | None, int] = {None: -1}
        run_id = self.scope.run_id
        for chunk in chunks(self.sources.sent(self.scope.spans)):
            partitions, offsets, times_ms, keys, ids, deletions, runs, ranks, digests = zip(*chunk, strict=True)
            layouts, _, proven, kept, tie_digests = zip(*ranks, strict=True)
            for run in set(runs) - numbers.keys():
                numbers[run] = len(self.runs)
                self.runs.append(str(run))
            names = [None if record_id is None else str(record_id) for record_id in ids]
            are_ids = [  # the bytes of a name that is not ASCII are not its characters
                name is not None and key is not None and key == name.encode() and name.isascii()
                for key, name in zip(keys, names, strict=True)
            ]
            texts = [None if is_id or key is None else _text(key) for key, is_id in zip(keys, are_ids, strict=True)]
            counted = [run_id is None or run == run_id for run in runs]
            orders_us = [sent.order_us for sent in chunk]
            lines = list(map(finder.find, partitions, offsets))
            columns = [partitions, offsets, times_ms, names, texts, are_ids, deletions, counted]
            columns += [[numbers[run] for run in runs], orders_us, layouts, proven, kept, tie_digests, digests, lines]
            self.engine.append_columns("records", columns)

    def _load_rows(self, rows: Iterable[Row]) -> None:
        """Load rows of the table, column by column."""
        for chunk in chunks(rows):
            ids, writers, places, mixed, changed_us = zip(*chunk, strict=True)
            partitions, offsets, orders_us = zip(*map(_place_columns, places), strict=True)
            changed_at = [None if moment_us is None else _iso(moment_us) for moment_us in changed_us]
            names = list(map(str, ids))
            self.engine.append_columns(
                "table_rows", [names, writers, partitions, offsets, orders_us, mixed, changed_at]
            )

    def _letter_rows(self, finder: "LineFinder") -> Iterator[tuple[Any, ...]]:
        for number, (letter, is_current) in enumerate(self.sources.letter_copies()):
            origin = letter.origin
            is_meant = is_current and (origin.partition >= 0 or self.scope.is_meant(letter))
            yield (
                *(number, letter.identity, letter.partition, epoch_ms(letter.time), letter.left_out is not None),
                *(origin.partition, origin.offset, finder.find(origin.partition, origin.offset), is_meant),
            )

    def _look_up(self, ids: Iterable[str]) -> Iterator[Row]:
        """Look up the rows of ids, given as text."""
        known: list[Any] = []
        for text in ids:
            known.append(self.sources.id_of_text(text))
            if len(known) == _LOOK_UP_IDS:
                yield from self.sources.rows_of(known)
                known = []
        yield from self.sources.rows_of(known)

    def _compare(self) -> None:
        engine = self.engine
        engine.run("outcomes")
        engine.run("lines")
        if engine.has("absent"):
            later = ((str(sent.id), sent.order_us) for sent in self.sources.later_deletions(self.scope.spans))
            engine.append("later_deletions", later)
        engine.run("explained")
        if engine.has("explained", "outcome IS NULL"):
            engine.append("pruned", find_pruned(self._rows("pruning_candidates"), self._pruning))
            engine.append("expiries", self.evidence.expiries)
        engine.run("settled")
        if self._lacks_records() and self.evidence.compaction:
            engine.append("compaction", [(self.evidence.compaction.stored_until_ms,)])
        engine.run("compaction")
        engine.append("unread", self._unread())
        engine.append("pruned_letters", self._pruned_letters())
        engine.run("differences")
        engine.run("deliveries")
        if engine.has("compaction") and engine.has("gone"):
            self._load_gone()
        engine.run("sources")
        engine.run("results")
        if engine.has("differences"):
            engine.append("accepted", self.evidence.accepted_rows())

    def _rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        return self.engine.rows(f"SELECT * FROM {table}")

    def _pruning(self) -> Pruning:
        """Return what is left of the excuses that the dead-letter topic's log start gives."""
        if self._pruning_made is None:
            self._pruning_made = Pruning(self.evidence.queue_firsts, set(self._rows("surviving")))
        return self._pruning_made

    def _lacks_records(self) -> bool:
        held = dict(self.engine.rows("SELECT partition_id, COUNT(*) FROM records GROUP BY partition_id"))
        return any(held.get(span.partition, 0) < span.records for span in self.scope.spans)

    def _unread(self) -> Iterator[tuple[str, int, int]]:
        for partition, key_text, has_id_key, record_id, position in self._rows("unread_keys"):
            key = record_id.encode() if has_id_key else key_text.encode("latin-1")
            found = self.sources.id_of_key(key)
            if found is not None:
                yield str(found), partition, position

    def _pruned_letters(self) -> Iterator[tuple[int, int]]:
        for line, letters in self._rows("short_lines"):
            excused = 0
            while excused < letters and self._pruning().excuse(None, line):
                excused += 1
            yield line, excused

    def _load_gone(self) -> None:
        """Load the ids of delivered records that are gone, and which of them have rows that were not read."""
        found = ((*place, self.sources.id_of_text(key)) for *place, key in self._rows("gone"))
        self.engine.append("gone_ids", ((*place, None if one is None else str(one)) for *place, one in found))
        if not self.scope.is_whole:
            ids = (row[0] for row in self.engine.rows("SELECT DISTINCT id FROM gone_ids WHERE id IS NOT NULL"))
            self.engine.append("gone_rows", ((str(row.id),) for row in self._look_up(ids) if row.place is not None))

    def _result(self, covered: dict[int, Coverage]) -> Audit:
        audit = Audit({span.partition: Balance(*_bounds(span)) for span in self.scope.spans}, covered)
        self._count(audit)
        self._name(audit)
        row = self.engine.row
        audit.known_ids, audit.expected_ids, audit.expected_rows, audit.other_rows = row("SELECT * FROM id_counts")
        audit.first_produced_ms, audit.last_stored_ms = row("SELECT * FROM times")
        (audit.refused,) = row("SELECT COUNT(*) FROM rejected WHERE is_refused")
        (audit.delivered,) = row("SELECT COUNT(*) FROM found WHERE is_there")
        audit.runs = Counter({self.runs[number]: records for number, records in self._rows("runs")})
        return audit

    def _count(self, audit: Audit) -> None:
        for partition, outcome, records in self._rows("balances"):
            balance = audit.balances[partition]
            setattr(balance, outcome, getattr(balance, outcome) + records)
            balance.produced += records if outcome != "deleted_nothing" else 0
        for partition, doubled, repeated in self._rows("covered_twice"):
            audit.balances[partition].doubled = int(doubled)
            audit.balances[partition].reread = int(repeated - doubled)
        compacted = "SELECT partition_id, SUM(compacted) FROM whole_lines WHERE is_alone GROUP BY partition_id"
        for partition, records in self.engine.rows(compacted):
            audit.balances[partition].compacted = int(records)

    def _name(self, audit: Audit) -> None:
        for kind, partition, is_accepted, differences in self._rows("difference_counts"):
            (audit.accepted if is_accepted else audit.differences)[kind] += differences
            if kind == "gap" and not is_accepted:
                audit.balances[partition].gaps += differences
            if kind == "missing" and is_accepted:
                audit.balances[partition].missing -= differences
                audit.balances[partition].accepted += differences
        for kind in audit.differences:
            query = (
                "SELECT partition_id, position, id, why FROM judged WHERE kind = ? AND NOT is_accepted "
                f"ORDER BY partition_id NULLS LAST, position NULLS LAST, id LIMIT {self.scope.named_at_most}"
            )
            names = ("partition", "offset", "id", "why")
            audit.named[kind] = [dict(zip(names, row, strict=True)) for row in self.engine.rows(query, kind)]

    def latency_ms(self) -> dict[str, int | None]:
        """Return median and 99th percentile over the stored records, in ms; None when there is none."""
        p50, p99 = self.engine.row("SELECT * FROM latency")
        return {"p50": None if p50 is None else round(p50), "p99": None if p99 is None else round(p99)}

    def rejected(self) -> Iterator[str]:
        """Give the identity of each dead letter, those of records which never got to the topic too."""
        return (identity for identity, _ in self._rows("rejected"))


class LineFinder:
    """Finds the number of the line that covers a record; fast for records that come in Kafka's order."""

    def __init__(self, covered: dict[int, Coverage]) -> None:
        self._covered = covered
        lines = [line for coverage in covered.values() for line in coverage.every]
        self._lines = lines
        self._numbers = {id(line): number for number, line in enumerate(lines)}
        self._partition, self._first, self._end, self._number = _NO_LINE, 0, 0, _NO_LINE

    def find(self, partition: int, offset: int) -> int:
        """Return the number of the line at an offset; -1 without one."""
        if partition != self._partition or not self._first <= offset < self._end:
            coverage = self._covered.get(partition)
            line = None if coverage is None else coverage.at(offset)
            bound = None if coverage is None else coverage.bound_after(offset)
            self._partition, self._first, self._end = partition, offset, 2**63 if bound is None else bound
            self._number = _NO_LINE if line is None else self._numbers[id(line)]
        return self._number

    def rows(self) -> Iterator[Sequence[Any]]:
        """Give the lines as the engine has them."""
        for number, line in enumerate(self._lines):
            tally = line.tally
            yield (
                *(number, tally.partition, tally.first_offset, tally.last_offset + 1),
                *(line.job, line.job.startswith(REPLAY)),
                *(tally.records, tally.deleted, tally.rejected, tally.filtered, tally.stored_at_ms),
            )


def _bounds(span: Span) -> tuple[int, int, int]:
    return span.partition, span.first, span.end


def _text(key: bytes) -> str:
    """Return the bytes of a key as characters, one for each: no two keys have the same."""
    return key.decode("latin-1")


def _delivery(number: int, entry: Entry) -> tuple[int, int, int, str, str]:
    return number, entry.partition, entry.offset, entry.key, _text(entry.key.encode())


def _place_columns(place: RowPlace | None) -> tuple[int | None, int | None, int | None]:
    return (None, None, None) if place is None else (place.partition, place.offset, place.order_us)


def _iso(moment_us: int) -> str:
    moment: datetime = from_epoch_ms(moment_us // 1000)
    return moment.isoformat(timespec="seconds")
