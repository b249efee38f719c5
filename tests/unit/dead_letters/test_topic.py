import hashlib
import re
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from penstock.broker import topics
from penstock.broker.headers import RUN
from penstock.broker.topics import OffsetRange
from penstock.contract.batch import Reject
from penstock.contract.fault import Fault, Reason, Stage
from penstock.dead_letters.message import (
    PREFIX,
    DeadLetter,
    Origin,
    build_error_headers,
    index_first_copies,
    parse_message,
    read_error_headers,
)
from penstock.dead_letters.omitted_value import LeftOut
from penstock.dead_letters.topic import (
    build_not_found_error,
    read_dead_letters,
    read_dead_letters_at,
    send_dead_letters,
)
from penstock.errors import DeliveryFailed, UsageError
from penstock.pipelines.users import PIPELINE
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
    """Key, value and headers are unchanged; the reason follows in separate headers."""
    producer = FakeProducer()
    assert send_dead_letters(producer, "t.dlq", [reject(headers=[("h", b"v"), ("h", None)])], generation_us=9) == 1
    sent = producer.sent[0]
    assert (sent.topic(), sent.key(), sent.value()) == ("t.dlq", b"k", b"\x00\xff")
    assert sent.headers()[:2] == [("h", b"v"), ("h", None)]
    facts = read_error_headers(sent)
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
        "left.out": "",
        "format": "2",
    }


def test_a_violation_without_a_schema_has_an_empty_schema_id():
    """Every error header is present, whatever is known."""
    fault = Fault(Reason.VALUE_MISSING, "null", Stage.PRODUCE)
    producer = FakeProducer()
    send_dead_letters(producer, "t.dlq", [reject(fault=fault, key=None, value=None, headers=[])])
    assert (producer.sent[0].key(), producer.sent[0].value()) == (None, None)
    assert read_error_headers(producer.sent[0])["schema.id"] == ""


def test_a_message_that_utf_8_cannot_encode_is_escaped():
    """A lone surrogate in it loses neither the dead letter nor the batch."""
    fault = Fault(Reason.CONTRACT_BROKEN, "is '\ud800'")
    headers = dict(build_error_headers(Reject(fault, "readings", 0, 5, None, b"", []), None))
    assert headers["__penstock.errors.message"] == b"is '\\ud800'"


def test_only_the_error_headers_are_parsed():
    """Headers of the record itself are ignored; of a duplicate name, from a redrive, the last one counts."""
    result = read_error_headers(
        message(
            1,
            headers=[
                ("reason", b"mine"),
                (PREFIX + "reason", b"old"),
                (PREFIX + "reason", b"new"),
                (PREFIX + "message", None),
                (PREFIX + "offset", b"\xff"),
            ],
        )
    )
    assert result == {"reason": "new", "message": "", "offset": "\ufffd"}
    assert read_error_headers(message(1)) == {}


def test_without_dead_letters_nothing_is_sent():
    """No rejects: nothing is sent."""
    assert send_dead_letters(FakeProducer(), "t.dlq", []) == 0


def test_a_full_producer_queue_is_waited_for():
    """Sending waits and continues; nothing is dropped."""
    producer = FakeProducer(queue=2)
    assert send_dead_letters(producer, "t.dlq", [reject(offset) for offset in range(7)]) == 7
    assert producer.full == 3
    assert [read_error_headers(item)["offset"] for item in producer.sent] == list("0123456")


def test_an_unacknowledged_dead_letter_fails():
    """A failed delivery report fails the call with the number and the first reason."""
    producer = FakeProducer(fails=lambda item: item.offset() == 1)
    with pytest.raises(
        DeliveryFailed, match=r"t.dlq: 1 of 3 rejected records were not acknowledged; first: .*timed out"
    ):
        send_dead_letters(producer, "t.dlq", [reject(offset) for offset in range(3)])


def test_a_dead_letter_without_a_delivery_report_fails():
    """What is unreported after the flush counts as lost."""
    with pytest.raises(DeliveryFailed, match=r"2 of 3 rejected records were not acknowledged$"):
        send_dead_letters(FakeProducer(held=2), "t.dlq", [reject(offset) for offset in range(3)])


