import pytest
from confluent_kafka import KafkaError

from penstock.errors import DeliveryFailed
from penstock.produce.delivery_log import Acknowledgement, DeliveryLog, list_attempts
from penstock.produce.send import Delivered, Sender
from tests.unit.fakes import FakeProducer, kafka_error, message

HEADERS = [("penstock.run", b"r1")]


def send(producer: FakeProducer, count: int) -> Delivered:
    with Sender(producer, "t", 30) as sender:
        for number in range(count):
            sender.send(b"k%d" % number, b"value", HEADERS)
    return sender.delivered


def test_everything_is_acknowledged_at_the_end():
    """Leaving the block waits for all acknowledgements. Then records, bytes and offsets are known."""
    producer = FakeProducer()
    delivered = send(producer, 3)
    assert (delivered.records, delivered.value_bytes, delivered.offsets) == (3, 15, {0: (0, 2)})
    assert producer.flushed_s == [30]
    assert [(record.topic(), record.key(), record.value(), record.headers()) for record in producer.sent] == [
        ("t", b"k%d" % number, b"value", HEADERS) for number in range(3)
    ]


def test_an_empty_block_succeeds():
    """An empty block succeeds: the requested number of records is not checked here."""
    assert send(FakeProducer(), 0) == Delivered()


def test_a_full_queue_is_waited_for():
    """Sending blocks while the producer's queue is full. Nothing is dropped."""
    producer = FakeProducer(queue=2)
    assert send(producer, 9).records == 9
    assert producer.full == 4


def test_a_failed_record_fails_the_block():
    """One failed delivery report fails the block, with the counts and the first reason."""
    producer = FakeProducer(fails=lambda record: record.offset() == 1)
    with pytest.raises(
        DeliveryFailed,
        match=r"t: 1 records failed and 0 were not acknowledged within 30 s; 2 were acknowledged; first error: _MSG",
    ):
        send(producer, 3)


def test_records_without_a_delivery_report_fail_the_block():
    """Records without a delivery report after the flush fail the block."""
    with pytest.raises(DeliveryFailed, match="t: 0 records failed and 2 were not acknowledged within 30 s; 1 were"):
        send(FakeProducer(held=2), 3)


def test_an_error_of_the_producer_fails_at_once():
    """An error of the producer names the topic. Records sent before are flushed."""
    producer = FakeProducer(refuses=kafka_error(KafkaError.MSG_SIZE_TOO_LARGE, "too large"))
    with pytest.raises(DeliveryFailed, match=r"t: .*too large"):
        send(producer, 1)
    assert producer.flushed_s == [30]


def test_another_error_inside_the_block_is_unchanged():
    """Another error inside the block is raised unchanged after a flush, even if records failed too."""
    producer = FakeProducer(fails=lambda _: True)

    def fail() -> None:
        with Sender(producer, "t", 30) as sender:
            sender.send(b"k", b"v", [])
            raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        fail()
    assert producer.flushed_s == [30]


def test_offsets_range_from_first_to_last_of_each_partition():
    """Offsets are correct for delivery reports in any order and from any partition."""
    delivered = Delivered()
    for partition, offset in [(1, 7), (0, 3), (1, 5), (1, 9)]:
        delivered.note(None, message(offset, b"12", partition=partition))
    assert delivered == Delivered(4, 8, {1: (5, 9), 0: (3, 3)}, [])


def test_a_failed_report_does_not_count():
    """A failed report is recorded by name and reason and does not count as a record."""
    delivered = Delivered()
    delivered.note(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "big"), message(0))
    assert delivered == Delivered(0, 0, {}, ["MSG_SIZE_TOO_LARGE: big"])


def test_a_record_may_have_its_own_timestamp():
    """A record can have its own timestamp. By default it is the producer's."""
    producer = FakeProducer()
    with Sender(producer, "t", 30) as sender:
        sender.send(b"k", b"v", [])
        sender.send(b"k", b"v", [], 1_700_000_000_123)
    assert [record.timestamp()[1] for record in producer.sent] == [0, 1_700_000_000_123]


def test_each_acknowledgement_is_logged(tmp_path):
    """Each acknowledgement is logged with position and key. Failures are not."""
    producer = FakeProducer(fails=lambda record: record.offset() == 1)
    with DeliveryLog(tmp_path, "r1", "t", "id-1") as written:
        sender = Sender(producer, "t", 30, written)
        for number in range(3):
            sender.send(b"k%d" % number, b"v", [])
        with pytest.raises(DeliveryFailed):
            sender.finish()
    (attempt,) = list_attempts(tmp_path)
    assert list(attempt.entries) == [Acknowledgement(0, 0, "k0"), Acknowledgement(0, 2, "k2")]
