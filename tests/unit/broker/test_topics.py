from concurrent.futures import Future
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, Message

from penstock.broker import topics
from penstock.broker.topics import OffsetRange, Position
from penstock.config import read
from penstock.errors import KafkaUnreachable, NotFound, PenstockError
from penstock.pipelines import users
from tests.unit.fakes import FakeConsumer, event, kafka_error, message


class FakeAdmin:
    """An admin client that knows some topics; creating one fails with `error`."""

    def __init__(self, present=(), error=None) -> None:
        self.present, self.error, self.created = dict.fromkeys(present), error, []

    def list_topics(self, timeout):
        if self.error and self.error.args[0].code() == KafkaError._TRANSPORT:
            raise self.error
        return SimpleNamespace(topics=self.present)

    def create_topics(self, new, operation_timeout):
        self.created += new
        return {item.topic: self._done() for item in new}

    def describe_topics(self, wanted, request_timeout):
        return {"t": self._done(SimpleNamespace(topic_id="id-1", partitions=[0, 1, 2]))}

    def _done(self, result=None):
        future = Future()
        if self.error:
            future.set_exception(self.error)
        else:
            future.set_result(result)
        return future


@pytest.fixture
def admin(monkeypatch):
    """Install the admin client that `topics` gets."""

    def make(*present, error=None):
        client = FakeAdmin(present, error)
        monkeypatch.setattr(topics, "create_admin", lambda _: client)
        return client

    return make


@pytest.fixture
def consumer(monkeypatch):
    """Install the consumer that `topics` gets."""

    def make(*arguments, **named):
        client = FakeConsumer(*arguments, **named)
        monkeypatch.setattr(topics, "create_reader", lambda _: client)
        return client

    return make


def test_missing_topics_are_created_from_the_settings(admin):
    """With the configured partitions, replicas and retention."""
    client = admin("there")
    settings = read(kafka_partitions=3, kafka_replication=3, kafka_retention_hours=2)
    topics.ensure_topic(settings, "there")
    topics.ensure_topic(settings, "new")
    assert [(topic.topic, topic.num_partitions, topic.replication_factor) for topic in client.created] == [
        ("new", 3, 3)
    ]
    assert client.created[0].config == {
        "cleanup.policy": "delete",
        "compression.type": "uncompressed",
        "max.message.bytes": "4194304",
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": "3600000",
        "min.insync.replicas": "2",
        "retention.ms": "7200000",
    }


def test_a_dead_letter_topic_accepts_every_record_of_its_topic(admin, settings):
    """There is room for the error headers."""
    client = admin()
    topics.ensure_pipeline_topics(settings, users.PIPELINE)
    sizes = {topic.topic: int(topic.config["max.message.bytes"]) for topic in client.created}
    assert sizes["users_created.dlq"] >= sizes["users_created"] + 16 * 1024


def test_dead_letters_are_kept_without_limit(admin, settings):
    """Whatever the retention of the topic itself."""
    client = admin()
    topics.ensure_pipeline_topics(settings, users.PIPELINE)
    kept = {topic.topic: topic.config["retention.ms"] for topic in client.created}
    assert kept == {"users_created": str(168 * 3_600_000), "users_created.dlq": "-1"}


def test_one_replica_needs_one_in_sync(settings):
    """With a single broker a record is acknowledged by that broker."""
    assert topics.topic_settings(settings)["min.insync.replicas"] == "1"


def test_a_topic_created_concurrently_is_no_error(admin, settings):
    """Two processes that start at once do not fail each other."""
    admin(error=kafka_error(KafkaError.TOPIC_ALREADY_EXISTS))
    topics.ensure_topic(settings, "new")


