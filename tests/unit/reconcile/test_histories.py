"""Random histories of a topic balance, and one defect planted in each is named."""

import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.dead_letters.message import read_error_headers
from penstock.reconcile.verify import TopicReceipt
from penstock.sink.ledger import REPLAY
from tests.unit.carried import EPOCH_US, Carried, key, message, value
from tests.unit.strategies import few_examples

PARTS = ("stored", "deleted", "rejected", "filtered", "waiting", "missing")
NOW_US = EPOCH_US + 9_000_000_000


def list_differences(receipt: TopicReceipt) -> list[tuple[str, int | None, int | None, str | None]]:
    """The differences, without their messages."""
    assert receipt.balanced == (receipt.differences == []) == (receipt.differences_found == 0)
    return [
        (difference.kind, difference.partition, difference.offset, difference.id) for difference in receipt.differences
    ]


IDS = st.integers(0, 5)
KINDS = st.sampled_from(["good", "good", "good", "dropped", "deletion", "junk", "redriven"])
SENDS = st.lists(st.tuples(IDS, KINDS), min_size=1, max_size=25)
PARTITIONS = 2


class History:
    """A topic with records, processed in batches, some of them again."""

    def __init__(self, home: Path, sends: list[tuple[int, str]]) -> None:
        self.topic = Carried(home, PARTITIONS)
        self.topic.filters = any(kind == "dropped" for _, kind in sends)
        rejected: dict[int, list[int]] = defaultdict(list)
        for sensor, kind in sends:
            what = {"good": value(sensor), "dropped": value(sensor, -1), "junk": b"junk"}.get(kind)
            place = rejected[sensor].pop() if kind == "redriven" and rejected[sensor] else None
            sent = {"partition": sensor % PARTITIONS, "run": "r1", "order_us": place}
            offset = self.topic.send(sensor, what, tombstone=kind == "deletion", **sent)
            if kind == "junk":
                rejected[sensor].append(offset)
        self.topic.acknowledge("r1")

    def stream(self, data: st.DataObject, job: str) -> None:
        """Read from the beginning in batches, some interrupted and retried; perhaps not to the end."""
        ends = {span.partition: span.end for span in self.topic.spans()}
        at = dict.fromkeys(ends, 0)
        for number in range(data.draw(st.integers(1, 4), label=f"batches of {job}")):
            upto = {item: data.draw(st.integers(at[item], end)) for item, end in ends.items()}
            batch = [OffsetRange(item, at[item], upto[item]) for item in ends]
            for _ in range(data.draw(st.integers(0, 1), label="broken off")):
                self.topic.written(*batch)
            for _ in range(data.draw(st.integers(1, 2), label="times")):
                self.topic.carry_out(*batch, job=job, number=number)
            at = upto

    def replay(self, data: st.DataObject) -> None:
        """Read a range again, as far as the stream has come."""
        spans = []
        for span in self.topic.spans():
            reached = self.topic.book.reached(span)
            first = data.draw(st.integers(0, reached))
            spans.append(OffsetRange(span.partition, first, data.draw(st.integers(first, reached))))
        self.topic.carry_out(*spans, job=f"{REPLAY}1")

    def carry_out(self, data: st.DataObject) -> None:
        self.stream(data, "job-a")
        if data.draw(st.booleans(), label="checkpoint lost"):
            self.stream(data, "job-b")
        if data.draw(st.booleans(), label="replay"):
            self.replay(data)

    def reached(self, partition: int) -> int:
        spans = [span for span in self.topic.spans() if span.partition == partition]
        lines = [line for line in self.lines() if line["kafka_partition"] == partition]
        return max([spans[0].first, *(line["last_offset"] + 1 for line in lines)])

    def lines(self) -> list[dict]:
        return [item for item in self.topic.tables.kept["ledger"].values() if not item["job"].startswith(REPLAY)]


def adds_up(receipt: TopicReceipt) -> None:
    """produced = the sum of all outcomes, in each partition and in all."""
    for item in [*receipt.partitions, receipt]:
        assert item.produced == sum(getattr(item, part) for part in PARTS)
    assert receipt.rejected + receipt.refused == sum(receipt.queue.values())
    assert (receipt.produced, len(receipt.partitions)) == (
        sum(partition.end for partition in receipt.partitions),
        PARTITIONS,
    )


@few_examples
@given(SENDS, st.data())
def test_any_history_balances(sends, data):
    """Sends, deletions, rejected and redriven records; batches interrupted and retried, a lost checkpoint, a replay."""
    with tempfile.TemporaryDirectory() as home:
        history = History(Path(home), sends)
        history.carry_out(data)
        receipt = history.topic.verify()
        assert list_differences(receipt) == []
        adds_up(receipt)
        assert receipt.rows == receipt.distinct_ids or receipt.waiting  # a tombstone that waits may have left no row
        for partition in receipt.partitions:
            assert partition.waiting == partition.end - history.reached(partition.partition)
        assert receipt.acknowledged.records == receipt.produced == len(sends)


def corrupted(data: st.DataObject, sends: list[tuple[int, str]], home: str) -> History:
    """A history with at least one row and one dead letter, completely processed: nothing is pending."""
    history = History(Path(home), [*sends, (0, "good"), (1, "junk"), (0, "good")])
    history.carry_out(data)
    ends = [OffsetRange(span.partition, history.reached(span.partition), span.end) for span in history.topic.spans()]
    history.topic.carry_out(*ends, job="job-b", number=9)
    return history


