"""Whether Kafka orders the versions of each id: it does within a partition, and from a layout of the topic to the next.

Versions of one id in several partitions of one layout (records without a key, or two partitioners) have no order that
Kafka gives. The table then holds one of them, and nobody can say that it is the newest. Two versions with one place in
the order have none either: Cassandra mixes their columns.

A redriven record has the place of an earlier position. Its offset and time say nothing of the order.

Where the pipeline declares an order, partitions say nothing of it either. The two newest versions of an id then have
none when they have one place and are not the same bytes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from penstock.broker.topics import Place
from penstock.contract.order import Rank

TIE = "two versions have one place in the order: Cassandra mixes their columns"
_LATEST_MS = 2**63
_EARLIEST_US = -(2**63)


class Home(NamedTuple):
    """A partition in which versions of an id are, with the last one's rank and order, and the span of Kafka's times."""

    partition: int
    rank: Rank
    order_us: int
    first_ms: int
    last_ms: int
    last_offset: int
    """Of all versions in the partition: where `order_by` orders them, not that of the newest."""

    @classmethod
    def of(cls, partition: int, rank: Rank, order_us: int, timestamp_ms: int) -> "Home":
        """Return the home of one version."""
        first_ms, last_ms = (_LATEST_MS, 0) if rank.is_kept else (timestamp_ms, timestamp_ms)
        return cls(partition, rank, order_us, first_ms, last_ms, order_us - rank.shift_us)


class Versions:
    """The partitions of each id's versions; to be shown the records of a partition in the order of their offsets."""

    def __init__(self) -> None:
        self._homes: dict[Any, tuple[Home, ...]] = {}
        self.unordered: dict[Any, str] = {}
        """Why Kafka gives no order, by id."""

    def note(self, record_id: Any, home: Home) -> None:
        """Add a version of an id, alone in its home."""
        homes = self._homes.get(record_id)
        if homes is None:
            self._homes[record_id] = (home,)
            return
        others = tuple(other for other in homes if other.partition != home.partition)
        merged = home
        for other in homes:
            merged = _merge(other, merged) if other.partition == home.partition else merged
        if home.rank.is_declared:
            self._note_tie(record_id, homes, home)
        else:
            within = (_within(other, home) for other in homes)
            reason = next(filter(None, (*within, *(_between(merged, other) for other in others))), "")
            if reason:
                self.unordered.setdefault(record_id, reason)
        self._homes[record_id] = (*others, merged)

    def _note_tie(self, record_id: Any, homes: tuple[Home, ...], home: Home) -> None:
        """Note whether a version that `order_by` orders has the place of the newest one before it, and is another."""
        newest = max(homes, key=lambda other: other.order_us)
        if home.order_us > newest.order_us:
            self.unordered.pop(record_id, None)
        elif home.order_us == newest.order_us and home.rank.digest != newest.rank.digest:
            self.unordered.setdefault(record_id, TIE)

    def newest_us(self, record_id: Any) -> int:
        """Return the latest place in the order that a version of an id has; before all others when there is none."""
        return max((home.order_us for home in self._homes.get(record_id, ())), default=_EARLIEST_US)

    def last_offset(self, record_id: Any, partition: int) -> int:
        """Return the offset of the last version of an id in a partition; -1 when there is none."""
        homes = self._homes.get(record_id, ())
        return max((home.last_offset for home in homes if home.partition == partition), default=-1)

    def newest(self, record_id: Any) -> Place | None:
        """Return the position of the newest version of an id."""
        homes = self._homes.get(record_id)
        if not homes:
            return None
        last = max(homes, key=lambda home: home.order_us)
        return Place(last.partition, last.order_us - last.rank.shift_us)

    def named(self) -> Iterator[tuple[Any, Home, str]]:
        """Return each id without an order, one of its homes, and why."""
        return ((record_id, self._homes[record_id][-1], why) for record_id, why in self.unordered.items())


class SingleVersions:
    """Ids that are to have one version: each record's digest is held against that of the record before.

    The same value sent again, as by a run that was tried again, is the
    same version.
    """

    def __init__(self) -> None:
        self._digests: dict[Any, int] = {}
        self.repeated: list[tuple[Any, Place]] = []
        """Ids with another version, and where that lies."""

    def note(self, record_id: Any, digest: int, place: Place) -> None:
        """Add a record of an id. A tombstone has no digest: what comes after it is a first version again."""
        if not digest:
            self._digests.pop(record_id, None)
        elif self._digests.setdefault(record_id, digest) != digest:
            self.repeated.append((record_id, place))


def _merge(other: Home, home: Home) -> Home:
    newest = other if home.rank.is_kept and other.order_us > home.order_us else home
    return newest._replace(
        first_ms=min(other.first_ms, home.first_ms),
        last_ms=max(other.last_ms, home.last_ms),
        last_offset=max(other.last_offset, home.last_offset),
    )


def _within(other: Home, home: Home) -> str:
    """Return why a new version has no order after an earlier one of the same partition, or of the same place."""
    if other.order_us == home.order_us and (other.rank.is_kept or home.rank.is_kept):
        return TIE
    if other.partition != home.partition or other.order_us <= home.order_us or home.rank.is_kept:
        return ""
    return f"its keys belong to two layouts of the topic, of which partition {home.partition} has the older one last"


def _between(home: Home, other: Home) -> str:
    """Return why two partitions have no order between them; empty when their layouts order them."""
    partitions = f"partitions {min(home.partition, other.partition)} and {max(home.partition, other.partition)}"
    if home.rank.layout == other.rank.layout:
        return f"versions in {partitions} of one layout of the topic: Kafka gives them no order"
    if not (home.rank.is_proven and other.rank.is_proven):
        return f"versions in {partitions}, and no known partitioner puts its key into one of them"
    older, newer = sorted((home, other), key=lambda each: each.rank.layout)
    if older.last_ms > newer.first_ms:
        return f"versions in {partitions}: Kafka's timestamps contradict the order of the topic's layouts"
    return ""
