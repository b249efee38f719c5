"""Random histories of a compacted topic, a table with a TTL, a pruned dead-letter topic; and a loss in each."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.produce import delivery_log
from penstock.reconcile.verify import TopicReceipt
from tests.unit.carried import Carried, value
from tests.unit.strategies import few_examples

SENDS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["good", "good", "good", "deletion", "junk"])),
    min_size=1,
    max_size=25,
)
OUTCOMES = ("stored", "deleted", "rejected", "filtered", "expired", "pruned", "waiting", "missing")
PARTITIONS = 2
TTL_S = 100
BATCH_MS = 30_000


class Aged:
    """A topic processed in batches half a minute apart, some of them again, then aged by what excuses an absence."""

    def __init__(self, home: str, sends: list[tuple[int, str]], data: st.DataObject, *, again: bool = True) -> None:
        self.topic = Carried(Path(home), PARTITIONS)
        for sensor, kind in sends:
            what = {"good": value(sensor), "junk": b"junk"}.get(kind)
            self.topic.send(sensor, what, partition=sensor % PARTITIONS, run="r1", tombstone=kind == "deletion")
        self.topic.acknowledge("r1")
        self._carry_out(data, again=again)
        self.topic.now_ms = self.topic.stored_ms + data.draw(st.integers(0, TTL_S * 1000), label="age")

    def _carry_out(self, data: st.DataObject, *, again: bool) -> None:
        at = dict.fromkeys(range(PARTITIONS), 0)
        while any(at[span.partition] < span.end for span in self.topic.spans()):
            batch = [
                OffsetRange(span.partition, at[span.partition], data.draw(st.integers(at[span.partition], span.end)))
                for span in self.topic.spans()
            ]
            batch = [span for span in batch if span.records] or [self._whole(at)]
            for _ in range(data.draw(st.integers(1, 2 if again else 1), label="times")):
                self.topic.stored_ms += BATCH_MS
                self.topic.carry_out(*batch, number=at[0] * 100 + at[1])
            at |= {span.partition: span.end for span in batch}
        if again and data.draw(st.booleans(), label="checkpoint lost"):
            self.topic.stored_ms += BATCH_MS
            self.topic.carry_out(job="job-b")

    def _whole(self, at: dict[int, int]) -> OffsetRange:
        return next(
            OffsetRange(span.partition, at[span.partition], span.end)
            for span in self.topic.spans()
            if span.end > at[span.partition]
        )

    def age(self, data: st.DataObject) -> None:
        """Expire, compact, prune: each or not."""
        if data.draw(st.booleans(), label="expires"):
            self.topic.expire(TTL_S)
        if data.draw(st.booleans(), label="compacts"):
            self.topic.topic_settings |= {"cleanup.policy": "compact", "delete.retention.ms": "0"}
            self.topic.compact()
        self.topic.queue_first = data.draw(st.integers(0, len(self.topic.queue.sent)), label="pruned to")


def differences(receipt: TopicReceipt) -> list[tuple[str, int | None, int | None, str | None]]:
    """The differences without their messages; every outcome adds up."""
    for balance in [*receipt.partitions, receipt]:
        assert balance.produced == sum(getattr(balance, name) for name in OUTCOMES)
    assert receipt.balanced == (receipt.differences == []) == (receipt.differences_found == 0)
    return [(entry.kind, entry.partition, entry.offset, entry.id) for entry in receipt.differences]


@few_examples
@given(SENDS, st.data())
def test_an_aged_topic_balances(sends, data):
    """However it was processed, and whatever has expired, was compacted or pruned: nothing is missing."""
    with tempfile.TemporaryDirectory() as home:
        aged = Aged(home, sends, data)
        aged.age(data)
        receipt = aged.topic.verify()
        assert differences(receipt) == []
        assert receipt.rows == receipt.distinct_ids
        assert receipt.produced == len(sends) - len(aged.topic.compacted)


@few_examples
@given(SENDS, st.data())
def test_a_lost_row_is_named_whatever_has_expired(sends, data):
    """Its TTL has not passed, and its record exists."""
    with tempfile.TemporaryDirectory() as home:
        aged = Aged(home, [*sends, (0, "good")], data, again=False)
        aged.age(data)
        aged.topic.tables.ttl = TTL_S, 0
        young = aged.topic.now_ms - TTL_S * 900
        rows = aged.topic.tables.rows
        lost = [sensor for sensor in rows if aged.topic.tables.stored_ms[sensor] > young]
        if not lost:
            return
        sensor = data.draw(st.sampled_from(sorted(lost)))
        place = rows[sensor]["kafka_partition"], rows[sensor]["kafka_offset"]
        del rows[sensor]
        if place in aged.topic.compacted:  # by a newer one that was rejected: neither is anywhere
            return
        assert ("missing", *place, str(sensor)) in differences(aged.topic.verify())


@few_examples
@given(SENDS, st.booleans(), st.data())
def test_a_lost_record_that_compaction_keeps_is_named(sends, is_journaled, data):
    """By the row that it wrote, or by the delivery log."""
    with tempfile.TemporaryDirectory() as home:
        aged = Aged(home, [*sends, (0, "good")], data)
        topic = aged.topic
        topic.topic_settings |= {"cleanup.policy": "compact", "delete.retention.ms": "0"}
        topic.compact()
        if not is_journaled:
            for file in delivery_log.folder_of(topic.settings).iterdir():
                file.unlink()
        rows = {sensor: (row["kafka_partition"], row["kafka_offset"]) for sensor, row in topic.tables.rows.items()}
        sensor = data.draw(st.sampled_from([key for key, place in rows.items() if place not in topic.compacted]))
        topic.compacted.add(rows[sensor])
        assert ("lost", *rows[sensor], str(sensor)) in differences(topic.verify())


@few_examples
@given(SENDS, st.data())
def test_a_lost_dead_letter_is_named_whatever_was_pruned(sends, data):
    """Those below the log start use up the excuses; one above it gets none."""
    with tempfile.TemporaryDirectory() as home:
        aged = Aged(home, [*sends, (0, "junk")], data, again=False)
        queue = aged.topic.queue.sent
        aged.topic.queue_first = data.draw(st.integers(0, len(queue) - 1), label="pruned to")
        queue.pop(data.draw(st.integers(aged.topic.queue_first, len(queue) - 1), label="lost"))
        receipt = aged.topic.verify()
        kinds = [kind for kind, *_ in differences(receipt)]
        assert (kinds.count("missing"), kinds.count("miscounted")) == (1, 1)
        assert receipt.pruned == aged.topic.queue_first
