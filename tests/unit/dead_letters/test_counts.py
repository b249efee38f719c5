"""Dead letters are counted by reason as they arrive."""

import pytest
from confluent_kafka import Message

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.dead_letters import counts
from penstock.dead_letters.counts import OTHER, DeadLetterCounter
from penstock.errors import KafkaUnreachable
from tests.unit.fakes import message


class Queue:
    """A dead-letter topic with one partition; `read` are the ranges that were read of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.id, self.first, self.letters, self.read = "a", 0, [], []
        self.is_away = False
        monkeypatch.setattr(topics, "read_records", self._records)

    def put(self, reason: str, value: bytes = b"12345") -> None:
        headers = [("__penstock.errors.reason", reason.encode())] if reason else []
        self.letters.append(message(len(self.letters), value, headers=headers))

    def count_in(self, counter: DeadLetterCounter) -> None:
        counter.count_new(self.id, [OffsetRange(0, self.first, len(self.letters))])

    def _records(self, _settings: Settings, _topic: str, wanted: list[OffsetRange]) -> list[Message]:
        self.read += wanted
        if self.is_away:
            raise KafkaUnreachable
        return [letter for span in wanted for letter in self.letters[span.first : span.end]]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(monkeypatch)


@pytest.fixture
def counter(settings: Settings) -> DeadLetterCounter:
    return DeadLetterCounter(settings, pipelines.of(settings))


def test_only_dead_letters_after_the_first_poll_are_read(queue: Queue, counter: DeadLetterCounter) -> None:
    """Existing ones are not read; each one after that is read once."""
    queue.put("json_malformed")
    queue.count_in(counter)
    assert queue.read == []
    queue.put("contract_broken")
    queue.count_in(counter)
    queue.count_in(counter)
    assert queue.read == [OffsetRange(0, 1, 2)]
    assert (counter.counts.records["contract_broken"], counter.counts.value_bytes["contract_broken"]) == (1, 5)
    assert counter.counts.records["json_malformed"] == 0


def test_an_unknown_reason_creates_no_label(queue: Queue, counter: DeadLetterCounter) -> None:
    """Writers to the topic cannot create an unbounded number of labels."""
    queue.count_in(counter)
    for number in range(10):
        queue.put(f"reason-{number}")
    queue.put("")
    queue.count_in(counter)
    assert counter.counts.records[OTHER] == 11


def test_unread_dead_letters_are_counted_later(queue: Queue, counter: DeadLetterCounter) -> None:
    """An error counts nothing, and skips nothing."""
    queue.count_in(counter)
    queue.put("avro_malformed")
    queue.is_away = True
    with pytest.raises(KafkaUnreachable):
        queue.count_in(counter)
    queue.is_away = False
    queue.count_in(counter)
    assert counter.counts.records["avro_malformed"] == 1


def test_many_dead_letters_are_read_in_parts(
    queue: Queue, counter: DeadLetterCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One poll reads a limited number, and reports that it is not complete."""
    monkeypatch.setattr(counts, "MOST", 2)
    queue.count_in(counter)
    for _ in range(3):
        queue.put("frame_broken")
    queue.count_in(counter)
    assert (counter.counts.records["frame_broken"], counter.is_done) == (2, False)
    queue.count_in(counter)
    assert (counter.counts.records["frame_broken"], counter.is_done) == (3, True)


def test_a_recreated_topic_is_read_from_its_beginning(queue: Queue, counter: DeadLetterCounter) -> None:
    """Its offsets are unrelated to those before; the counts continue."""
    queue.put("frame_broken")
    queue.count_in(counter)
    queue.id = "b"
    queue.count_in(counter)
    assert counter.counts.records["frame_broken"] == 1
