from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError

from penstock.broker import dlq
from penstock.contract.reject import Fault, Reason, Reject, Stage
from penstock.errors import DeliveryFailed
from tests.unit.fakes import FakeProducer, kafka_error, message


def reject(offset: int = 5, **changes) -> Reject:
    fault = changes.pop(
        "fault", Fault(Reason.CONTRACT_BROKEN, "Expected `å`", schema_id=7, rules=("a:type", "b:length"))
    )
    plain = {
        "topic": "t",
        "partition": 2,
        "offset": offset,
        "key": b"k",
        "value": b"\x00\xff",
        "headers": [("h", b"v")],
    }
    return Reject(fault=fault, **plain | changes)


def test_a_dead_letter_is_the_record_byte_for_byte():
    """Key, value and headers stand unchanged; what is wrong follows in headers of its own."""
    producer = FakeProducer()
    assert dlq.set_aside(producer, "t.dlq", [reject(headers=[("h", b"v"), ("h", None)])], generation_us=9) == 1
    sent = producer.sent[0]
    assert (sent.topic(), sent.key(), sent.value()) == ("t.dlq", b"k", b"\x00\xff")
    assert sent.headers()[:2] == [("h", b"v"), ("h", None)]
    facts = dlq.facts(sent)
    moment = datetime.fromisoformat(facts.pop("time"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert facts.pop("version")
    assert facts == {
        "topic": "t",
        "partition": "2",
        "offset": "5",
        "generation": "9",
        "stage": "decode",
        "reason": "contract_broken",
        "message": "Expected `å`",
        "rules": "a:type,b:length",
        "schema.id": "7",
    }


def test_a_fault_without_a_schema_has_an_empty_schema_id():
    """Every error header is there, whatever is known."""
    fault = Fault(Reason.VALUE_MISSING, "null", Stage.PRODUCE)
    producer = FakeProducer()
    dlq.set_aside(producer, "t.dlq", [reject(fault=fault, key=None, value=None, headers=[])])
    assert (producer.sent[0].key(), producer.sent[0].value()) == (None, None)
    assert dlq.facts(producer.sent[0])["schema.id"] == ""


def test_facts_reads_only_the_error_headers():
    """Headers of the record itself are no facts; of a name that is there twice, from a redrive, the last counts."""
    found = dlq.facts(
        message(
            1,
            headers=[
                ("reason", b"mine"),
                (dlq.PREFIX + "reason", b"old"),
                (dlq.PREFIX + "reason", b"new"),
                (dlq.PREFIX + "message", None),
                (dlq.PREFIX + "offset", b"\xff"),
            ],
        )
    )
    assert found == {"reason": "new", "message": "", "offset": "\ufffd"}
    assert dlq.facts(message(1)) == {}


def test_nothing_to_set_aside_is_fine():
    """No rejects: nothing is sent."""
    assert dlq.set_aside(FakeProducer(), "t.dlq", []) == 0


def test_a_full_queue_is_waited_for():
    """When the producer's queue is full, sending waits and goes on; nothing is dropped."""
    producer = FakeProducer(queue=2)
    assert dlq.set_aside(producer, "t.dlq", [reject(offset) for offset in range(7)]) == 7
    assert producer.full == 3
    assert [dlq.facts(one)["offset"] for one in producer.sent] == list("0123456")


def test_a_dead_letter_that_is_not_acknowledged_fails():
    """A failed delivery report fails the call with the number and the first reason."""
    producer = FakeProducer(fails=lambda one: one.offset() == 1)
    with pytest.raises(
        DeliveryFailed, match=r"t.dlq: 1 of 3 rejected records were not acknowledged; first: .*timed out"
    ):
        dlq.set_aside(producer, "t.dlq", [reject(offset) for offset in range(3)])


def test_a_dead_letter_that_is_not_reported_fails():
    """What is still unreported after the flush counts as lost."""
    with pytest.raises(DeliveryFailed, match=r"2 of 3 rejected records were not acknowledged$"):
        dlq.set_aside(FakeProducer(held=2), "t.dlq", [reject(offset) for offset in range(3)])


def test_a_producer_that_refuses_fails():
    """An error at the call names the topic."""
    producer = FakeProducer(refuses=kafka_error(KafkaError.MSG_SIZE_TOO_LARGE, "too large"))
    with pytest.raises(DeliveryFailed, match=r"t.dlq: .*too large"):
        dlq.set_aside(producer, "t.dlq", [reject()])
