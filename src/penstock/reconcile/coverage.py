"""The ledger's lines of one partition: which line covers an offset, and how far they reach.

The lines of one job, which is one checkpoint, follow each other without a gap or an overlap; a repeated batch writes
its line again. Another job reads offsets again when a checkpoint was lost or reset, and so does a replay.
"""

from bisect import bisect_right
from itertools import accumulate

from penstock.sink.ledger import REPLAY, LedgerEntry


class Coverage:
    """The lines of one partition."""

    def __init__(self, lines: list[LedgerEntry]) -> None:
        self.every = lines
        """Including those of replays."""
        self.lines = [line for line in lines if not line.job.startswith(REPLAY)]
        self._streamed = _Index(self.lines)
        self._replayed = _Index([line for line in lines if line.job.startswith(REPLAY)])
        self._bounds = sorted({bound for line in lines for bound in (_get_first_offset(line), _get_end_offset(line))})
        self.reached = max(map(_get_end_offset, self.lines), default=0)

    def at(self, offset: int) -> LedgerEntry | None:
        """Return the line that covers `offset`, the stream's rather than a replay's; None if there is none."""
        return self._streamed.at(offset) or self._replayed.at(offset)

    def bound_after(self, offset: int) -> int | None:
        """Return the next offset at which the covering line may change, or None after all lines."""
        at = bisect_right(self._bounds, offset)
        return self._bounds[at] if at < len(self._bounds) else None


class _Index:
    """Lines sorted by first offset."""

    def __init__(self, lines: list[LedgerEntry]) -> None:
        ordered = sorted(lines, key=_get_first_offset)
        self._firsts = [_get_first_offset(line) for line in ordered]
        self._farthest: list[LedgerEntry] = list(accumulate(ordered, lambda *two: max(two, key=_get_end_offset)))

    def at(self, offset: int) -> LedgerEntry | None:
        at = bisect_right(self._firsts, offset) - 1
        if at < 0 or _get_end_offset(self._farthest[at]) <= offset:
            return None
        return self._farthest[at]


def _get_first_offset(line: LedgerEntry) -> int:
    return line.summary.first_offset


def _get_end_offset(line: LedgerEntry) -> int:
    return line.summary.last_offset + 1
