"""A reconciliation: facts are loaded into an engine, and the statements of `reconciliation.sql` compare them.

The ledger is read before the table and the dead-letter topic: what it covers is there by then. No record, row or id
stays in this process's memory; what an operator should see of them is read from the engine.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.broker.topics import OffsetRange
from penstock.contract.fields import to_epoch_ms
from penstock.produce.delivery_log import Acknowledgement
from penstock.reconcile.audit import NAMED_AT_MOST, Audit, Balance, DeadLetterCopy, Row, Sent
from penstock.reconcile.coverage import Coverage
from penstock.reconcile.excuse_evidence import Evidence
from penstock.reconcile.excuses import Pruning, find_pruned
from penstock.reconcile.fact_loading import LineFinder, Loader, Tables, append_rows, chunks, text

_LOOK_UP_IDS = 5_000


@dataclass(frozen=True)
class Scope:
    """What is reconciled."""

    ranges: list[OffsetRange]
    run_id: str | None = None
    """The run whose records alone are counted; None: all records are."""
    is_whole: bool = True
    """Read the whole table, instead of the rows of the records' ids."""
    is_meant: Callable[[DeadLetterCopy], bool] = lambda _copy: True
    """Whether the dead letter of a record that never reached the topic counts."""
    deliveries: Iterable[Acknowledgement] = ()
    """What Kafka acknowledged to the producers, newest last."""
    named_at_most: int = NAMED_AT_MOST


class Sources(Protocol):
    """The source of the facts: `auditor.Auditor`."""

    def coverage(self, offset_range: OffsetRange) -> Coverage: ...  # noqa: D102
    def letter_copies(self) -> Iterator[DeadLetterCopy]: ...  # noqa: D102
    def rows_of(self, ids: Iterable[str]) -> Iterator[Row]: ...  # noqa: D102
    def log_starts(self) -> Mapping[int, int]: ...  # noqa: D102
    def later_deletions(self, ranges: list[OffsetRange]) -> Iterator[Sent]: ...  # noqa: D102
    def id_of_key(self, key: bytes) -> str | None: ...  # noqa: D102
    def id_of_text(self, text: str) -> str | None: ...  # noqa: D102