def test_an_error_of_the_producer_fails():
    """An error at the call names the topic."""
    producer = FakeProducer(refuses=kafka_error(KafkaError.MSG_SIZE_TOO_LARGE, "too large"))
    with pytest.raises(DeliveryFailed, match=r"t.dlq: .*too large"):
        send_dead_letters(producer, "t.dlq", [reject()])


VALUE = b"x" * 9000
DIGEST = hashlib.sha256(VALUE).hexdigest()


def shrunk(limit_bytes: int, **changes) -> DeadLetter:
    """The dead letter in a topic with this maximum message size."""
    producer = FakeProducer(limit_bytes=limit_bytes)
    assert send_dead_letters(producer, "t.dlq", [reject(**{"value": VALUE} | changes)], generation_us=9) == 1
    (sent,) = producer.sent
    letter = parse_message(sent)
    assert letter is not None
    return letter


def test_a_value_that_exceeds_the_limit_is_omitted():
    """Key and headers are kept, and the dead letter has the value's size, hash and position."""
    letter = shrunk(5000)
    assert (letter.key, letter.value, letter.headers) == (b"k", None, [("h", b"v")])
    assert letter.left_out == LeftOut(("value",), 9000, DIGEST)
    assert (letter.value_bytes, letter.original) == (9000, "in t, partition 2 offset 5")
    assert (letter.identity, letter.message, letter.rules) == ("t/9/2/5", "Expected `å`", ("a:type", "b:length"))


@pytest.mark.parametrize(
    ("changes", "left", "kept"),
    [
        ({"headers": [("h", b"y" * 9000)]}, ("value", "headers"), (b"k", [])),
        ({"key": b"z" * 9000}, ("value", "headers", "key"), (None, [])),
        ({"value": None, "headers": [("h", b"y" * 9000)]}, ("headers",), (b"k", [])),
        ({"value": b"", "key": b"z" * 9000}, ("headers", "key"), (None, [])),
    ],
)
def test_headers_and_key_that_exceed_the_limit_are_omitted(changes, left, kept):
    """The headers before the key; what the record does not have is not reported as omitted."""
    letter = shrunk(5000, **changes)
    assert letter.left_out is not None
    assert letter.left_out.parts == left
    assert (letter.key, letter.headers) == kept
    assert letter.value == (b"" if changes.get("value") == b"" else None)


def test_a_long_message_is_truncated_as_a_last_resort():
    """A topic with a small limit accepts the position and the reason of a record whose message is long."""
    fault = Fault(Reason.CONTRACT_BROKEN, "å" * 4000, rules=("a:type",) * 1000)
    letter = shrunk(1500, fault=fault)
    assert (letter.message, letter.rules) == ("å" * 200, ("a:type",) * 5)
    assert (letter.origin.offset, letter.reason) == (5, "contract_broken")


def test_a_batch_that_is_too_large_keeps_its_values():
    """Kafka rejects a batch as a whole: each is sent alone, and only one that is too large by itself is shrunk."""
    producer = FakeProducer(limit_bytes=5000)
    rejects = [reject(offset, value=b"x" * (9000 if offset == 1 else 2000)) for offset in range(4)]
    with capture_logs() as logs:
        assert send_dead_letters(producer, "t.dlq", rejects) == 4
    letters = {letter.origin.offset: letter for letter in map(parse_message, producer.sent)}
    assert {offset: len(letter.value or b"") for offset, letter in letters.items()} == {0: 2000, 1: 0, 2: 2000, 3: 2000}
    assert [letters[offset].left_out is None for offset in range(4)] == [True, False, True, True]
    assert [log["left_out"] for log in logs] == [(), ("value",), (), ()]


