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
        return {one.topic: self._done() for one in new}

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
    """Makes the admin client that `topics` gets."""

    def make(*present, error=None):
        client = FakeAdmin(present, error)
        monkeypatch.setattr(topics, "create_admin", lambda _: client)
        return client

    return make


@pytest.fixture
def consumer(monkeypatch):
    """Makes the consumer that `topics` gets."""

    def make(*arguments, **named):
        client = FakeConsumer(*arguments, **named)
        monkeypatch.setattr(topics, "create_reader", lambda _: client)
        return client

    return make


def test_missing_topics_are_created_as_the_settings_say(admin):
    """A topic that is not there is made with the partitions, replicas and retention of the settings."""
    client = admin("there")
    settings = read(kafka_partitions=3, kafka_replication=3, kafka_retention_hours=2)
    topics.ensure_topic(settings, "there")
    topics.ensure_topic(settings, "new")
    assert [(one.topic, one.num_partitions, one.replication_factor) for one in client.created] == [("new", 3, 3)]
    assert client.created[0].config == {
        "cleanup.policy": "delete",
        "compression.type": "uncompressed",
        "max.message.bytes": "4194304",
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": "3600000",
        "min.insync.replicas": "2",
        "retention.ms": "7200000",
    }


def test_a_dead_letter_topic_takes_all_that_its_topic_takes(admin, settings):
    """There is room for the headers that say what is wrong."""
    client = admin()
    topics.ensure_pipeline_topics(settings, users.PIPELINE)
    sizes = {one.topic: int(one.config["max.message.bytes"]) for one in client.created}
    assert sizes["users_created.dlq"] >= sizes["users_created"] + 16 * 1024


def test_rejected_records_wait_without_end(admin, settings):
    """However long the topic itself keeps its records."""
    client = admin()
    topics.ensure_pipeline_topics(settings, users.PIPELINE)
    kept = {one.topic: one.config["retention.ms"] for one in client.created}
    assert kept == {"users_created": str(168 * 3_600_000), "users_created.dlq": "-1"}


def test_one_replica_needs_one_in_sync(settings):
    """With a single broker a record is acknowledged by that broker."""
    assert topics.topic_settings(settings)["min.insync.replicas"] == "1"


def test_a_topic_made_by_another_meanwhile_is_fine(admin, settings):
    """Two that start at once do not fail each other."""
    admin(error=kafka_error(KafkaError.TOPIC_ALREADY_EXISTS))
    topics.ensure_topic(settings, "new")


@pytest.mark.parametrize(
    ("code", "kind"),
    [(KafkaError._TRANSPORT, KafkaUnreachable), (KafkaError.POLICY_VIOLATION, PenstockError)],
)
def test_a_topic_that_cannot_be_made_is_an_error(admin, settings, code, kind):
    """The error says which topic, and whether Kafka is away."""
    admin(error=kafka_error(code))
    with pytest.raises(PenstockError, match="creating a") as failed:
        topics.ensure_topic(settings, "a")
    assert type(failed.value) is kind


def test_topic_id(admin, settings):
    """Kafka's own id of a topic, or the error of not being told."""
    admin("t")
    assert topics.fetch_topic_id(settings, "t") == "id-1"
    assert topics.describe_topic(topics.create_admin(settings), "t", settings) == ("id-1", 3)
    admin(error=kafka_error(KafkaError._TIMED_OUT))
    with pytest.raises(KafkaUnreachable, match="describing t"):
        topics.fetch_topic_id(settings, "t")


def test_spans_are_the_watermarks_in_partition_order(consumer, settings):
    """What a topic holds is told per partition, from its first offset to its end."""
    client = consumer(partitions={1: (0, 5), 0: (3, 3)})
    assert topics.fetch_offset_ranges(settings, "t") == [OffsetRange(0, 3, 3), OffsetRange(1, 0, 5)]
    assert [span.records for span in topics.fetch_offset_ranges(settings, "t")] == [0, 5]
    assert client.closed


def test_what_lies_beyond_known_ends():
    """From the end that was known, or from where the partition begins by now; all of a partition that was not there."""
    before = [OffsetRange(0, 0, 3), OffsetRange(1, 0, 3)]
    now = [OffsetRange(0, 0, 9), OffsetRange(1, 5, 9), OffsetRange(2, 4, 9)]
    assert topics.find_new_offset_ranges(before, now) == [
        OffsetRange(0, 3, 9),
        OffsetRange(1, 5, 9),
        OffsetRange(2, 4, 9),
    ]