def drops(history: History, partition: int, offset: int) -> bool:
    """Whether the ledger entry of the record has filtered others: only their number is known.

    A record that was filtered and superseded counts as stored, and leaves room for a lost one to count as filtered.
    """
    return any(
        item["filtered"]
        for item in history.topic.tables.kept["ledger"].values()
        if item["kafka_partition"] == partition and item["first_offset"] <= offset <= item["last_offset"]
    )


@few_examples
@given(SENDS, st.data())
def test_a_lost_row_is_named(sends, data):
    """By its record."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        rows = history.topic.tables.rows
        sensor = data.draw(st.sampled_from(sorted(rows)))
        place = rows[sensor]["kafka_partition"], rows[sensor]["kafka_offset"]
        del rows[sensor]
        receipt = history.topic.verify()
        adds_up(receipt)
        assert ("missing", *place, str(sensor)) in list_differences(receipt) or drops(history, *place)


@few_examples
@given(SENDS, st.data())
def test_a_reverted_row_is_named(sends, data):
    """Its last record is missing, although the id has a row."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        partition, offset = (history.topic.tables.rows[0][name] for name in ("kafka_partition", "kafka_offset"))
        lower = data.draw(st.integers(0, offset - 1))
        history.topic.tables.put(0, partition, lower, EPOCH_US + lower)
        receipt = history.topic.verify()
        adds_up(receipt)
        assert ("missing", partition, offset, "0") in list_differences(receipt) or drops(history, partition, offset)


@few_examples
@given(SENDS, st.data())
def test_a_shortened_ledger_entry_is_named(sends, data):
    """An entry without overlap says how many records it has. With another job's entry it would be hidden."""
    with tempfile.TemporaryDirectory() as home:
        history = History(Path(home), [(0, "good"), (0, "good"), *sends])
        history.topic.carry_out()
        line = data.draw(st.sampled_from([item for item in history.lines() if item["records"] > 1]))
        line["last_offset"] -= 1
        receipt = history.topic.verify()
        adds_up(receipt)
        assert ("miscounted", line["kafka_partition"], line["first_offset"], None) in list_differences(receipt)


@few_examples
@given(SENDS, st.data())
def test_a_lost_ledger_entry_is_named(sends, data):
    """By each record that no other entry covers; if it was the last entry, they are pending."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        lines = history.topic.tables.kept["ledger"]
        gone = lines.pop(data.draw(st.sampled_from(sorted(lines))))
        partition = gone["kafka_partition"]
        others = [line for line in lines.values() if line["kafka_partition"] == partition]
        covered = {offset for other in others for offset in range(other["first_offset"], other["last_offset"] + 1)}
        reached = max((other["last_offset"] + 1 for other in others if not other["job"].startswith(REPLAY)), default=0)
        lost = {offset for offset in range(gone["first_offset"], gone["last_offset"] + 1) if offset < reached} - covered
        receipt = history.topic.verify()
        adds_up(receipt)
        assert {(item[1], item[2]) for item in list_differences(receipt)} == {(partition, offset) for offset in lost}
        assert {item[0] for item in list_differences(receipt)} <= {"missing", "gap"}


@few_examples
@given(SENDS, st.data())
def test_a_lost_dead_letter_is_named(sends, data):
    """With all its copies: its record is then found nowhere, and its ledger entry counts one too many."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        queue = history.topic.queue.sent
        place = data.draw(st.sampled_from(sorted(set(map(origin, queue)))))
        queue[:] = [letter for letter in queue if origin(letter) != place]
        receipt = history.topic.verify()
        adds_up(receipt)
        assert ("missing", *place, None) in list_differences(receipt)


def origin(letter) -> tuple[int, int]:
    facts = read_error_headers(letter)
    return int(facts["partition"]), int(facts["offset"])


@few_examples
@given(SENDS, st.data())
def test_a_replaced_record_is_named(sends, data):
    """The delivery log knows which key was acknowledged there."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        partition = data.draw(st.sampled_from([item for item, kept in history.topic.kafka.items() if kept]))
        kept = history.topic.kafka[partition]
        offset = data.draw(st.integers(0, len(kept) - 1))
        old = kept[offset]
        kept[offset] = message(offset, old.value(), partition=partition, topic="readings", key=key(99))
        receipt = history.topic.verify()
        adds_up(receipt)
        assert ("lost", partition, offset, old.key().decode()) in list_differences(receipt)


@few_examples
@given(SENDS, st.data())
def test_a_row_of_another_writer_is_named(sends, data):
    """With the current time, without a position, or with a position within the topic; over another row or as a new
    one.
    """
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        sensor = data.draw(st.sampled_from([77, *sorted(history.topic.tables.rows)]))
        partition = data.draw(st.sampled_from([item for item, kept in history.topic.kafka.items() if kept]))
        offset = data.draw(st.integers(0, len(history.topic.kafka[partition]) - 1))
        how = data.draw(st.sampled_from([(partition, offset, NOW_US), (None, None, None), (None, None, NOW_US)]))
        if sensor == 77 and data.draw(st.booleans(), label="with the right time"):
            how = (partition, offset, EPOCH_US + offset)
        history.topic.tables.put(sensor, *how)
        receipt = history.topic.verify()
        adds_up(receipt)
        assert ("foreign", str(sensor)) in [(item[0], item[3]) for item in list_differences(receipt)]