@pytest.mark.parametrize(
    ("code", "kind"),
    [(KafkaError._TRANSPORT, KafkaUnreachable), (KafkaError.POLICY_VIOLATION, PenstockError)],
)
def test_a_topic_that_cannot_be_created_is_an_error(admin, settings, code, kind):
    """The error says which topic, and whether Kafka is unavailable."""
    admin(error=kafka_error(code))
    with pytest.raises(PenstockError, match="creating a") as failed:
        topics.ensure_topic(settings, "a")
    assert type(failed.value) is kind


def test_the_topic_id_is_kafkas(admin, settings):
    """Or an error if Kafka does not return one."""
    admin("t")
    assert topics.fetch_topic_id(settings, "t") == "id-1"
    assert topics.describe_topic(topics.create_admin(settings), "t", settings) == ("id-1", 3)
    admin(error=kafka_error(KafkaError._TIMED_OUT))
    with pytest.raises(KafkaUnreachable, match="describing t"):
        topics.fetch_topic_id(settings, "t")


def test_ranges_are_the_watermarks_in_partition_order(consumer, settings):
    """The content of a topic per partition, from its first offset to its end."""
    client = consumer(partitions={1: (0, 5), 0: (3, 3)})
    assert topics.fetch_offset_ranges(settings, "t") == [OffsetRange(0, 3, 3), OffsetRange(1, 0, 5)]
    assert [span.records for span in topics.fetch_offset_ranges(settings, "t")] == [0, 5]
    assert client.closed


def test_new_records_are_those_after_the_known_ends():
    """From the known end, or from where the partition starts by now; all of a new partition."""
    before = [OffsetRange(0, 0, 3), OffsetRange(1, 0, 3)]
    now = [OffsetRange(0, 0, 9), OffsetRange(1, 5, 9), OffsetRange(2, 4, 9)]
    assert topics.find_new_offset_ranges(before, now) == [
        OffsetRange(0, 3, 9),
        OffsetRange(1, 5, 9),
        OffsetRange(2, 4, 9),
    ]


