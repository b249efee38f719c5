"""Whether Kafka orders the versions of each id: it does within a partition, and from a layout of the topic to the next.

Versions of one id in several partitions of one layout (records without a key, or two partitioners) have no order that
Kafka gives. The table then holds one of them, and nobody can say that it is the newest.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from penstock.broker.topics import Place
from penstock.contract.order import Rank


class Home(NamedTuple):
    """A partition in which versions of an id are, with the last one's rank and order, and the span of Kafka's times."""

    partition: int
    rank: Rank
    order_us: int
    first_ms: int
    last_ms: int


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
        for other in homes:
            home = _merge(other, home) if other.partition == home.partition else home
        reason = next(filter(None, (*map(_within(home), homes), *(_between(home, other) for other in others))), "")
        if reason:
            self.unordered.setdefault(record_id, reason)
        self._homes[record_id] = (*others, home)

    def last_offset(self, record_id: Any, partition: int) -> int:
        """Return the offset of the last version of an id in a partition; -1 when there is none."""
        homes = self._homes.get(record_id, ())
        return max((home.order_us - home.rank.shift_us for home in homes if home.partition == partition), default=-1)

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
    return home._replace(first_ms=min(other.first_ms, home.first_ms), last_ms=max(other.last_ms, home.last_ms))


def _within(home: Home) -> Any:
    """Return the function that says whether an earlier version in the same partition has a later place in the order."""

    def reason(other: Home) -> str:
        if other.partition != home.partition or other.order_us <= home.order_us:
            return ""
        return (
            f"its keys belong to two layouts of the topic, of which partition {home.partition} has the older one last"
        )

    return reason


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
