"""The ledger's lines against what lies in their stretches: records, tombstones, dead letters; and what excuses less."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from penstock.broker.dlq import Letter
from penstock.broker.topics import Span
from penstock.observe.coverage import Coverage
from penstock.observe.evidence import Evidence, now_ms
from penstock.observe.excuses import Pruning
from penstock.sink.ledger import Line


@dataclass
class _Contents:
    """What lies in the stretch of a line."""

    records: int = 0
    letters: int = 0
    unread: int = 0
    """Records without an id that are nowhere: a letter that is gone is all that can explain them."""
    pruned: int = 0
    compacted: int = 0


class Lines:
    """The lines of an audit, filled record by record."""

    def __init__(self, covered: Mapping[int, Coverage], letters: Mapping[str, Letter], evidence: Evidence) -> None:
        self._covered, self._letters, self._evidence = covered, list(letters.values()), evidence
        self._contents: dict[tuple[str, int, int], _Contents] = defaultdict(_Contents)
        """By job, partition and first offset of the line; without a job those of records that no line covers."""
        self._line: Line | None = None
        self._partition = -1
        self._current = _Contents()
        """Those of the line, and partition, that the last record belongs to."""
        self._tombstones: dict[int, list[int]] = defaultdict(list)
        self.gone_tombstones: Counter[int] = Counter()
        """By partition: those that the ledger counted and compaction was allowed to remove by now."""
        for letter in self._letters:
            coverage = covered.get(letter.origin.partition)
            if coverage is not None and (line := coverage.at(letter.origin.offset)) is not None:
                self._contents[name(line)].letters += 1

    def add(self, line: Line | None, partition: int, offset: int, is_deletion: bool, is_unread: bool) -> None:
        """Count a record that lies in Kafka; `is_unread`: it has neither an id nor a dead letter."""
        if line is not self._line or partition != self._partition:
            self._line, self._partition = line, partition
            self._current = self._contents[("", partition, 0) if line is None else name(line)]
        self._current.records += 1
        if is_deletion:
            self._tombstones[partition].append(offset)
        if is_unread:
            self._current.unread += 1

    def is_pruned(self, line: Line, key: bytes | None, *, has_id: bool) -> bool:
        """Return whether a record is one of those whose letters were pruned; those without an id come first.

        So do those that the topic no longer has: nobody can say that they were not the rejected ones.
        """
        contents = self._contents[name(line)]
        missing = line.tally.rejected - contents.letters - contents.pruned
        if has_id:
            missing -= contents.unread + max(0, line.tally.records - contents.records)
        else:
            contents.unread -= 1
        if missing <= 0 or not self._pruning.excuse(key, line):
            return False
        contents.pruned += 1
        return True

    @cached_property
    def _pruning(self) -> Pruning:
        return Pruning(self._evidence.queue_firsts, self._letters)

    def is_compacted(self, span: Span) -> bool:
        """Return whether compaction explains that offsets of a span have no record."""
        held = sum(
            contents.records for (_, partition, _), contents in self._contents.items() if partition == span.partition
        )
        return held < span.records and self._evidence.compaction is not None

    def compact(self, span: Span) -> int:
        """Return how many records of the lines within a span compaction removed; they no longer count as missing."""
        if not self.is_compacted(span):
            return 0
        coverage = self._covered[span.partition]
        self.gone_tombstones[span.partition] = sum(map(self._gone_tombstones, _within(span, coverage.lines)))
        for line in _within(span, coverage.lone()):
            contents = self._contents[name(line)]
            contents.compacted = max(0, line.tally.records - contents.records)
        return sum(self._contents[name(line)].compacted for line in _within(span, coverage.lone()))

    def _gone_tombstones(self, line: Line) -> int:
        """Return how many tombstones of a line are gone, when they were to be kept no longer than until now."""
        compaction, tally = self._evidence.compaction, line.tally
        if compaction is None or tally.stored_at_ms + compaction.delete_retention_ms > now_ms():
            return 0
        offsets = self._tombstones[tally.partition]
        held = bisect_right(offsets, tally.last_offset) - bisect_left(offsets, tally.first_offset)
        return max(0, tally.deleted - held)

    def miscounted(self, span: Span) -> Iterator[tuple[Line, str]]:
        """Give each line within a span that counts something else than what lies there, unless it is excused."""
        for line in _within(span, self._covered[span.partition].lone()):
            tally, contents = line.tally, self._contents[name(line)]
            letters = tally.rejected - contents.letters - contents.pruned
            while letters > 0 and self._pruning.excuse(None, line):  # of a record compacted away, or superseded
                letters -= 1
            if letters or tally.records != contents.records + contents.compacted:
                why = f"the ledger counts {tally.records} records to {tally.last_offset}, {tally.rejected} rejected"
                yield line, f"{why}; Kafka has {contents.records}, and {contents.letters} dead letters"


def _within(span: Span, lines: Iterable[Line]) -> Iterator[Line]:
    return (line for line in lines if span.first <= line.tally.first_offset and line.tally.last_offset < span.end)


def name(line: Line) -> tuple[str, int, int]:
    """Return a line's job, partition and first offset."""
    return line.job, line.tally.partition, line.tally.first_offset
