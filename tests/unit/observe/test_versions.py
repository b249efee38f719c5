"""Ids whose versions Kafka orders, and those whose versions it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.order import DECLARED, FIRST_RANK, Rank
from penstock.observe.versions import TIE, Home, Versions

NEWER = Rank(1, 1_000_000, True)
OPEN = Rank(1, 1_000_000, False)


def home(partition: int, offset: int = 0, rank: Rank = FIRST_RANK, at_ms: int = 0) -> Home:
    return Home.of(partition, rank, rank.shift_us + offset, at_ms)


def redriven(partition: int, order_us: int, offset: int, layout: int = 0) -> Home:
    """The home of a record that was redriven just now, and keeps an earlier place."""
    return home(partition, offset, Rank(layout, order_us - offset, is_proven=True, is_kept=True), at_ms=10**13)


def unordered(*homes: Home) -> str:
    """Why the versions of one id have no order; the other id, which has one version, always has."""
    versions = Versions()
    versions.note("other", homes[0])
    for each in homes:
        versions.note("id", each)
    assert set(versions.unordered) <= {"id"}
    return versions.unordered.get("id", "")


@pytest.mark.parametrize(
    "homes",
    [
        (home(0), home(0, 1), home(0, 7)),
        (home(0, 9, at_ms=5), home(4, 0, NEWER, at_ms=6)),
        (home(4, 0, NEWER, at_ms=6), home(0, 9, at_ms=5), home(0, 10, at_ms=6)),
        (home(0, 9), home(0, 10, NEWER), home(3, 10, Rank(2, 2_000_000, True))),
        (home(0, 1), home(0, 9), redriven(0, 5, 10)),
        (redriven(0, 5, 10), home(0, 11), home(0, 12)),
        (home(0, 9, at_ms=5), redriven(0, 8, 20), home(4, 0, NEWER, at_ms=6)),
        (home(4, 3, NEWER, at_ms=6), redriven(4, 1_000_001, 9, layout=1), home(0, 9, at_ms=5)),
    ],
    ids=[
        "one partition",
        "moved",
        "moved, and seen first where it moved",
        "stayed, then moved",
        "redriven to its own partition",
        "redriven, then a newer one",
        "redriven, and moved before",
        "redriven where it moved to",
    ],
)
def test_what_kafka_orders_is_ordered(homes):
    """By offsets within a partition, by layouts from one to the next."""
    assert unordered(*homes) == ""


@pytest.mark.parametrize(
    ("homes", "why"),
    [
        ((home(0, 200), home(1)), "partitions 0 and 1 of one layout"),
        ((home(1), home(0, 5), home(1, 6)), "partitions 0 and 1 of one layout"),
        ((home(0, 9), home(4, 0, OPEN)), "no known partitioner"),
        ((home(0, 9, OPEN), home(4, 0, NEWER)), "partitions 0 and 4 of one layout"),
        ((home(0, 9, at_ms=7), home(4, 0, NEWER, at_ms=6)), "timestamps contradict"),
        ((home(0, 9, at_ms=1), home(0, 10, at_ms=7), home(4, 0, NEWER, at_ms=6)), "timestamps contradict"),
        ((home(0, 9, NEWER), home(0, 10)), "two layouts of the topic"),
        ((home(0, 9), redriven(1, 5, 10)), "partitions 0 and 1 of one layout"),
        ((home(0, 9), redriven(0, 9, 10)), "one place in the order"),
        ((home(0, 9), redriven(0, 5, 10), home(1, 12)), "partitions 0 and 1 of one layout"),
    ],
)
def test_what_kafka_does_not_order_is_named(homes, why):
    """With the partitions, and why neither version is known to be the newer one."""
    assert why in unordered(*homes)


def test_each_id_is_named_once():
    """With one of its homes."""
    versions = Versions()
    for number in range(3):
        for partition in (0, 1, 2):
            versions.note(number, home(partition))
    found = list(versions.named())
    assert [record_id for record_id, _, _ in found] == [0, 1, 2]
    assert all(each.partition == 2 for _, each, _ in found)


versions_by_place = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 2)), max_size=12)
"""Partition, place in the order, and bytes of each version of an id, as Kafka has them."""


@given(versions_by_place)
def test_declared_orders_lack_an_order_only_where_the_newest_versions_tie(found):
    """Whatever their partitions are, and in whatever order they are read; equal bytes are one version."""
    versions = Versions()
    offsets = dict.fromkeys(range(3), -1)
    for partition, order_us, digest in sorted(found, key=lambda version: version[0]):
        offsets[partition] += 1
        rank = Rank(DECLARED, order_us - offsets[partition], is_proven=True, is_kept=True, digest=digest)
        versions.note("id", Home.of(partition, rank, order_us, 0))
    newest_us = max((order_us for _, order_us, _ in found), default=None)
    newest = {digest for _, order_us, digest in found if order_us == newest_us}
    assert versions.unordered == ({"id": TIE} if len(newest) > 1 else {})
    assert [versions.last_offset("id", partition) for partition in offsets] == list(offsets.values())
    assert not found or versions.newest_us("id") == newest_us
