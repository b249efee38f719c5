"""What the ledger's lines say of one partition: which line covers an offset, how far they reach, where they overlap.

The lines of one job, which is one checkpoint, follow each other without a gap or an overlap; a batch that is done again
writes its line again. Another job reads offsets again when a checkpoint was lost or reset, and so does a replay.
"""

from bisect import bisect_right
from collections import defaultdict
from itertools import accumulate, pairwise

from penstock.sink.ledger import REPLAY, Line


class Coverage:
    """The lines of one partition."""

    def __init__(self, lines: list[Line]) -> None:
        streamed = [line for line in lines if not line.job.startswith(REPLAY)]
        self._streamed = _Index(streamed)
        self._replayed = _Index([line for line in lines if line.job.startswith(REPLAY)])
        self.lines = streamed
        self.reached = max(map(_end, streamed), default=0)
        self.doubled = sum(_overlap(of_job) for of_job in _by_job(streamed).values())
        self.reread = _overlap(streamed) - self.doubled

    def at(self, offset: int) -> Line | None:
        """The line that covers `offset`, the stream's rather than a replay's; None when there is none."""
        return self._streamed.at(offset) or self._replayed.at(offset)

    def lone(self) -> list[Line]:
        """The stream's lines that share no offset with another one."""
        return [line for line in self.lines if self._streamed.is_alone(line)]


class _Index:
    """Lines in the order of their first offsets."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = sorted(lines, key=_first)
        self._firsts = [_first(line) for line in self._lines]
        self._farthest: list[Line] = list(accumulate(self._lines, lambda *two: max(two, key=_end)))

    def at(self, offset: int) -> Line | None:
        at = bisect_right(self._firsts, offset) - 1
        if at < 0 or _end(self._farthest[at]) <= offset:
            return None
        return self._farthest[at]

    def is_alone(self, line: Line) -> bool:
        at = bisect_right(self._firsts, _first(line))
        before = self._farthest[at - 2] if at > 1 else None
        after = self._lines[at] if at < len(self._lines) else None
        return (before is None or _end(before) <= _first(line)) and (after is None or _first(after) >= _end(line))


def _first(line: Line) -> int:
    return line.tally.first_offset


def _end(line: Line) -> int:
    return line.tally.last_offset + 1


def _by_job(lines: list[Line]) -> dict[str, list[Line]]:
    by_job: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_job[line.job].append(line)
    return by_job


def _overlap(lines: list[Line]) -> int:
    """How many offsets are covered again by a line that begins later."""
    ordered = sorted(lines, key=_first)
    farthest = accumulate(map(_end, ordered), max)
    return sum(
        max(0, min(end, _end(line)) - _first(line)) for end, (_, line) in zip(farthest, pairwise(ordered), strict=False)
    )
