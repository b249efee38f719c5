"""What excuses an absence: the TTL of a row, and the log start of the dead-letter topic. Pure: no service is asked.

An excuse goes as far as its evidence does, and no further. Compaction has a module of its own (`compaction`).
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.broker.dlq import Letter
from penstock.contract.order import murmur2
from penstock.sink.ledger import Line

_LONGEST_BATCH_MS = 60_000


@dataclass(frozen=True)
class Lifetime:
    """The table's `default_time_to_live`, and since when it is known to be in force. 0: rows do not expire."""

    ttl_s: int
    since_ms: int


def with_present(known: Sequence[Lifetime], present: Lifetime | None) -> list[Lifetime]:
    """Return the lifetimes that are known, the oldest first, with the present one behind them when it is another.

    `since_ms` of the present one is when the table was last altered, for whatever reason: an older one with the same
    TTL says that it was in force before.
    """
    if present is None or (known and known[-1].ttl_s == present.ttl_s):
        return list(known)
    return [*known, present]


def is_expired(written_ms: int, lifetimes: Sequence[Lifetime], now_ms: int) -> bool:
    """Return whether a row that the ledger records as written at `written_ms` has passed the TTL then in force.

    The ledger knows when the last row of a batch was acknowledged; the first may be older by what a batch takes: a
    minute at most, and at most a tenth of the TTL.
    """
    in_force = [lifetime for lifetime in lifetimes if lifetime.since_ms <= written_ms]
    if not in_force or not in_force[-1].ttl_s:
        return False
    ttl_ms = in_force[-1].ttl_s * 1000
    return written_ms - min(_LONGEST_BATCH_MS, ttl_ms // 10) + ttl_ms <= now_ms


class Pruning:
    """Dead letters that may lie below the log start of the dead-letter topic.

    Two things must hold: no more are excused than offsets lie below the log start, and, since letters are appended in
    the order of the batches, none of an earlier batch of the same partition is still there.
    """

    def __init__(self, firsts: Mapping[int, int], letters: Iterable[Letter]) -> None:
        """`firsts` has the log start of each partition of the dead-letter topic, `letters` are those it still has."""
        self._firsts = firsts
        self._used: Counter[int] = Counter()
        self._excused = 0
        self._survivors = _survivors(letters)

    def excuse(self, key: bytes | None, line: Line) -> bool:
        """Return whether the letter of a record that `line` covers may have been pruned. One offset excuses once."""
        if self._excused >= sum(self._firsts.values()):
            return False
        for queue in self._candidates(key):
            if self._used[queue] < self._firsts[queue] and not self._has_earlier(queue, line):
                self._excused += 1
                self._used[queue] += bool(key)  # one without a key may have been in any partition
                return True
        return False

    def _candidates(self, key: bytes | None) -> Iterable[int]:
        """Return the partitions of the dead-letter topic that the letter of a record with this key goes to."""
        return [murmur2(key) % len(self._firsts)] if key and self._firsts else list(self._firsts)

    def _has_earlier(self, queue: int, line: Line) -> bool:
        survivors = self._survivors.get((queue, line.tally.partition), [])
        earlier = bisect_left(survivors, (line.tally.first_offset, 0))
        return earlier > 0 and survivors[earlier - 1][1] <= line.tally.stored_at_ms


def _survivors(letters: Iterable[Letter]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return offset and time of each letter's record, by the partitions of letter and record.

    The time is the earliest of all up to that offset: a copy that a replay made is late, and says nothing of the order.
    """
    found: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for letter in letters:
        if letter.left_out is None:  # such a letter is sent behind those of its batch
            time_ms = int(letter.time.timestamp() * 1000)
            found[letter.partition, letter.origin.partition].append((letter.origin.offset, time_ms))
    return {name: _with_earliest(sorted(some)) for name, some in found.items()}


def _with_earliest(ordered: list[tuple[int, int]]) -> list[tuple[int, int]]:
    earliest_ms = ordered[0][1]
    result = []
    for offset, time_ms in ordered:
        earliest_ms = min(earliest_ms, time_ms)
        result.append((offset, earliest_ms))
    return result
