"""A replay with stand-ins for Spark and the tables."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.contract.batch import BatchSummary
from penstock.errors import PenstockError, TopicRecreated
from penstock.pipeline import replay
from penstock.pipeline.replay import split_rounds
from penstock.sink.ledger import REPLAY
from tests.unit.carried import EPOCH_US, Carried

spans = st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 99), st.integers(0, 60)), max_size=4).map(
    lambda item: [OffsetRange(partition, first, first + more) for partition, (first, more) in item.items()]
)


@given(spans, st.integers(1, 50))
def test_rounds_contain_each_offset_once_and_in_order(wanted, records):
    """At most `records` offsets per round, at least one per partition; no partition twice, no empty range."""
    seen = {span.partition: [] for span in wanted}
    for some in split_rounds(wanted, records):
        assert some
        assert all(span.records > 0 for span in some)
        assert len({span.partition for span in some}) == len(some)
        assert sum(span.records for span in some) <= max(records, len(wanted))
        for span in some:
            seen[span.partition] += range(span.first, span.end)
    assert seen == {span.partition: list(range(span.first, span.end)) for span in wanted}


class World:
    """The arguments of a replay, and what it did."""

    def __init__(self, topic: Carried) -> None:
        self.topic = topic
        self.done: list = []
        self.fails_at = 99

    def store(self, some, how):
        self.done.append(("store", some))
        if len(self.stored()) > self.fails_at:
            raise PenstockError("killed")
        return [
            BatchSummary(item.partition, item.first, item.end - 1, item.records, item.records, 0, 0, 0, 9, {}, {})
            for item in some
        ]

    def stored(self) -> list:
        return [what for name, what in self.done if name == "store"]

    def replay(self, *wanted: OffsetRange, batch: int = 4):
        settings = read(home=self.topic.settings.home, spark_batch_records=batch)
        report = lambda *told: self.done.append(("report", told))  # noqa: E731
        return replay.replay_ranges("spark", self.topic.tables.session, settings, list(wanted), report)

    def lines(self) -> list[tuple[str, int, int, int]]:
        result = self.topic.tables.kept["ledger"].values()
        return [(item["job"], item["batch_id"], item["first_offset"], item["last_offset"]) for item in result]


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(Carried(tmp_path, partitions=2))
    monkeypatch.setattr(
        replay, "build_plan", lambda _settings, epoch_us, _order, _proofs: SimpleNamespace(epoch_us=epoch_us)
    )
    monkeypatch.setattr(replay, "warm_up", lambda spark, how: world.done.append(("warm up", how.epoch_us)))
    monkeypatch.setattr(replay, "load_offset_ranges", lambda _spark, _settings, topic, some: some)
    monkeypatch.setattr(replay, "raw_records", lambda frame, _order_by: frame)
    monkeypatch.setattr(replay, "store_batch", world.store)
    with world.topic.in_place():
        yield world


def test_a_replay_runs_in_rounds(world):
    """Each is stored, written to the ledger under the replay's own job, and reported."""
    done = world.replay(OffsetRange(0, 2, 7), OffsetRange(1, 0, 3))
    assert world.done == [
        ("warm up", EPOCH_US),
        ("store", [OffsetRange(0, 2, 4), OffsetRange(1, 0, 2)]),
        ("report", (4, 8)),
        ("store", [OffsetRange(0, 4, 6), OffsetRange(1, 2, 3)]),
        ("report", (7, 8)),
        ("store", [OffsetRange(0, 6, 7)]),
        ("report", (8, 8)),
    ]
    assert (
        done.records,
        [(partition.partition, partition.first_offset, partition.last_offset) for partition in done.partitions],
    ) == (
        8,
        [(0, 2, 6), (1, 0, 2)],
    )
    assert done.job.startswith(REPLAY)
    assert sorted(line[1:] for line in world.lines()) == [(0, 0, 1), (0, 2, 3), (1, 2, 2), (1, 4, 5), (2, 6, 6)]
    assert {line[0] for line in world.lines()} == {done.job}


def test_ledger_entries_are_written_once_their_round_is_stored(world):
    """A failed round has none; the next attempt is another job, with all of its entries."""
    world.fails_at = 1
    with pytest.raises(PenstockError, match="killed"):
        world.replay(OffsetRange(0, 0, 9))
    assert [line[1:] for line in world.lines()] == [(0, 0, 3)]
    world.fails_at = 99
    again = world.replay(OffsetRange(0, 0, 9))
    assert again.records == 9
    assert len([line for line in world.lines() if line[0] == again.job]) == 3
    assert len({line[0] for line in world.lines()}) == 2


def test_a_completed_round_is_in_the_commit_log(world, clock):
    """Where Cassandra acknowledges before it syncs, each round waits for that like a batch of the stream."""
    world.topic.tables.node = {"commitlog_sync": "periodic", "periodic_commitlog_sync_lag_block": "10ms"}
    world.replay(OffsetRange(0, 0, 9))
    assert clock.slept_s == [0.01] * 3
    world.topic.tables.node = {"commitlog_sync": "batch", "periodic_commitlog_sync_lag_block": "10ms"}
    world.replay(OffsetRange(0, 0, 9))
    assert len(clock.slept_s) == 3


def test_an_empty_replay_ends_at_once(world):
    """No offsets, no rounds."""
    done = world.replay(OffsetRange(0, 3, 3))
    assert (done.records, done.partitions, world.stored()) == (0, [], [])


def test_a_recreated_topic_is_not_replayed_before_the_job_has_read_it(world):
    """Its records would be taken for those of its predecessor."""
    world.topic.tables.generations = {"id-0": EPOCH_US}
    with pytest.raises(TopicRecreated, match="its id is id-1, the ledger's topic has the id id-0"):
        world.replay(OffsetRange(0, 0, 3))
    assert world.stored() == []


def test_a_topic_that_no_job_has_read_is_not_replayed(world):
    """Its rows would have no timestamp base."""
    world.topic.tables.generations = {}
    with pytest.raises(PenstockError, match="no job has read readings yet"):
        world.replay(OffsetRange(0, 0, 3))
    assert world.done == []