def test_a_missing_topic_has_no_ranges(consumer, settings):
    """It counts as empty."""
    client = consumer(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    assert topics.fetch_offset_ranges(settings, "t") == []
    assert client.closed


def test_a_required_topic_is_named_if_it_is_missing(consumer, settings):
    """The error says which topic, where, and what creates it; an existing one has its ranges."""
    consumer(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    with pytest.raises(NotFound, match=r"topic 't' does not exist on Kafka at 127\.0\.0\.1:9092") as missed:
        topics.fetch_existing_offset_ranges(settings, "t")
    assert "./penstock up spark-job" in missed.value.hint
    consumer(partitions={0: (3, 3)})
    assert topics.fetch_existing_offset_ranges(settings, "t") == [OffsetRange(0, 3, 3)]


def test_an_unreadable_topic_is_not_empty(consumer, settings):
    """A permission error is raised: if the topic counted as empty, nothing would seem to be missing."""
    client = consumer(error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not yours"))
    with pytest.raises(PenstockError, match="not yours"):
        topics.fetch_offset_ranges(settings, "t")
    assert client.closed


def test_watermarks_that_time_out_are_unreachable(consumer, settings):
    """Unknown offsets are not guessed."""
    client = consumer(partitions={0: None})
    with pytest.raises(KafkaUnreachable, match=r"no offsets of t\[0\]"):
        topics.fetch_offset_ranges(settings, "t")
    assert client.closed


def test_several_ranges_are_read(consumer, settings):
    """One after the other, and not beyond the end of a range."""
    client = consumer([[message(0), message(1)], [message(2), message(3)], [message(7, partition=1)]])
    records = topics.read_records(settings, "t", [OffsetRange(0, 0, 3), OffsetRange(2, 4, 4), OffsetRange(1, 7, 8)])
    assert [(item.partition(), item.offset()) for item in records] == [(0, 0), (0, 1), (0, 2), (1, 7)]
    assert client.assigned == [("t", 0, 0), ("t", 1, 7)]
    assert client.closed


def test_reading_ends_at_the_end_of_the_partition(consumer, settings):
    """Control records at the end have offsets but are never returned: the end of the partition ends the range."""
    consumer([[message(0)], [event(KafkaError._PARTITION_EOF, 3)]])
    assert [record.offset() for record in topics.read_records(settings, "t", [OffsetRange(0, 0, 3)])] == [0]


def test_records_that_time_out_are_unreachable(consumer, settings, clock):
    """Silence is an error, not an end; a pause shorter than the timeout is neither."""
    client = consumer([[message(0)], [], []], clock=clock)
    with pytest.raises(KafkaUnreachable, match=r"nothing read from t\[0\] in 30 s"):
        list(topics.read_records(settings, "t", [OffsetRange(0, 0, 2)]))
    assert client.closed


def test_records_deleted_by_retention_while_reading_are_skipped(consumer, settings):
    """Reading continues where the partition starts by then."""
    client = consumer([[message(0), event(KafkaError._AUTO_OFFSET_RESET)], [message(5), message(6)]], {0: (5, 9)})
    assert [record.offset() for record in topics.read_records(settings, "t", [OffsetRange(0, 0, 7)])] == [0, 5, 6]
    assert client.assigned == [("t", 0, 0), ("t", 0, 5)]
    assert client.closed


def test_records_missing_at_the_end_are_an_error(consumer, settings):
    """An offset that Kafka no longer has, although it has earlier ones, is not skipped."""
    client = consumer([[message(0), event(KafkaError._AUTO_OFFSET_RESET)]], {0: (0, 1)})
    with pytest.raises(KafkaUnreachable, match=r"reading t\[0\]: Kafka has no offset 1, the log starts at 0"):
        list(topics.read_records(settings, "t", [OffsetRange(0, 0, 2)]))
    assert client.closed


def places(result) -> list[tuple[Position, bytes]]:
    return [(place, value.value()) for place, value in result.items()]


def test_records_at_given_positions_are_read(settings):
    """Exactly the requested ones, from the first of a partition to its last; then the client reads no further."""
    client = FakeConsumer(
        [
            [message(4, b"a"), message(5, b"b"), message(6, b"c")],
            [message(7, b"d"), message(8, b"e")],
            [message(4, b"f", partition=1)],
        ]
    )
    wanted = [Position(0, 7), Position(1, 4), Position(0, 4), Position(0, 7)]
    records = topics.read_records_at(client, "t", wanted, settings)
    assert places(records) == [(Position(0, 4), b"a"), (Position(0, 7), b"d"), (Position(1, 4), b"f")]
    assert client.assigned == [("t", 0, 4), ("t", 1, 4)]
    assert (client.is_assigned, client.closed) == (False, False)


def test_without_positions_nothing_is_read(settings):
    """Nothing is read."""
    client = FakeConsumer(raises=kafka_error(KafkaError._TRANSPORT))
    assert topics.read_records_at(client, "t", [], settings) == {}
    assert client.assigned == []


@pytest.mark.parametrize(
    "batch",
    [
        [message(4, b"a"), message(6, b"c"), event(KafkaError._PARTITION_EOF, 7)],
        [message(4, b"a"), message(9, b"z")],
        [message(4, b"a"), event(KafkaError._PARTITION_EOF, 5)],
    ],
    ids=["between others", "before a later one", "at the end"],
)
def test_a_record_that_kafka_does_not_have_is_omitted(settings, batch):
    """A position without a record is not waited for, and no other record is taken for it."""
    records = topics.read_records_at(FakeConsumer([batch]), "t", [Position(0, 4), Position(0, 5)], settings)
    assert places(records) == [(Position(0, 4), b"a")]


class Shortened(FakeConsumer):
    """A consumer of a partition of which Kafka has only offsets 5 to 8 left."""

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        _, _, first = self.assigned[-1]
        if first < 5:
            return [event(KafkaError._AUTO_OFFSET_RESET, first)]
        return [message(offset, b"x") for offset in range(first, 9)]


def test_a_record_deleted_at_the_beginning_is_omitted(settings):
    """Kafka deletes the oldest: if the first of the requested ones is gone, the others are found."""
    records = topics.read_records_at(Shortened(partitions={0: (5, 9)}), "t", [Position(0, 4), Position(0, 5)], settings)
    assert places(records) == [(Position(0, 5), b"x")]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ({"raises": kafka_error(KafkaError._TRANSPORT)}, KafkaUnreachable),
        ({"batches": [[event(KafkaError._ALL_BROKERS_DOWN)]]}, KafkaUnreachable),
        ({"batches": [[message(4), event(KafkaError.TOPIC_AUTHORIZATION_FAILED)]]}, PenstockError),
    ],
    ids=["away", "away meanwhile", "refused"],
)
def test_positions_that_cannot_be_read_are_an_error(settings, made, kind):
    """Kafka's error is translated: a record that was not read is not taken for one that is gone."""
    with pytest.raises(kind, match="reading t on Kafka") as failed:
        topics.read_records_at(FakeConsumer(**made), "t", [Position(0, 4), Position(0, 5)], settings)
    assert type(failed.value) is kind


def test_positions_that_time_out_are_unreachable(settings, clock):
    """Silence is an error here too."""
    with pytest.raises(KafkaUnreachable, match=r"nothing read from t\[0\] in 30 s"):
        topics.read_records_at(FakeConsumer(clock=clock), "t", [Position(0, 4)], settings)


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def test_since_starts_at_the_first_record_of_a_time(consumer, settings):
    """In each partition; if none is that new the range is empty, at its end."""
    client = consumer(times={0: 7, 1: -1, 2: 3})
    whole = [OffsetRange(0, 2, 9), OffsetRange(1, 0, 5), OffsetRange(2, 3, 3)]
    assert topics.find_offset_ranges_since(settings, "t", whole, MOMENT) == [
        OffsetRange(0, 7, 9),
        OffsetRange(1, 5, 5),
        OffsetRange(2, 3, 3),
    ]
    assert client.asked_ms == [1_767_225_600_000] * 3
    assert client.closed


def test_since_never_exceeds_the_ends_that_were_read(consumer, settings):
    """Records that arrived in between are newer, and not requested."""
    consumer(times={0: 12})
    assert topics.find_offset_ranges_since(settings, "t", [OffsetRange(0, 2, 9)], MOMENT) == [OffsetRange(0, 9, 9)]


def test_since_before_the_epoch_is_the_beginning(consumer, settings):
    """A negative time has a special meaning to Kafka: -1 is the end."""
    client = consumer(times={0: 2})
    old = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert topics.find_offset_ranges_since(settings, "t", [OffsetRange(0, 2, 9)], old) == [OffsetRange(0, 2, 9)]
    assert client.asked_ms == [0]


def test_since_without_partitions_sends_no_request(consumer, settings):
    """A missing topic counts as empty."""
    client = consumer()
    assert topics.find_offset_ranges_since(settings, "t", [], MOMENT) == []
    assert client.closed


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ({"raises": kafka_error(KafkaError._TRANSPORT)}, KafkaUnreachable),
        ({"times": {0: 7, 1: KafkaError(KafkaError.LEADER_NOT_AVAILABLE, "no leader")}}, PenstockError),
    ],
    ids=["all", "one partition"],
)
def test_since_without_a_response_is_an_error(consumer, settings, made, kind):
    """Also for one partition: if it counted as empty, nothing would seem to be missing there."""
    client = consumer(**made)
    with pytest.raises(kind, match="reading the offsets of t at 2026-01-01T00:00:00"):
        topics.find_offset_ranges_since(settings, "t", [OffsetRange(0, 2, 9), OffsetRange(1, 0, 5)], MOMENT)
    assert client.closed
