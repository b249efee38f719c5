"""The list of topics: what each contains, and what Kafka does not report."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import OffsetSpec

from penstock.config import read
from penstock.errors import KafkaUnreachable, UsageError
from penstock.pipelines import users
from penstock.web.topics import inventory
from penstock.web.topics.inventory import Inventory, classify_topic
from tests.unit.fakes import Clock, kafka_error


def done(result=None, error=None) -> Future:
    future = Future()
    future.set_exception(error) if error else future.set_result(result)
    return future


class FakeAdmin:
    """An admin client: by topic the end of each partition; None for one without a leader."""

    def __init__(self, ends) -> None:
        self.ends, self.error, self.looks = ends, None, 0

    def list_topics(self, timeout):
        if self.error:
            raise self.error
        self.looks += 1
        topics = {
            name: SimpleNamespace(topic=name, partitions=dict(enumerate(value))) for name, value in self.ends.items()
        }
        return SimpleNamespace(topics=topics, brokers={1: SimpleNamespace(host="h", port=1)})

    def list_offsets(self, asked, request_timeout):
        return {key: self._offset(key, spec) for key, spec in asked.items()}

    def _offset(self, item, spec):
        end = self.ends[item.topic][item.partition]
        if end is None:
            return done(error=kafka_error(KafkaError.LEADER_NOT_AVAILABLE))
        return done(
            SimpleNamespace(offset=1 if spec is OffsetSpec.earliest() or spec == OffsetSpec.earliest() else end)
        )

    def describe_configs(self, resources, request_timeout):
        result = {"retention.ms": "1000", "retention.bytes": "-1", "cleanup.policy": "delete"}
        return {
            resource: done({name: SimpleNamespace(value=value) for name, value in result.items()})
            for resource in resources
        }


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(inventory.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(inventory, "fetch_sizes", lambda *_: {"t": 77})
    return clock


def test_each_topic_is_listed_with_its_content(clock):
    """The pipeline's first, internal ones last; a rate after two polls."""
    client = FakeAdmin({"__x": [1], "t": [11, 21], "users_created": [1]})
    held = Inventory(client, read(home="unused"))
    assert [topic.name for topic in held.list_topics()] == ["users_created", "t", "__x"]
    first = held.get_topic("t")
    assert (first.partitions, first.records, first.disk_bytes, first.rate_s) == (2, 30, 77, None)
    assert (first.retention_ms, first.retention_bytes, first.cleanup) == (1000, -1, "delete")
    client.ends["t"] = [31, 21]
    clock.now_s += 2
    assert (held.get_topic("t").records, held.get_topic("t").rate_s) == (50, 10.0)


def test_concurrent_callers_share_one_poll(clock):
    """Twenty open pages cause one poll."""
    client = FakeAdmin({"t": [1]})
    held = Inventory(client, read(home="unused"))
    for _ in range(20):
        held.list_topics()
    assert client.looks == 1
    held.clear_cache()
    held.list_topics()
    assert client.looks == 2


def test_unknown_counts_are_not_zero(clock):
    """A partition without a leader, and a topic that was recreated between two polls."""
    client = FakeAdmin({"t": [11, None], "u": [100]})
    held = Inventory(client, read(home="unused"))
    assert held.get_topic("t").records is None
    held.list_topics()
    client.ends["u"] = [3]
    clock.now_s += 2
    assert held.get_topic("u").rate_s is None


def test_a_missing_topic_is_not_found(clock):
    """And one that was just created is found at once."""
    client = FakeAdmin({"t": [1]})
    held = Inventory(client, read(home="unused"))
    with pytest.raises(UsageError, match="no topic 'new'"):
        held.get_topic("new")
    client.ends["new"] = [1]
    assert held.get_topic("new").name == "new"


def test_an_unavailable_kafka_is_an_error(clock):
    """Not an empty list."""
    client = FakeAdmin({})
    client.error = kafka_error(KafkaError._TRANSPORT)
    held = Inventory(client, read(home="unused"))
    for _ in range(2):
        with pytest.raises(KafkaUnreachable):
            held.list_topics()
    client.error = None
    with pytest.raises(KafkaUnreachable):  # who asks in the same moment does not wait once more
        held.list_topics()
    clock.now_s += 2
    assert held.list_topics() == []


def test_the_purpose_of_a_topic_is_known_by_its_name():
    """By their names."""
    names = ("users_created", "users_created.dlq", "kafkasql-journal", "__consumer_offsets", "mine")
    assert [classify_topic(name, users.PIPELINE) for name in names] == ["pipeline", "rejected", "registry", "Kafka", ""]
