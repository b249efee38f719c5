"""A topic that is recreated while it is read."""

from types import SimpleNamespace

import pytest
from cassandra import OperationTimedOut

from penstock.broker.topics import NO_ID, Description
from penstock.config import read
from penstock.errors import KafkaUnreachable, PenstockError, TopicRecreated
from penstock.pipeline import topic_guard
from penstock.pipeline.topic_guard import CHECK_EVERY_S, TopicGuard
from tests.unit.fakes import Clock


class World:
    """A topic and a ledger; `now` is the broker's response, or its error."""

    def __init__(self, topic_id: str = "id-1") -> None:
        self.now: Description | Exception = Description(topic_id, 4)
        self.other_log: str | Exception = ""
        self.asked: list[float] = []
        self.marked: list[int] = []
        incarnation = SimpleNamespace(find_other_log=lambda _: _or_raise(self.other_log), mark=self.marked.append)
        self.guard = TopicGuard(incarnation, "t", topic_id, 7, read())  # type: ignore[arg-type]

    def describe(self, _client, _topic, settings):
        self.asked.append(settings.kafka_timeout_s)
        return _or_raise(self.now)


def _or_raise(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(topic_guard.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def make(monkeypatch, clock):
    def make(topic_id: str = "id-1") -> World:
        world = World(topic_id)
        monkeypatch.setattr(topic_guard.topics, "describe_topic", world.describe)
        return world

    monkeypatch.setattr(topic_guard, "create_admin", lambda _settings: None)

    return make


def test_a_batch_of_a_recreated_topic_does_not_start(make):
    """One request returns the number of partitions and the id, which another topic does not have."""
    world = make()
    assert world.guard.count_partitions() == 4
    assert len(world.asked) == 1
    world.now = Description("id-2", 4)
    with pytest.raises(
        TopicRecreated, match=r"t was deleted and recreated .*: its id changed from id-1 to id-2"
    ) as failed:
        world.guard.count_partitions()
    assert "checkpoint reset --to earliest" in failed.value.hint
    world.now = KafkaUnreachable("away")
    with pytest.raises(KafkaUnreachable):
        world.guard.count_partitions()


def test_an_idle_job_rarely_asks_kafka(make, clock):
    """The loop runs twice a second; Kafka is asked every ten seconds, and never longer than a stop may wait."""
    world = make()
    for _ in range(40):
        world.guard.watch()
        clock.now_s += 0.5
    assert len(world.asked) == 40 * 0.5 / CHECK_EVERY_S
    assert max(world.asked) <= 5
    assert world.marked == []


def test_an_idle_job_detects_that_the_topic_was_recreated(make, clock):
    """Even if no batch arrives."""
    world = make()
    world.guard.watch()
    world.now = Description("id-2", 4)
    clock.now_s += CHECK_EVERY_S
    with pytest.raises(TopicRecreated):
        world.guard.watch()


def test_without_ids_records_distinguish_topics(make, clock):
    """The marked ones are compared first, and only then others are marked."""
    world = make(NO_ID)
    world.guard.watch()
    assert world.marked == [7]
    world.other_log = "the record at 0:3 is not the one that was read before"
    clock.now_s += CHECK_EVERY_S
    with pytest.raises(TopicRecreated, match="the record at 0:3 is not the one"):
        world.guard.watch()
    assert world.marked == [7]


def test_a_restarted_query_is_checked_at_once(make):
    """However recent the last check was; and Kafka must respond."""
    world = make(NO_ID)
    world.guard.watch()
    world.other_log = "the record at 0:3 is not the one that was read before"
    world.guard.watch()
    with pytest.raises(TopicRecreated):
        world.guard.check()
    world.other_log = KafkaUnreachable("away")
    with pytest.raises(KafkaUnreachable):
        world.guard.check()


@pytest.mark.parametrize("error", [KafkaUnreachable("away"), PenstockError("no such topic"), OperationTimedOut()])
def test_an_unavailable_service_is_asked_again_later(make, clock, error):
    """It is no reason to stop an idle job: the query itself reports what it needs."""
    world = make(NO_ID)
    for failing in ("now", "other_log"):
        before = getattr(world, failing)
        setattr(world, failing, error)
        world.guard.watch()
        setattr(world, failing, before)
        clock.now_s += CHECK_EVERY_S
    world.guard.watch()
    assert world.marked == [7]


@pytest.mark.parametrize("found", ["find_change", "find_cut"])
@pytest.mark.parametrize("is_in_use", [True, False])
def test_where_topics_have_no_id_one_read_of_the_log_determines_the_incarnation(found, is_in_use):
    """A checkpoint in use never belongs to a log for which a new incarnation starts, even if the topic is recreated
    meanwhile.

    Neither when another record is at a marked position, nor when the log ends before the ledger does.
    """
    answers = {name: iter([""] if name != found else ["it is another log"]) for name in ("find_change", "find_cut")}
    begun: list[bool] = []
    incarnation = SimpleNamespace(
        find_change=lambda _: next(answers["find_change"]),
        find_cut=lambda _: next(answers["find_cut"]),
        begin_generation=lambda _, *, is_recreated: begun.append(is_recreated) or 7,
    )
    checkpoint = SimpleNamespace(topic="t", read_position=lambda: SimpleNamespace(begun=is_in_use))
    if is_in_use:
        with pytest.raises(TopicRecreated, match="it is another log"):
            topic_guard.begin_generation(checkpoint, incarnation, NO_ID)
        assert begun == []
    else:
        assert topic_guard.begin_generation(checkpoint, incarnation, NO_ID) == 7
        assert begun == [True]
