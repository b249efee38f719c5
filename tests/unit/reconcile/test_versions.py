"""Ids whose versions Kafka orders, and those whose versions it does not."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.order import DECLARED, FIRST_RANK, Rank
from penstock.reconcile.audit import Named
from tests.unit.reconcile.facts import Facts, line, record
from tests.unit.strategies import few_examples

NEWER = Rank(1, 1_000_000, True)
OPEN = Rank(1, 1_000_000, False)


TIE = "two versions have one place in the order: Cassandra mixes their columns"


class Home(NamedTuple):
    """The position of one version of an id."""

    partition: int
    offset: int = 0
    rank: Rank = FIRST_RANK
    at_ms: int = 0


home = Home


def redriven(partition: int, order_us: int, offset: int, layout: int = 0) -> Home:
    """The position of a record that was redriven just now, and keeps an earlier one."""
    return home(partition, offset, Rank(layout, order_us - offset, is_proven=True, is_kept=True), at_ms=10**13)


def named(home_folder: Path, versions: dict[str, tuple[Home, ...]]) -> list[Named]:
    """The ids without an order."""
    facts = Facts(home_folder)
    for record_id, homes in versions.items():
        for item in homes:
            facts.records.append(
                record(item.partition, item.offset, record_id, rank=item.rank, timestamp_ms=item.at_ms)
            )
    facts.lines = [line(at, 0, 10**4) for at in range(10)]
    return facts.reconcile().named["unordered"]


def spread(cases: dict[str, tuple[Home, ...]]) -> dict[str, tuple[Home, ...]]:
    """The versions of each case at offsets of its own, so that one topic has them all."""
    return {
        name: tuple(item._replace(offset=item.offset + 500 * number) for item in homes)
        for number, (name, homes) in enumerate(cases.items())
    }


ORDERED = {
    "one partition": (home(0), home(0, 1), home(0, 7)),
    "moved": (home(0, 9, at_ms=5), home(4, 0, NEWER, at_ms=6)),
    "moved, and seen first where it moved": (home(4, 0, NEWER, at_ms=6), home(0, 9, at_ms=5), home(0, 10, at_ms=6)),
    "stayed, then moved": (home(0, 9), home(0, 10, NEWER), home(3, 10, Rank(2, 2_000_000, True))),
    "redriven to its own partition": (home(0, 1), home(0, 9), redriven(0, 5, 10)),
    "redriven, then a newer one": (redriven(0, 5, 10), home(0, 11), home(0, 12)),
    "redriven, and moved before": (home(0, 9, at_ms=5), redriven(0, 8, 20), home(4, 0, NEWER, at_ms=6)),
    "redriven where it moved to": (
        home(4, 3, NEWER, at_ms=6),
        redriven(4, 1_000_001, 9, layout=1),
        home(0, 9, at_ms=5),
    ),
}
UNORDERED = {
    "two partitions": ((home(0, 200), home(1)), "partitions 0 and 1 of one layout"),
    "returned": ((home(1), home(0, 5), home(1, 6)), "partitions 0 and 1 of one layout"),
    "moved without proof": ((home(0, 9), home(4, 0, OPEN)), "no known partitioner"),
    "moved to the same layout": ((home(0, 9, OPEN), home(4, 0, NEWER)), "partitions 0 and 4 of one layout"),
    "moved earlier": ((home(0, 9, at_ms=7), home(4, 0, NEWER, at_ms=6)), "timestamps contradict"),
    "stayed after it moved": (
        (home(0, 9, at_ms=1), home(0, 10, at_ms=7), home(4, 0, NEWER, at_ms=6)),
        "timestamps contradict",
    ),
    "older layout last": ((home(0, 9, NEWER), home(0, 10)), "two layouts of the topic"),
    "redriven elsewhere": ((home(0, 9), redriven(1, 5, 10)), "partitions 0 and 1 of one layout"),
    "redriven to the same place": ((home(0, 9), redriven(0, 9, 10)), "one place in the order"),
    "redriven, then elsewhere": ((home(0, 9), redriven(0, 5, 10), home(1, 12)), "partitions 0 and 1 of one layout"),
}


def test_kafkas_order_is_used(tmp_path):
    """By offsets within a partition, by layouts from one to the next."""
    assert named(tmp_path, spread(ORDERED)) == []


def test_versions_that_kafka_does_not_order_are_named(tmp_path):
    """With the partitions, and why neither version is known to be the newer one; one version has an order."""
    versions = {"other": (Home(9),)} | {name: homes for name, (homes, _) in UNORDERED.items()}
    reasons = {item["id"]: item["why"] for item in named(tmp_path, spread(versions))}
    assert reasons.keys() == UNORDERED.keys()
    assert {name: why for name, (_, why) in UNORDERED.items() if why not in reasons[name]} == {}


def test_each_id_is_named_once(tmp_path):
    """With one of its positions."""
    result = named(tmp_path, {str(number): tuple(home(at, number) for at in (0, 1, 2)) for number in range(3)})
    assert [(item["partition"], item["offset"], item["id"]) for item in result] == [
        (2, 0, "0"),
        (2, 1, "1"),
        (2, 2, "2"),
    ]


versions_by_place = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 2)), max_size=12)
"""Partition, place in the order, and bytes of each version of an id, as Kafka has them."""


@few_examples
@given(versions_by_place)
def test_declared_orders_lack_an_order_only_if_the_newest_versions_tie(found):
    """Whatever their partitions are, and in whatever order they are read; equal bytes are one version."""
    offsets = dict.fromkeys(range(3), -1)
    homes = []
    for partition, order_us, digest in found:
        offsets[partition] += 1
        rank = Rank(DECLARED, order_us - offsets[partition], is_proven=True, is_kept=True, digest=digest)
        homes.append(home(partition, offsets[partition], rank))
    newest_us = max((order_us for _, order_us, _ in found), default=None)
    newest = {digest for _, order_us, digest in found if order_us == newest_us}
    with tempfile.TemporaryDirectory() as folder:
        result = named(Path(folder), {"other": (Home(9),), "id": tuple(homes)})
    assert [(item["id"], item["why"]) for item in result] == ([("id", TIE)] if len(newest) > 1 else [])
