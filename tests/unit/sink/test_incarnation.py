"""Whether a topic is the one that the ledger belongs to, with ids and without."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import NO_ID, OffsetRange, Position
from penstock.config import read
from penstock.sink import incarnation, ledger
from penstock.sink.incarnation import Incarnation, Mark, find_cut, find_other, newest_marks
from tests.unit.fakes import FakeSession, message


class Tables:
    """Cassandra's tables of incarnations, marks and the ledger."""

    def __init__(self) -> None:
        self.generations: dict[int, str] = {}
        self.marks: dict[tuple[int, int], tuple] = {}
        self.lines: list[dict] = []

    def __call__(self, query, values):
        if query.startswith("INSERT") and ".generations " in query:
            self.generations[values[1]] = values[2]
        elif query.startswith("INSERT") and ".marks " in query:
            self.marks[values[1], values[2]] = values
        elif query.startswith("SELECT") and ".generations " in query:
            return [{"epoch_us": epoch, "topic_id": name} for epoch, name in self.generations.items()]
        elif query.startswith("SELECT") and ".marks " in query:
            names = ("topic", "generation_us", "kafka_partition", "marked_offset", "timestamp_ms", "crc")
            return [dict(zip(names, row, strict=True)) for key, row in self.marks.items() if key[0] == values[1]]
        elif "DISTINCT" in query:
            return self.lines
        elif query.startswith("SELECT job"):
            key = dict(zip(("topic", "generation_us", "kafka_partition", "bucket"), values, strict=True))
            return [line for line in self.lines if key.items() <= line.items()]
        return []


