"""The layouts of a topic: found once, stored, and the same for all readers."""

from collections.abc import Iterator

from penstock.broker.topics import OffsetRange
from penstock.contract.order import Order, TopicLayout, murmur2
from penstock.sink.layouts import Layouts
from tests.unit.carried import EPOCH_US, Carried


def layouts(topic: Carried) -> Layouts:
    def keys_in(spans: list[OffsetRange]) -> Iterator[tuple[int, bytes | None]]:
        for span in spans:
            for message in topic.kafka[span.partition][span.first : span.end]:
                yield span.partition, message.key()

    return Layouts(topic.tables.session, "lab", topic.book, topic.spans, keys_in)


def test_the_first_layout_starts_with_the_topic(tmp_path):
    """Its write timestamps are timestamp base and offset, as before layouts existed."""
    topic = Carried(tmp_path, partitions=4)
    topic.tables.layouts.clear()
    assert layouts(topic).observe(4) == Order((TopicLayout(4),))
    assert topic.tables.layouts == [TopicLayout(4, 0, {})]


def test_a_topic_that_grew_gets_a_layout_that_starts_where_the_ledger_ends(tmp_path, monkeypatch):
    """What the ledger covers was read before; the new timestamps start after all of the old ones, near the clock."""
    topic = Carried(tmp_path, partitions=2)
    topic.tables.layouts[:] = [TopicLayout(2)]
    for sensor in range(5):
        topic.send(sensor, partition=0)
    topic.carry_out(OffsetRange(0, 0, 3))
    kept = layouts(topic)
    assert kept.observe(2) == Order((TopicLayout(2),))
    monkeypatch.setattr("time.time_ns", lambda: (EPOCH_US + 500_000_000) * 1000)
    grown = kept.observe(3)
    assert grown.newest == TopicLayout(3, 500_000_000 - 5, {0: 3})
    monkeypatch.setattr("time.time_ns", lambda: EPOCH_US * 1000)
    assert kept.observe(4).newest.shift_us >= grown.newest.shift_us + 5 + 60_000_000, "the clock was set back"


def test_a_layout_is_found_once(tmp_path):
    """A second job, or a replay, uses what the first one wrote, and a topic that did not grow is not queried."""
    topic = Carried(tmp_path, partitions=2)
    topic.tables.layouts[:] = [TopicLayout(2)]
    first, second = layouts(topic), layouts(topic)
    first.observe(2), second.observe(2)
    topic.send(1, partition=0)
    result = first.observe(3)
    topic.carry_out()
    asked = len(topic.tables.session.executed)
    assert second.observe(3) == result
    assert second.observe(3) == result
    assert not any("INSERT" in query for query, _ in topic.tables.session.executed[asked:])


def test_a_layout_knows_the_partitioner_of_its_topic(tmp_path):
    """By the newest keys of each partition, which were sent before and after the topic grew; it is stored."""
    topic = Carried(tmp_path, partitions=3)
    topic.tables.layouts[:] = [TopicLayout(2)]
    for sensor in range(100):
        topic.send(sensor, partition=murmur2(str(sensor).encode()) % (2 if sensor < 80 else 3))
    assert layouts(topic).observe(3).newest.partitioners == {"murmur2"}
    assert topic.tables.layouts[-1].partitioners == {"murmur2"}
