"""Consumer groups: which ones count, and where the Spark query is."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from cassandra import OperationTimedOut
from confluent_kafka import ConsumerGroupState, KafkaError, TopicPartition

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.errors import CassandraUnreachable, KafkaUnreachable
from penstock.web.topics import groups as observe_groups
from penstock.web.topics.groups import list_groups, read_positions
from tests.unit.fakes import FakeSession, kafka_error


def done(result=None, error=None) -> Future:
    future = Future()
    future.set_exception(error) if error else future.set_result(result)
    return future


class FakeAdmin:
    """An admin client of groups: by name the members' partitions, and the committed offsets."""

    def __init__(self, held, ends=None, error=None) -> None:
        self.held, self.ends, self.error, self.asked = held, ends or {}, error, []

    def list_consumer_groups(self, request_timeout):
        valid = [SimpleNamespace(group_id=name) for name in self.held]
        return done(SimpleNamespace(valid=valid, errors=[self.error] if self.error else []))

    def describe_consumer_groups(self, names, request_timeout):
        return {name: done(self._described(self.held[name][0])) for name in names}

    def _described(self, members):
        state = ConsumerGroupState.STABLE if members else ConsumerGroupState.EMPTY
        result = [
            SimpleNamespace(
                client_id=client,
                assignment=SimpleNamespace(topic_partitions=[TopicPartition(*place) for place in places]),
            )
            for client, places in members.items()
        ]
        return SimpleNamespace(state=state, members=result)

    def list_consumer_group_offsets(self, asked, request_timeout):
        name = asked[0].group_id
        self.asked.append(name)
        parts = [TopicPartition(topic, part, offset) for (topic, part), offset in self.held[name][1].items()]
        return {name: done(SimpleNamespace(topic_partitions=parts))}

    def list_offsets(self, asked, request_timeout):
        return {
            item: done(SimpleNamespace(offset=self.ends[item.topic, item.partition]))
            if (item.topic, item.partition) in self.ends
            else done(error=kafka_error(KafkaError.UNKNOWN_TOPIC_OR_PART))
            for item in asked
        }


SETTINGS = read(home="unused")


def test_lag_is_counted_per_partition_and_group():
    """End minus committed, never below zero; what Kafka does not report stays unknown."""
    client = FakeAdmin(
        {"app": ({"c1": [("t", 0)]}, {("t", 0): 7, ("t", 1): 12, ("t", 2): -1001}), "other": ({}, {("gone", 0): 1})},
        {("t", 0): 10, ("t", 1): 11},
    )
    app, other = list_groups(client, SETTINGS)
    assert (app.name, app.state, app.members, app.lag, app.is_stale) == ("app", "stable", 1, 3, False)
    assert [(reach.partition, reach.lag, reach.client) for reach in app.reaches] == [(0, 3, "c1"), (1, 0, "")]
    assert (other.state, other.lag, other.is_stale) == ("empty", None, False)


def test_the_registrys_stale_groups_have_no_lag():
    """Neither those with Apicurio's names, which are not even queried, nor others that read its topic and have
    ended.
    """
    journal = {("kafkasql-journal", 0): 0}
    client = FakeAdmin(
        {
            "apicurio-1": ({"c": [("kafkasql-journal", 0)]}, journal),
            "apicurio-2": ({}, journal),
            "old": ({}, journal),
            "app": ({}, {("t", 0): 0}),
        },
        {("kafkasql-journal", 0): 50, ("t", 0): 4},
    )
    result = {group.name: group for group in list_groups(client, SETTINGS)}
    assert list(result)[:2] == ["app", "apicurio-1"]
    assert {name for name, value in result.items() if value.is_stale} == {"apicurio-2", "old"}
    assert (result["apicurio-2"].lag, result["old"].lag, result["old"].reaches) == (None, None, [])
    assert (result["apicurio-1"].lag, result["app"].lag) == (50, 4)
    assert "apicurio-2" not in client.asked


def test_an_unavailable_kafka_is_not_one_without_groups():
    """The client returns an empty list, and an error."""
    with pytest.raises(KafkaUnreachable):
        list_groups(FakeAdmin({}, error=KafkaError(KafkaError._TRANSPORT, "away")), SETTINGS)


@pytest.fixture
def spans(monkeypatch):
    """The pipeline's topic has two partitions."""
    monkeypatch.setattr(observe_groups, "read_ranges", lambda *_: [OffsetRange(0, 5, 20), OffsetRange(1, 0, 8)])


def test_the_position_of_the_query_is_that_of_the_ledger_or_else_the_checkpoint(spans, tmp_path):
    """Lag counts what is in the topic and not yet recorded."""
    settings = read(home=tmp_path)
    folder = tmp_path / "data" / "checkpoint-kraft" / "users_created"
    (folder / "offsets").mkdir(parents=True)
    (folder / "commits").mkdir()
    (folder / "offsets" / "0").write_text('v1\n{"batchWatermarkMs":0}\n{"users_created":{"0":15,"1":6}}')
    (folder / "commits" / "0").write_text('v1\n{"nextBatchWatermarkMs":0}')
    positions = read_positions(None, settings, FakeSession, {0: 18, 1: None})
    assert [(partition.planned, partition.recorded, partition.lag) for partition in positions.partitions] == [
        (15, 18, 2),
        (6, None, 2),
    ]
    assert (positions.lag, positions.problems) == (4, [])


def test_unreadable_sources_are_listed_and_the_rest_is_returned(spans, tmp_path):
    """A checkpoint elsewhere, and Cassandra unavailable for either reason."""
    settings = read(home=tmp_path, spark_checkpoint="s3://bucket/place")

    def away():
        raise CassandraUnreachable("Cassandra is away")

    for session in (away, lambda: FakeSession(error=OperationTimedOut("slow"))):
        positions = read_positions(None, settings, session, {})
        assert [partition.lag for partition in positions.partitions] == [None, None]
        assert positions.lag is None
        assert ["checkpoint" in positions.problems[0], "newest batch" in positions.problems[1]] == [True, True]