def test_a_topic_that_is_not_there_has_no_spans(consumer, settings):
    """No topic, nothing in it."""
    client = consumer(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    assert topics.fetch_offset_ranges(settings, "t") == []
    assert client.closed


def test_a_topic_that_has_to_be_there_is_missed_by_name(consumer, settings):
    """It says which topic, where, and what creates it; one that is there has its spans."""
    consumer(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    with pytest.raises(NotFound, match=r"topic 't' does not exist on Kafka at 127\.0\.0\.1:9092") as missed:
        topics.fetch_existing_offset_ranges(settings, "t")
    assert "./penstock up spark-job" in missed.value.hint
    consumer(partitions={0: (3, 3)})
    assert topics.fetch_existing_offset_ranges(settings, "t") == [OffsetRange(0, 3, 3)]


def test_a_topic_that_may_not_be_read_is_not_empty(consumer, settings):
    """A refusal is an error: taken for an empty topic, it would look as if nothing were missing."""
    client = consumer(error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not yours"))
    with pytest.raises(PenstockError, match="not yours"):
        topics.fetch_offset_ranges(settings, "t")
    assert client.closed


def test_watermarks_that_do_not_come_are_unreachable(consumer, settings):
    """Offsets that are not told in time are not guessed."""
    client = consumer(partitions={0: None})
    with pytest.raises(KafkaUnreachable, match=r"no offsets of t\[0\]"):
        topics.fetch_offset_ranges(settings, "t")
    assert client.closed


def test_records_of_several_spans(consumer, settings):
    """Records come span by span, and not beyond a span's end."""
    client = consumer([[message(0), message(1)], [message(2), message(3)], [message(7, partition=1)]])
    found = topics.read_records(settings, "t", [OffsetRange(0, 0, 3), OffsetRange(2, 4, 4), OffsetRange(1, 7, 8)])
    assert [(one.partition(), one.offset()) for one in found] == [(0, 0), (0, 1), (0, 2), (1, 7)]
    assert client.assigned == [("t", 0, 0), ("t", 1, 7)]
    assert client.closed


def test_records_end_where_the_partition_does(consumer, settings):
    """Control records at the end have offsets but are never given: the end of the partition ends the span."""
    consumer([[message(0)], [event(KafkaError._PARTITION_EOF, 3)]])
    assert [one.offset() for one in topics.read_records(settings, "t", [OffsetRange(0, 0, 3)])] == [0]


def test_records_that_do_not_come_are_unreachable(consumer, settings, clock):
    """Silence is an error, not an end; but a pause shorter than the timeout is neither."""
    client = consumer([[message(0)], [], []], clock=clock)
    with pytest.raises(KafkaUnreachable, match=r"nothing read from t\[0\] in 30 s"):
        list(topics.read_records(settings, "t", [OffsetRange(0, 0, 2)]))
    assert client.closed


def test_records_that_retention_deletes_meanwhile_are_passed_over(consumer, settings):
    """Reading goes on where the partition begins by then."""
    client = consumer([[message(0), event(KafkaError._AUTO_OFFSET_RESET)], [message(5), message(6)]], {0: (5, 9)})
    assert [one.offset() for one in topics.read_records(settings, "t", [OffsetRange(0, 0, 7)])] == [0, 5, 6]
    assert client.assigned == [("t", 0, 0), ("t", 0, 5)]
    assert client.closed


def test_records_that_are_gone_from_the_end_are_an_error(consumer, settings):
    """An offset that Kafka no longer has, though it has earlier ones, is not passed over."""
    client = consumer([[message(0), event(KafkaError._AUTO_OFFSET_RESET)]], {0: (0, 1)})
    with pytest.raises(KafkaUnreachable, match=r"reading t\[0\]: Kafka has no offset 1, the log starts at 0"):
        list(topics.read_records(settings, "t", [OffsetRange(0, 0, 2)]))
    assert client.closed


def places(found) -> list[tuple[Position, bytes]]:
    return [(place, one.value()) for place, one in found.items()]


def test_records_at_some_places(settings):
    """The wanted ones and no others, from the first of a partition to its last; then the client reads no further."""
    client = FakeConsumer(
        [
            [message(4, b"a"), message(5, b"b"), message(6, b"c")],
            [message(7, b"d"), message(8, b"e")],
            [message(4, b"f", partition=1)],
        ]
    )
    wanted = [Position(0, 7), Position(1, 4), Position(0, 4), Position(0, 7)]
    found = topics.read_records_at(client, "t", wanted, settings)
    assert places(found) == [(Position(0, 4), b"a"), (Position(0, 7), b"d"), (Position(1, 4), b"f")]
    assert client.assigned == [("t", 0, 4), ("t", 1, 4)]
    assert (client.is_assigned, client.closed) == (False, False)


def test_records_at_no_places(settings):
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
def test_a_record_that_kafka_does_not_have_is_left_out(settings, batch):
    """One in whose place there is nothing any more is not waited for, and no other is taken for it."""
    found = topics.read_records_at(FakeConsumer([batch]), "t", [Position(0, 4), Position(0, 5)], settings)
    assert places(found) == [(Position(0, 4), b"a")]


class Shortened(FakeConsumer):
    """A consumer of a partition of which Kafka has offsets 5 to 8 left."""

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        _, _, first = self.assigned[-1]
        if first < 5:
            return [event(KafkaError._AUTO_OFFSET_RESET, first)]
        return [message(offset, b"x") for offset in range(first, 9)]


def test_a_record_that_was_deleted_at_the_beginning_is_left_out(settings):
    """Kafka deletes the oldest: with the first of the wanted ones gone, the others are found."""
    found = topics.read_records_at(Shortened(partitions={0: (5, 9)}), "t", [Position(0, 4), Position(0, 5)], settings)
    assert places(found) == [(Position(0, 5), b"x")]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ({"raises": kafka_error(KafkaError._TRANSPORT)}, KafkaUnreachable),
        ({"batches": [[event(KafkaError._ALL_BROKERS_DOWN)]]}, KafkaUnreachable),
        ({"batches": [[message(4), event(KafkaError.TOPIC_AUTHORIZATION_FAILED)]]}, PenstockError),
    ],
    ids=["away", "away meanwhile", "refused"],
)
def test_places_that_cannot_be_read_are_an_error(settings, made, kind):
    """Kafka's error comes out as one of penstock's: a record that was not read is not taken for one that is gone."""
    with pytest.raises(kind, match="reading t on Kafka") as failed:
        topics.read_records_at(FakeConsumer(**made), "t", [Position(0, 4), Position(0, 5)], settings)
    assert type(failed.value) is kind


def test_places_of_which_nothing_comes_are_unreachable(settings, clock):
    """Silence is an error here too."""
    with pytest.raises(KafkaUnreachable, match=r"nothing read from t\[0\] in 30 s"):
        topics.read_records_at(FakeConsumer(clock=clock), "t", [Position(0, 4)], settings)


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def test_since_begins_at_the_first_record_of_a_time(consumer, settings):
    """In each partition; where none is so young the span is empty, at its end."""
    client = consumer(times={0: 7, 1: -1, 2: 3})
    whole = [OffsetRange(0, 2, 9), OffsetRange(1, 0, 5), OffsetRange(2, 3, 3)]
    assert topics.find_offset_ranges_since(settings, "t", whole, MOMENT) == [
        OffsetRange(0, 7, 9),
        OffsetRange(1, 5, 5),
        OffsetRange(2, 3, 3),
    ]
    assert client.asked_ms == [1_767_225_600_000] * 3
    assert client.closed


def test_since_never_goes_behind_the_ends_that_were_read(consumer, settings):
    """Records that came in between are younger, and not asked for."""
    consumer(times={0: 12})
    assert topics.find_offset_ranges_since(settings, "t", [OffsetRange(0, 2, 9)], MOMENT) == [OffsetRange(0, 9, 9)]


def test_since_before_any_clock_is_the_beginning(consumer, settings):
    """To Kafka a time of less than 0 has a meaning of its own: -1 is the end."""
    client = consumer(times={0: 2})
    old = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert topics.find_offset_ranges_since(settings, "t", [OffsetRange(0, 2, 9)], old) == [OffsetRange(0, 2, 9)]
    assert client.asked_ms == [0]


def test_since_asks_nothing_of_no_partitions(consumer, settings):
    """No topic, nothing in it."""
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
def test_since_that_is_not_told_is_an_error(consumer, settings, made, kind):
    """Of one partition too: taken for empty, it would look as if nothing were missing there."""
    client = consumer(**made)
    with pytest.raises(kind, match="reading the offsets of t at 2026-01-01T00:00:00"):
        topics.find_offset_ranges_since(settings, "t", [OffsetRange(0, 2, 9), OffsetRange(1, 0, 5)], MOMENT)
    assert client.closed