@pytest.mark.parametrize("code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE])
def test_a_value_that_the_producer_rejects_is_omitted(code):
    """Its own limit applies before anything is sent: the same as the topic's."""
    producer = FakeProducer()
    produce = producer.produce

    def limited(topic, value, **named):
        if value:
            raise kafka_error(code, "too large")
        produce(topic, value=value, **named)

    producer.produce = limited
    assert send_dead_letters(producer, "t.dlq", [reject(value=VALUE)]) == 1
    assert parse_message(producer.sent[0]).left_out == LeftOut(("value",), 9000, DIGEST)


def test_a_topic_that_accepts_nothing_fails():
    """Not even the headers with the reason: the error says which setting to change."""
    with pytest.raises(DeliveryFailed, match="of t partition 2 offset 5 is too large even without") as failed:
        shrunk(100)
    assert "max.message.bytes of t.dlq" in failed.value.hint


def test_another_failure_is_no_reason_to_omit_anything():
    """A dead letter that was not acknowledged fails the call, whatever else was too large."""
    producer = FakeProducer(refuses=kafka_error(KafkaError._QUEUE_FULL, "no"))
    with pytest.raises(DeliveryFailed):
        send_dead_letters(producer, "t.dlq", [reject()])
    assert producer.sent == []


def test_a_record_cannot_claim_that_something_was_omitted():
    """A header of the record's own with that name does not count."""
    mine = [(PREFIX + "left.out", b"value"), (PREFIX + "value.bytes", b"5")]
    producer = FakeProducer()
    send_dead_letters(producer, "t.dlq", [reject(headers=mine)])
    assert parse_message(producer.sent[0]).left_out is None


def test_a_dead_letter_of_an_older_version_has_nothing_omitted():
    """It has no such header."""
    producer = FakeProducer()
    send_dead_letters(producer, "t.dlq", [reject()])
    sent = producer.sent[0]
    older = message(
        0, sent.value(), headers=[header for header in sent.headers() if not header[0].endswith("left.out")]
    )
    assert parse_message(older).left_out is None


def test_rejected_records_without_values_are_distinguished():
    """By the hashes of their values."""
    first, other, copy = (
        shrunk(5000, partition=-1, offset=-1, value=value, headers=[(RUN, b"r1")])
        for value in (VALUE, VALUE + b"y", VALUE)
    )
    assert first.identity == copy.identity != other.identity
    assert first.original == "nowhere in Kafka: it never got to the topic"


letters = st.builds(
    DeadLetter,
    partition=st.integers(0, 9),
    offset=st.integers(0, 99),
    origin=st.builds(
        Origin,
        topic=st.just("t"),
        generation_us=st.none() | st.integers(1, 2),
        partition=st.integers(-1, 1),
        offset=st.integers(-1, 2),
    ),
    stage=st.just("decode"),
    reason=st.just("contract_broken"),
    rules=st.just(()),
    message=st.text(max_size=3),
    schema_id=st.none(),
    time=st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    version=st.just("1"),
    key=st.none(),
    value=st.none() | st.binary(max_size=1),
    headers=st.lists(st.tuples(st.sampled_from([RUN, "h"]), st.none() | st.binary(max_size=1)), max_size=1),
)


@given(letters, letters)
def test_copies_share_their_identity_and_others_do_not(one, other):
    """Records of the topic are identified by position; those rejected at the source by run, number in the run, and
    value.
    """

    def origin(letter):
        if letter.origin.partition >= 0:
            return letter.origin
        return letter.run, letter.origin.offset, letter.value or b""

    assert (one.identity == other.identity) == (origin(one) == origin(other))
    assert one.identity.startswith("t/")


@given(st.lists(letters, max_size=20))
def test_the_first_copy_of_each_record_counts(found):
    """Each identity once, in the order of the dead-letter topic."""
    copies = index_first_copies(found)
    assert list(copies) == list(dict.fromkeys(item.identity for item in found))
    assert all(copies[copy.identity] == copy for copy in reversed(list(copies.values())))
    assert [next(item for item in found if item.identity == name) for name in copies] == list(copies.values())


@given(
    key=st.none() | st.binary(max_size=9),
    value=st.none() | st.binary(max_size=9),
    headers=st.lists(st.tuples(st.sampled_from(["h", "penstock.run"]), st.none() | st.binary(max_size=3)), max_size=3),
)
def test_a_dead_letter_restores_the_original_record(key, value, headers):
    """Key, value and headers are unchanged; the error headers are parsed."""
    producer = FakeProducer()
    send_dead_letters(producer, "t.dlq", [reject(key=key, value=value, headers=headers)], generation_us=9)
    letter = parse_message(producer.sent[0])
    assert (letter.key, letter.value, letter.headers) == (key, value, headers)
    assert letter.origin == Origin("t", 9, 2, 5)
    assert (letter.stage, letter.reason, letter.message) == ("decode", "contract_broken", "Expected `å`")
    assert (letter.rules, letter.schema_id, letter.place) == (("a:type", "b:length"), 7, "0:0")
    assert letter.identity == "t/9/2/5"


def test_a_record_rejected_at_the_source_has_no_position():
    """Its identity is made of the run and the value; absent facts are None or empty."""
    producer = FakeProducer()
    fault = Fault(Reason.CONTRACT_BROKEN, "no", Stage.PRODUCE)
    dead_letter = reject(-1, partition=-1, fault=fault, headers=[(RUN, b"r1")])
    send_dead_letters(producer, "t.dlq", [dead_letter, dead_letter])
    first, copy = map(parse_message, producer.sent)
    assert first.identity == copy.identity
    assert re.fullmatch("t/run/[0-9a-f]{24}", first.identity)
    assert (first.run, first.schema_id, first.rules, first.origin.generation_us) == ("r1", None, (), None)


@pytest.mark.parametrize("name", ["topic", "partition", "offset", "reason", "stage", "time"])
@pytest.mark.parametrize("value", [None, b"\xff"])
def test_a_message_that_is_not_a_dead_letter_is_skipped(monkeypatch, name, value):
    """Another program's message, or one with invalid headers, is logged, and the others are returned."""
    producer = FakeProducer()
    send_dead_letters(producer, "t.dlq", [reject(1), reject(2)])
    good, stranger = producer.sent
    headers = [(item, held) for item, held in stranger.headers() if item != PREFIX + name]
    if value is not None and name in ("partition", "offset", "time"):
        headers.append((PREFIX + name, value))
    strange = message(7, headers=headers)
    monkeypatch.setattr(topics, "fetch_offset_ranges", lambda *_: [OffsetRange(0, 0, 3)])
    monkeypatch.setattr(topics, "read_records", lambda _settings, topic, spans: [strange, good, message(8)])
    with capture_logs() as logs:
        result = list(read_dead_letters(None, PIPELINE))
    assert [item.origin.offset for item in result] == [1]
    assert [(log["event"], log.get("offset")) for log in logs] == [("foreign_message", 7), ("foreign_messages", None)]
    assert logs[1]["records"] == 2


def test_dead_letters_are_found_by_position(monkeypatch):
    """Only the range that contains them is read; others in it are skipped, and so are missing ones."""
    producer, asked = FakeProducer(), []
    send_dead_letters(producer, "t.dlq", [reject(offset) for offset in range(6)])

    def records(_settings, _topic, spans):
        asked.extend(spans)
        return [item for item in producer.sent for span in spans if span.first <= item.offset() < span.end]

    monkeypatch.setattr(topics, "fetch_offset_ranges", lambda *_: [OffsetRange(0, 1, 6), OffsetRange(1, 0, 0)])
    monkeypatch.setattr(topics, "read_records", records)
    result = read_dead_letters_at(None, PIPELINE, ["0:0", "0:2", "0:4", "0:99", "1:0", "7:1"])
    assert list(result) == ["0:2", "0:4"]
    assert asked == [OffsetRange(0, 1, 6)]


@pytest.mark.parametrize("place", ["", "1", "1:", ":1", "a:1", "1:-1", "1:1:1", "1:1\n", "9" * 10 + ":1"])
def test_a_position_is_a_partition_and_an_offset(place):
    """Anything else is a usage error, before Kafka is asked."""
    with pytest.raises(UsageError, match="PARTITION:OFFSET"):
        read_dead_letters_at(None, PIPELINE, [place])


def test_a_position_without_a_dead_letter_says_where_there_are_some(monkeypatch):
    """The error names the ranges in the topic."""
    monkeypatch.setattr(
        topics, "fetch_offset_ranges", lambda *_: [OffsetRange(0, 1, 6), OffsetRange(1, 4, 4), OffsetRange(2, 0, 1)]
    )
    message = build_not_found_error(None, PIPELINE, "5:5").message
    assert message == "no dead letter at 5:5 in users_created.dlq (available: 0:1 to 0:5, 2:0 to 2:0)"