@dataclass
class Reconciliation:
    """One reconciliation, in the open engine of `loader`."""

    loader: Loader
    sources: Sources
    evidence: Evidence
    scope: Scope
    ranges: list[OffsetRange] = field(default_factory=list)
    """The ranges of offsets that were compared, once they have been."""
    runs: list[str] = field(default_factory=list)
    """The ids of the runs whose records were read; their indexes are the runs' numbers in the engine."""
    _pruning_made: Pruning | None = field(default=None, init=False)

    @property
    def engine(self) -> Tables:
        """Return the engine that the facts are loaded into."""
        return self.loader.tables

    def carry_out(self) -> Audit:
        """Load the facts, compare them, and return the outcomes of the records."""
        covered = self._load_facts()
        self._compare_facts()
        return self._build_result(covered)

    def _load_facts(self) -> dict[int, Coverage]:
        engine, scope = self.engine, self.scope
        engine.run("inputs")
        covered = {offset_range.partition: self.sources.coverage(offset_range) for offset_range in scope.ranges}
        finder = LineFinder(covered)
        engine.append("lines", finder.rows())
        engine.append("letter_copies", self._letter_rows(finder))
        if scope.is_whole:
            self.loader.load_table()
        self.runs = self.loader.load_records(scope.ranges, finder, scope.run_id)
        if not scope.is_whole:
            ids = (row[0] for row in engine.rows("SELECT DISTINCT id FROM records WHERE id IS NOT NULL AND is_counted"))
            append_rows(engine, self._look_up(ids))
        firsts = self._find_firsts()
        self.ranges = [
            OffsetRange(offset_range.partition, firsts[offset_range.partition], offset_range.end)
            for offset_range in scope.ranges
        ]
        engine.append(
            "ranges",
            [(*_get_bounds(offset_range), covered[offset_range.partition].reached) for offset_range in self.ranges],
        )
        held = (entry for entry in scope.deliveries if entry.offset >= firsts.get(entry.partition, 0))
        engine.append("deliveries", (_build_delivery_row(number, entry) for number, entry in enumerate(held)))
        return covered

    def _find_firsts(self) -> dict[int, int]:
        """Return where each range begins by now: retention may have deleted records since the ranges were listed."""
        starts = self.sources.log_starts() if self.scope.ranges else {}
        return {
            offset_range.partition: min(
                max(offset_range.first, starts.get(offset_range.partition, 0)), offset_range.end
            )
            for offset_range in self.scope.ranges
        }

    def _letter_rows(self, finder: LineFinder) -> Iterator[tuple[Any, ...]]:
        for number, copy in enumerate(self.sources.letter_copies()):
            is_meant = copy.is_current and (copy.partition >= 0 or self.scope.is_meant(copy))
            yield (
                *(number, copy.identity, copy.queue_partition, to_epoch_ms(copy.time), copy.is_shrunk),
                *(copy.partition, copy.offset, finder.find(copy.partition, copy.offset), is_meant),
            )

    def _look_up(self, ids: Iterable[str]) -> Iterator[Row]:
        for chunk in chunks(ids, _LOOK_UP_IDS):
            yield from self.sources.rows_of(chunk)

    def _compare_facts(self) -> None:
        engine = self.engine
        engine.run("outcomes")
        engine.run("lines")
        if engine.has("absent"):
            later = ((sent.id, sent.order_us) for sent in self.sources.later_deletions(self.ranges))
            engine.append("later_deletions", later)
        engine.run("explained")
        if engine.has("explained", "outcome IS NULL"):
            engine.append("pruned", find_pruned(self._iter_rows("pruning_candidates"), self._get_pruning))
            engine.append("expiries", self.evidence.expiries)
            engine.append("clock", [(self.evidence.now_ms,)])
        engine.run("settled")
        if self._lacks_records() and self.evidence.compaction:
            engine.append("compaction", [(self.evidence.compaction.stored_until_ms,)])
        engine.run("compaction")
        engine.append("unread", self._decode_unread_keys())
        engine.append("pruned_letters", self._pruned_letters())
        engine.run("differences")
        engine.run("deliveries")
        if engine.has("compaction") and engine.has("gone"):
            self._load_gone()
        engine.run("sources")
        engine.run("results")
        if engine.has("differences"):
            engine.append("accepted", self.evidence.accepted_rows())

    def _iter_rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        return self.engine.rows(f"SELECT * FROM {table}")

    def _get_pruning(self) -> Pruning:
        """Return the remaining excuses from the dead-letter topic's log start."""
        if self._pruning_made is None:
            self._pruning_made = Pruning(self.evidence.queue_firsts, set(self._iter_rows("surviving")))
        return self._pruning_made

    def _lacks_records(self) -> bool:
        held = dict(self.engine.rows("SELECT partition_id, COUNT(*) FROM records GROUP BY partition_id"))
        return any(held.get(offset_range.partition, 0) < offset_range.records for offset_range in self.ranges)

    def _decode_unread_keys(self) -> Iterator[tuple[str, int, int]]:
        for partition, key_text, has_id_key, record_id, position in self._iter_rows("unread_keys"):
            key = record_id.encode() if has_id_key else key_text.encode("latin-1")
            decoded_id = self.sources.id_of_key(key)
            if decoded_id is not None:
                yield decoded_id, partition, position

    def _pruned_letters(self) -> Iterator[tuple[int, int]]:
        for line, letters in self._iter_rows("short_lines"):
            excused = 0
            while excused < letters and self._get_pruning().excuse(None, line):
                excused += 1
            yield line, excused

    def _load_gone(self) -> None:
        """Load the ids of acknowledged records that are gone, and which of them have rows that were not read."""
        positions = ((*place, self.sources.id_of_text(key)) for *place, key in self._iter_rows("gone"))
        self.engine.append("gone_ids", positions)
        if not self.scope.is_whole:
            ids = (row[0] for row in self.engine.rows("SELECT DISTINCT id FROM gone_ids WHERE id IS NOT NULL"))
            self.engine.append("gone_rows", ((row.id,) for row in self._look_up(ids) if row.place is not None))

    def _build_result(self, covered: dict[int, Coverage]) -> Audit:
        audit = Audit(
            {offset_range.partition: Balance(*_get_bounds(offset_range)) for offset_range in self.ranges}, covered
        )
        self._fill_balances(audit)
        self._fill_differences(audit)
        row = self.engine.row
        audit.known_ids, audit.expected_ids, audit.expected_rows, audit.other_rows = row("SELECT * FROM id_counts")
        audit.first_produced_ms, audit.last_stored_ms = row("SELECT * FROM times")
        (audit.refused,) = row("SELECT COUNT(*) FROM rejected WHERE is_refused")
        (audit.delivered,) = row("SELECT COUNT(*) FROM found WHERE is_there")
        audit.runs = Counter({self.runs[number]: records for number, records in self._iter_rows("runs")})
        return audit

    def _fill_balances(self, audit: Audit) -> None:
        for partition, outcome, records in self._iter_rows("balances"):
            balance = audit.balances[partition]
            setattr(balance, outcome, getattr(balance, outcome) + records)
            balance.produced += records if outcome != "deleted_nothing" else 0
        for partition, doubled, repeated in self._iter_rows("covered_twice"):
            audit.balances[partition].doubled = int(doubled)
            audit.balances[partition].reread = int(repeated - doubled)
        compacted = "SELECT partition_id, SUM(compacted) FROM whole_lines WHERE is_alone GROUP BY partition_id"
        for partition, records in self.engine.rows(compacted):
            audit.balances[partition].compacted = int(records)

    def _fill_differences(self, audit: Audit) -> None:
        for kind, partition, is_accepted, differences in self._iter_rows("difference_counts"):
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
        """Return median and 99th percentile over the stored records, in ms; None if there are none."""
        p50, p99 = self.engine.row("SELECT * FROM latency")
        return {"p50": None if p50 is None else round(p50), "p99": None if p99 is None else round(p99)}

    def rejected(self) -> Iterator[str]:
        """Yield the identity of each dead letter, including those of records that never reached the topic."""
        return (identity for identity, _ in self._iter_rows("rejected"))


def _get_bounds(offset_range: OffsetRange) -> tuple[int, int, int]:
    return offset_range.partition, offset_range.first, offset_range.end


def _build_delivery_row(number: int, entry: Acknowledgement) -> tuple[int, int, int, str, str]:
    return number, entry.partition, entry.offset, entry.key, text(entry.key.encode())
