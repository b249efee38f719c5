"""The order of records across partitions: which layout of the topic a record belongs to, and its write timestamp.

A layout is the topic with one partition count. Within a layout a key stays in one partition, whose offsets order its
versions. When partitions are added, keys move to partitions whose offsets begin at 0: the write timestamps of the newer
layout start after all of the older layout's. Producers keep the old count for minutes, so no single offset separates
two layouts: a record belongs to the newest layout in which a known partitioner assigns its key to its partition, unless
it was read before that layout was detected. Any partitioner assigns some keys there by chance, so a partitioner of
which the topic shows no sign does not count.

A redriven record keeps its place in the order: its header `penstock.order` holds the write timestamp of the position at
which it was dead-lettered. The header moves a record back only. A timestamp later than that of the record's own
position is ignored, so that no producer can write into the future.

Pure: a function of stored state and the record alone, so a replay gives each record the same timestamp.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_TIMESTAMP = re.compile(rb"[0-9]{1,18}")
_LEAST_PROOFS = 20


def murmur2(key: bytes) -> int:
    """Return the hash of which Java's default partitioner takes the modulus: murmur2 of the key, sign bit cleared.

    As `org.apache.kafka.common.utils.Utils.murmur2` and `toPositive`.
    """
    length = len(key)
    hashed = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        block = int.from_bytes(key[at : at + 4], "little") * _MULTIPLIER & _MASK
        block = (block ^ block >> 24) * _MULTIPLIER & _MASK
        hashed = hashed * _MULTIPLIER & _MASK ^ block
    if whole < length:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _MASK
    return (hashed ^ hashed >> 15) & 0x7FFFFFFF


PARTITIONERS: Mapping[str, Callable[[bytes], int]] = {"murmur2": murmur2, "crc32": zlib.crc32}
"""Hashes of Java's default partitioner and librdkafka's. A key's partition is its hash modulo the partition count."""


@dataclass(frozen=True)
class TopicLayout:
    """The topic with a given partition count.

    `starts` holds the first offset of each partition that may belong to it: earlier records were read while the topic
    had fewer partitions; a partition that is not listed starts at 0. `shift_us` is added to the incarnation's
    `epoch_us`. `partitioners` are those that the topic's keys showed when the layout was detected, or all.
    """

    partitions: int
    shift_us: int = 0
    starts: Mapping[int, int] = field(default_factory=dict)
    partitioners: frozenset[str] = frozenset(PARTITIONERS)


class Rank(NamedTuple):
    """Leading part of a record's place in the order: its layout's number and shift, and whether both are proven."""

    layout: int
    shift_us: int
    is_proven: bool
    is_kept: bool = False
    """Whether it is not from the record's own position: redriven records keep their earlier rank, `order_by` needs no
    position."""
    digest: int = 0
    """Hash of the value if `order_by` orders the record; 0 for a tombstone. Identical values do not conflict."""

    @property
    def is_declared(self) -> bool:
        """Return whether the pipeline's `order_by` orders the record, regardless of its partition."""
        return self.layout == DECLARED


def digest_of(value: bytes) -> int:
    """Return a 64-bit hash of a value, the same in every process."""
    return int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), signed=True)


DECLARED = -1
"""Layout number for records ordered by `order_by`, which does not depend on layouts (`contract.order_by`)."""


FIRST_RANK = Rank(0, 0, True)
"""Rank of every record of a topic that never grew."""


@dataclass(frozen=True)
class Order:
    """The layouts of one topic incarnation, the oldest first; at least one."""

    layouts: tuple[TopicLayout, ...]

    @cached_property
    def only_rank(self) -> Rank | None:
        """Return the rank of every record that is in its own place, if there is but one layout."""
        return Rank(0, self.layouts[0].shift_us, is_proven=True) if len(self.layouts) == 1 else None

    @property
    def newest(self) -> TopicLayout:
        """Return the topic's current layout."""
        return self.layouts[-1]

    def rank_of(
        self, partition: int, offset: int, key: bytes | None, order: bytes | None = None, *, epoch_us: int = 0
    ) -> Rank:
        """Return the rank of a record, whose header `penstock.order` is `order`, in the incarnation of `epoch_us`."""
        own = self.rank(partition, offset, key)
        kept_us = kept_timestamp_us(order, epoch_us + own.shift_us + offset)
        if kept_us is None:
            return own
        layout = max((at for at, one in enumerate(self.layouts) if one.shift_us <= kept_us - epoch_us), default=0)
        return Rank(layout, kept_us - epoch_us - offset, is_proven=True, is_kept=True)

    def rank(self, partition: int, offset: int, key: bytes | None) -> Rank:
        """Return the rank of a record by its position and key.

        It is proven if only the first layout is possible, or if a known partitioner explains the record's partition.
        """
        if self.only_rank is not None:
            return self.only_rank
        candidates = range(self.latest(partition, offset), -1, -1)
        latest = candidates[0]
        if latest == 0:
            return Rank(0, self.layouts[0].shift_us, True)
        if key is not None:
            partitioners = self.layouts[latest].partitioners
            for number in candidates:
                layout = self.layouts[number]
                if partition < layout.partitions and is_placed(key, partition, layout.partitions, partitioners):
                    return Rank(number, layout.shift_us, True)
        return Rank(latest, self.layouts[latest].shift_us, False)

    def latest(self, partition: int, offset: int) -> int:
        """Return the number of the newest layout that a record at this position can belong to."""
        for number in range(len(self.layouts) - 1, 0, -1):
            if offset >= self.layouts[number].starts.get(partition, 0):
                return number
        return 0


ONE_LAYOUT = Order((TopicLayout(0),))
"""Order of a topic that was never observed to grow."""


def kept_timestamp_us(order: bytes | None, latest_us: int) -> int | None:
    """Return the write timestamp that the header `penstock.order` gives a record; None if the record keeps its own.

    `latest_us` is the timestamp of the record's own position, which no header can exceed.
    """
    if order is None or not _TIMESTAMP.fullmatch(order):
        return None
    kept_us = int(order)
    return kept_us if kept_us < latest_us else None


def is_placed(key: bytes, partition: int, partitions: int, partitioners: Iterable[str] = PARTITIONERS) -> bool:
    """Return whether any of the partitioners assigns `key` to `partition`, of `partitions` in total."""
    return any(PARTITIONERS[name](key) % partitions == partition for name in partitioners)


def find_partitioners(keys: Iterable[tuple[int, bytes | None]], counts: Iterable[int]) -> frozenset[str]:
    """Return which partitioners put keys into the partitions given with them, while the topic had these `counts`.

    A partitioner counts if it alone explains a key. All are returned if too few keys are conclusive.
    """
    counts, proofs = tuple(counts), Counter[str]()
    for partition, key in keys:
        if key is None:
            continue
        names = [name for name in PARTITIONERS if any(is_placed(key, partition, count, [name]) for count in counts)]
        proofs.update(names if len(names) == 1 else ())
    return frozenset(proofs) if proofs.total() >= _LEAST_PROOFS else frozenset(PARTITIONERS)
