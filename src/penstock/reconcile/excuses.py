"""What excuses an absence: the expiry of a row, and the log start of the dead-letter topic. Pure: no I/O.

An excuse goes as far as its evidence does, and no further. How far compaction goes is defined in `reconciliation.sql`.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from penstock.contract.order import murmur2

_LONGEST_BATCH_MS = 60_000


@dataclass(frozen=True)
class Lifetime:
    """The table's `default_time_to_live`, and since when it is known to be effective. 0: rows do not expire."""

    ttl_s: int
    since_ms: int


def with_present(known: Sequence[Lifetime], present: Lifetime | None) -> list[Lifetime]:
    """Return the known lifetimes, oldest first, followed by the current one if it differs from the last.

    `since_ms` of the current lifetime is when the table was last altered, for whatever reason: an older lifetime with
    the same TTL shows that it was effective before.
    """
    if present is None or (known and known[-1].ttl_s == present.ttl_s):
        return list(known)
    return [*known, present]


def expiries(lifetimes: Sequence[Lifetime], now_ms: int) -> list[tuple[int, int]]:
    """Return the half-open ranges of write times, according to the ledger, whose rows have expired.

    The ledger knows when the last row of a batch was acknowledged. The first row may be older by the duration of a
    batch: at most a minute, and at most a tenth of the TTL.
    """
    ordered = sorted(lifetimes, key=lambda lifetime: lifetime.since_ms)
    ends = [lifetime.since_ms for lifetime in ordered[1:]] + [now_ms + 1]
    return [
        (lifetime.since_ms, min(end_ms, now_ms + 1 - lifetime.ttl_s * 1000 + _slack_ms(lifetime)))
        for lifetime, end_ms in zip(ordered, ends, strict=False)
        if lifetime.ttl_s
    ]


def _slack_ms(lifetime: Lifetime) -> int:
    return min(_LONGEST_BATCH_MS, lifetime.ttl_s * 100)


def is_expired(written_ms: int, lifetimes: Sequence[Lifetime], now_ms: int) -> bool:
    """Return whether a row that the ledger records as written at `written_ms` has passed the TTL of that time."""
    return any(from_ms <= written_ms < before_ms for from_ms, before_ms in expiries(lifetimes, now_ms))


def find_expired_from_ms(expires_ms: int, timestamp_ms: int) -> int:
    """Return from when the row of a record that expires at `expires_ms`, by a field, may be gone.

    The clocks of the job, of Cassandra and of `verify` differ. The slack for that is as for the TTL of a table: at most
    a minute, and at most a tenth of the time from Kafka's timestamp to the expiry.
    """
    return expires_ms - min(_LONGEST_BATCH_MS, max(0, expires_ms - timestamp_ms) // 10)


@dataclass(frozen=True)
class Compaction:
    """A topic whose `cleanup.policy` includes `compact`. Tombstones stored until `stored_until_ms` may be gone."""

    stored_until_ms: int


class Pruning:
    """Dead letters that may be below the log start of the dead-letter topic.

    Two conditions must hold: no more dead letters are excused than offsets lie below the log start, and no dead letter
    of an earlier batch of the same partition is still there, since dead letters are appended in the order of the
    batches.
    """

    def __init__(self, firsts: Mapping[int, int], surviving: Container[tuple[int, int]]) -> None:
        """Start with no excuse used.

        `firsts` has the log start of each partition of the dead-letter topic; `surviving` has ledger lines by number,
        each with a partition of that topic that still has a dead letter of an earlier batch than the line's.
        """
        self._firsts = firsts
        self._used: Counter[int] = Counter()
        self._excused = 0
        self._surviving = surviving

    def excuse(self, key: bytes | None, line: int) -> bool:
        """Return whether the dead letter of a record on `line` may have been pruned. Each offset excuses once."""
        if self._excused >= sum(self._firsts.values()):
            return False
        for queue in self._find_partitions(key):
            if self._used[queue] < self._firsts[queue] and (line, queue) not in self._surviving:
                self._excused += 1
                self._used[queue] += bool(key)  # without a key, it may have been in any partition
                return True
        return False

    def _find_partitions(self, key: bytes | None) -> Iterable[int]:
        """Return the dead-letter topic's partitions to which the dead letter of a record with this key goes."""
        return [murmur2(key) % len(self._firsts)] if key and self._firsts else list(self._firsts)


class Candidate(NamedTuple):
    """An absent record, as the engine has it, on a ledger line that counts more dead letters than exist."""

    partition: int
    position: int
    line: int
    id: str | None
    key_text: str | None
    has_id_key: bool
    rejected: int
    letters: int
    unread: int
    records: int
    held: int

    @property
    def key(self) -> bytes | None:
        """Return the record's key."""
        if self.has_id_key and self.id is not None:
            return self.id.encode()
        return None if self.key_text is None else self.key_text.encode("latin-1")


def find_pruned(
    candidates: Iterable[tuple[Any, ...]], pruning: Callable[[], Pruning]
) -> Iterator[tuple[int, int, int]]:
    """Yield partition, offset and line of each record whose dead letter may have been pruned.

    On a line, records without an id come first, and records that the topic no longer has: nobody can say that they were
    not the rejected ones.
    """
    pruned: Counter[int] = Counter()
    looked_at: Counter[int] = Counter()
    for candidate in map(Candidate._make, candidates):
        line = candidate.line
        missing = candidate.rejected - candidate.letters - pruned[line]
        if candidate.id is None:
            looked_at[line] += 1
        else:
            missing -= candidate.unread - looked_at[line] + max(0, candidate.records - candidate.held)
        if missing > 0 and pruning().excuse(candidate.key, line):
            pruned[line] += 1
            yield candidate.partition, candidate.position, line
