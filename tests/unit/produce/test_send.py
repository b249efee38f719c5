import pytest
from confluent_kafka import KafkaError

from penstock.errors import DeliveryFailed
from penstock.produce.journal import Entry, Journal, attempts
from penstock.produce.send import Delivered, Sender
from tests.unit.fakes import FakeProducer, kafka_error, message

HEADERS = [("penstock.run", b"r1")]


def send(producer: FakeProducer, count: int) -> Delivered:
    with Sender(producer, "t", 30) as sender:
        for number in range(count):
            sender.send(b"k%d" % number, b"value", HEADERS)
    return sender.delivered


def test_everything_is_acknowledged_at_the_end():
    """Leaving the block waits for every acknowledgement; records, bytes and offsets are then known."""
    producer = FakeProducer()
    delivered = send(producer, 3)
    assert (delivered.records, delivered.value_bytes, delivered.offsets) == (3, 15, {0: (0, 2)})
    assert producer.flushed_s == [30]
    assert [(one.topic(), one.key(), one.value(), one.headers()) for one in producer.sent] == [
        ("t", b"k%d" % number, b"value", HEADERS) for number in range(3)
    ]


def test_nothing_sent_is_nothing_delivered():
    """An empty block is fine: how much was asked for is not the sender's business."""
    assert send(FakeProducer(), 0) == Delivered()


def test_a_full_queue_is_waited_for():
    """When the producer's queue is full, sending waits for room; nothing is dropped."""
    producer = FakeProducer(queue=2)
    assert send(producer, 9).records == 9
    assert producer.full == 4


def test_a_failed_record_fails_the_block():
    """One failed delivery report fails the run: it says how many failed, how many did not, and the first reason."""
    producer = FakeProducer(fails=lambda one: one.offset() == 1)
    with pytest.raises(
        DeliveryFailed,
        match=r"t: 1 records failed and 0 were not acknowledged after 30 s; 2 were; first: _MSG_TIMED_OUT: timed out",
    ):
        send(producer, 3)


def test_what_is_left_after_the_flush_fails_the_block():
    """A record without a report after the flush is not taken for delivered."""
    with pytest.raises(DeliveryFailed, match="t: 0 records failed and 2 were not acknowledged after 30 s; 1 were"):
        send(FakeProducer(held=2), 3)


def test_a_producer_that_refuses_fails_at_once():
    """An error at the call names the topic; what was sent before is still flushed."""
    producer = FakeProducer(refuses=kafka_error(KafkaError.MSG_SIZE_TOO_LARGE, "too large"))
    with pytest.raises(DeliveryFailed, match=r"t: .*too large"):
        send(producer, 1)
    assert producer.flushed_s == [30]


def test_another_error_inside_the_block_stays_itself():
    """An error of the source comes out as it is, though records failed too, after what was sent is flushed."""
    producer = FakeProducer(fails=lambda _: True)

    def fail() -> None:
        with Sender(producer, "t", 30) as sender:
            sender.send(b"k", b"v", [])
            raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        fail()
    assert producer.flushed_s == [30]


def test_offsets_span_first_and_last_of_each_partition():
    """Reports may come in any order and from any partition."""
    delivered = Delivered()
    for partition, offset in [(1, 7), (0, 3), (1, 5), (1, 9)]:
        delivered.note(None, message(offset, b"12", partition=partition))
    assert delivered == Delivered(4, 8, {1: (5, 9), 0: (3, 3)}, [])


def test_a_failed_report_counts_nothing():
    """A failure is kept by name and reason, and is no record."""
    delivered = Delivered()
    delivered.note(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "big"), message(0))
    assert delivered == Delivered(0, 0, {}, ["MSG_SIZE_TOO_LARGE: big"])


def test_a_record_may_have_a_time_of_its_own():
    """What a wrong clock would give it; without one it is the producer's."""
    producer = FakeProducer()
    with Sender(producer, "t", 30) as sender:
        sender.send(b"k", b"v", [])
        sender.send(b"k", b"v", [], 1_700_000_000_123)
    assert [one.timestamp()[1] for one in producer.sent] == [0, 1_700_000_000_123]


def test_each_acknowledgement_is_written_down(tmp_path):
    """Where the record lies, with its key; what failed is not."""
    producer = FakeProducer(fails=lambda one: one.offset() == 1)
    with Journal(tmp_path, "r1", "t", "id-1") as written:
        sender = Sender(producer, "t", 30, written)
        for number in range(3):
            sender.send(b"k%d" % number, b"v", [])
        with pytest.raises(DeliveryFailed):
            sender.finish()
    (attempt,) = attempts(tmp_path)
    assert attempt.entries == [Entry(0, 0, "k0"), Entry(0, 2, "k2")]