class World:
    """A topic whose records are `log`: by position the time and the value."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.session = FakeSession(self.tables)
        self.session.cluster.metadata.keyspaces = {"ks": SimpleNamespace(tables={"marks", "generations", "ledger"})}
        self.log: dict[Position, tuple[int, bytes]] = {}
        self.firsts: dict[int, int] = {}
        self.reads = 0
        self.topic = Incarnation(self.session, "ks", read(), "t")

    def spans(self, *_):
        ends = {place.partition: place.offset + 1 for place in sorted(self.log)}
        return [OffsetRange(partition, self.firsts.get(partition, 0), end) for partition, end in ends.items()]

    def records_at(self, _consumer, _topic, places, _settings):
        self.reads += 1
        held = [place for place in places if place in self.log and place.offset >= self.firsts.get(place.partition, 0)]
        return {
            place: message(place.offset, self.log[place][1], partition=place.partition, timestamp_ms=self.log[place][0])
            for place in held
        }

    def fill(self, partition: int, records: int, at_ms: int = 1_000, value: bytes = b"v") -> None:
        for offset in range(records):
            self.log[Position(partition, offset)] = (at_ms + offset, value)

    def recreate(self) -> None:
        self.log.clear()
        self.firsts.clear()

    def begin(self, topic_id: str = NO_ID) -> int:
        """Do what a job does at its start."""
        change = self.topic.find_change(topic_id) or self.topic.find_cut(topic_id)
        return self.topic.begin_generation(topic_id, is_recreated=bool(change))

    def store(self, epoch_us: int, partition: int, last: int) -> None:
        key = {"topic": "t", "generation_us": epoch_us, "kafka_partition": partition, "bucket": 0}
        self.tables.lines.append(key | {"job": "stream", "last_offset": last})


@pytest.fixture
def world(monkeypatch) -> World:
    world = World()
    monkeypatch.setattr(incarnation.topics, "fetch_offset_ranges", world.spans)
    monkeypatch.setattr(incarnation.topics, "read_records_at", world.records_at)
    return world


def test_with_ids_a_topic_is_identified_by_its_id(world):
    """No record is read; a known id that reappears, as with two clusters in turn, is no new topic."""
    world.fill(0, 5)
    assert world.topic.find_change("id-1") == ""
    first = world.begin("id-1")
    assert world.topic.find_change("id-1") == ""
    assert world.topic.find_change("id-2") == "its id is id-2, the ledger's topic has the id id-1"
    assert world.topic.find_other_log("id-2") == ""
    second = world.begin("id-2")
    assert second > first
    assert (world.begin("id-1"), world.begin("id-2")) == (first, second)
    assert (world.reads, world.tables.marks) == (0, {})


def test_a_truncated_log_is_a_new_incarnation_whatever_its_id(world):
    """Offsets are assigned again: what is written for them must be newer than what was."""
    world.fill(0, 5)
    first = world.begin("id-1")
    world.store(first, 0, 4)
    assert world.begin("id-1") == first
    world.recreate()
    world.fill(0, 3)
    assert world.begin("id-1") > first
    assert ledger.read_epoch_us(world.session, "ks", "t", "id-1") == world.begin("id-1")


@pytest.mark.parametrize("records", [0, 3, 5, 9])
def test_without_ids_a_recreated_topic_is_identified_by_its_records(world, records):
    """Whether it has fewer records than before, as many, or more; its incarnation is a later one, once."""
    world.fill(0, 5)
    first = world.begin()
    assert world.topic.find_change(NO_ID) == ""
    world.fill(0, 8)
    assert (world.topic.find_change(NO_ID), world.begin()) == ("", first)
    world.recreate()
    world.fill(0, records, at_ms=9_000)
    assert world.topic.find_change(NO_ID)
    second = world.begin()
    assert second > first
    assert (world.topic.find_change(NO_ID), world.begin()) == ("", second)


def test_without_ids_another_value_at_the_same_time_is_another_record(world):
    """As when a test sends the same records again, within a millisecond."""
    world.fill(0, 5)
    world.begin()
    world.fill(0, 5, value=b"other")
    assert world.topic.find_change(NO_ID) == "the record at 0:4 is not the one that was read before"


def test_without_ids_retention_is_no_change(world):
    """A mark that Kafka has deleted proves nothing, and another record is marked instead."""
    world.fill(0, 5)
    epoch_us = world.begin()
    world.fill(0, 20)
    world.firsts[0] = 10
    assert world.topic.find_change(NO_ID) == ""
    world.topic.mark(epoch_us)
    assert world.tables.marks[epoch_us, 0][3] == 19
    world.recreate()
    world.fill(0, 30, at_ms=9_000)
    assert world.topic.find_change(NO_ID) == "the record at 0:19 is not the one that was read before"


def test_a_mark_is_kept_as_long_as_kafka_has_its_record(world):
    """A topic that was recreated between two polls cannot replace an older mark with its own record."""
    world.fill(0, 5)
    epoch_us = world.begin()
    world.fill(0, 50)
    world.topic.mark(epoch_us)
    assert world.tables.marks[epoch_us, 0][3] == 4


def test_a_partition_without_records_is_marked_later(world):
    """Once it has some, even after transaction markers."""
    world.fill(0, 5)
    epoch_us = world.begin()
    world.fill(1, 3)
    del world.log[Position(1, 1)]
    world.topic.mark(epoch_us)
    assert {key[1]: row[3] for key, row in world.tables.marks.items()} == {0: 4, 1: 2}


def test_a_broker_that_gains_ids_keeps_the_incarnation(world):
    """An upgrade is no new topic, as its records prove; a topic that was recreated in the same night is one."""
    world.fill(0, 5)
    first = world.begin()
    assert world.begin("id-1") == first
    assert world.tables.generations == {first: "id-1"}
    assert ledger.read_epoch_us(world.session, "ks", "t", "id-1") == first


def test_a_topic_recreated_while_its_broker_gains_ids_is_a_new_one(world):
    """Its records prove that, too."""
    world.fill(0, 5)
    first = world.begin()
    world.recreate()
    world.fill(0, 9, at_ms=9_000)
    assert world.topic.find_other_log("id-1")
    assert world.begin("id-1") > first
    assert NO_ID in world.tables.generations.values()


def test_the_ledgers_ends_are_those_of_its_newest_entries():
    """Per partition of one incarnation; an entry of a replay does not count."""
    tables = Tables()
    session = FakeSession(tables)
    for partition, bucket, last, job in ((0, 0, 5, "s"), (0, 1, 1_000_007, "s"), (1, 0, 9, ledger.REPLAY)):
        key = {"topic": "t", "generation_us": 7, "kafka_partition": partition, "bucket": bucket}
        tables.lines.append(key | {"job": job, "last_offset": last})
    assert ledger.read_ends(session, "ks", "t", 7) == {0: 1_000_008, 1: 0}
    assert ledger.read_ends(session, "ks", "t", 8) == {}


places = st.builds(Position, st.integers(0, 2), st.integers(0, 9))
marks = st.dictionaries(places, st.integers(0, 3), max_size=6).map(
    lambda item: {place: Mark(place, at_ms, 0) for place, at_ms in item.items()}
)


@given(marks, marks)
def test_only_an_existing_record_that_differs_is_another_one(before, now):
    """A mark that is gone proves nothing."""
    differs = {place for place in before.keys() & now.keys() if before[place] != now[place]}
    assert bool(find_other(before.values(), now)) == bool(differs)


@given(marks)
def test_each_partition_is_marked_once_at_its_newest_record(found):
    """Of those that were read."""
    newest = {mark.position.partition: mark.position.offset for mark in newest_marks(found)}
    assert newest == {
        place.partition: max(other.offset for other in found if other.partition == place.partition) for place in found
    }


@given(st.dictionaries(st.integers(0, 3), st.integers(0, 9)), st.dictionaries(st.integers(0, 3), st.integers(0, 9)))
def test_a_log_is_truncated_if_it_ends_before_what_is_known(known, ends):
    """A removed partition ends at 0; an added one is not truncated."""
    spans = [OffsetRange(partition, 0, end) for partition, end in ends.items()]
    assert bool(find_cut(known, spans)) == any(ends.get(partition, 0) < end for partition, end in known.items())
