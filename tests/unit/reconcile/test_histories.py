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


def told(found: TopicReceipt) -> list[tuple[str, int | None, int | None, str | None]]:
    """The differences, without their messages."""
    assert found.balanced == (found.differences == []) == (found.differences_found == 0)
    return [(one.kind, one.partition, one.offset, one.id) for one in found.differences]


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
            upto = {one: data.draw(st.integers(at[one], end)) for one, end in ends.items()}
            batch = [OffsetRange(one, at[one], upto[one]) for one in ends]
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
        lines = [one for one in self.lines() if one["kafka_partition"] == partition]
        return max([spans[0].first, *(one["last_offset"] + 1 for one in lines)])

    def lines(self) -> list[dict]:
        return [one for one in self.topic.tables.kept["ledger"].values() if not one["job"].startswith(REPLAY)]


def adds_up(found: TopicReceipt) -> None:
    """produced = the sum of all outcomes, in each partition and in all."""
    for one in [*found.partitions, found]:
        assert one.produced == sum(getattr(one, part) for part in PARTS)
    assert found.rejected + found.refused == sum(found.queue.values())
    assert (found.produced, len(found.partitions)) == (sum(one.end for one in found.partitions), PARTITIONS)


@few_examples
@given(SENDS, st.data())
def test_any_history_balances(sends, data):
    """Sends, deletions, rejected and redriven records; batches interrupted and retried, a lost checkpoint, a replay."""
    with tempfile.TemporaryDirectory() as home:
        history = History(Path(home), sends)
        history.carry_out(data)
        found = history.topic.verify()
        assert told(found) == []
        adds_up(found)
        assert found.rows == found.distinct_ids or found.waiting  # a tombstone that waits may have left no row
        for one in found.partitions:
            assert one.waiting == one.end - history.reached(one.partition)
        assert found.acknowledged.records == found.produced == len(sends)


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
        one["filtered"]
        for one in history.topic.tables.kept["ledger"].values()
        if one["kafka_partition"] == partition and one["first_offset"] <= offset <= one["last_offset"]
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
        found = history.topic.verify()
        adds_up(found)
        assert ("missing", *place, str(sensor)) in told(found) or drops(history, *place)


@few_examples
@given(SENDS, st.data())
def test_a_reverted_row_is_named(sends, data):
    """Its last record is missing, although the id has a row."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        partition, offset = (history.topic.tables.rows[0][name] for name in ("kafka_partition", "kafka_offset"))
        lower = data.draw(st.integers(0, offset - 1))
        history.topic.tables.put(0, partition, lower, EPOCH_US + lower)
        found = history.topic.verify()
        adds_up(found)
        assert ("missing", partition, offset, "0") in told(found) or drops(history, partition, offset)


@few_examples
@given(SENDS, st.data())
def test_a_shortened_ledger_entry_is_named(sends, data):
    """An entry without overlap says how many records it has. With another job's entry it would be hidden."""
    with tempfile.TemporaryDirectory() as home:
        history = History(Path(home), [(0, "good"), (0, "good"), *sends])
        history.topic.carry_out()
        line = data.draw(st.sampled_from([one for one in history.lines() if one["records"] > 1]))
        line["last_offset"] -= 1
        found = history.topic.verify()
        adds_up(found)
        assert ("miscounted", line["kafka_partition"], line["first_offset"], None) in told(found)


@few_examples
@given(SENDS, st.data())
def test_a_lost_ledger_entry_is_named(sends, data):
    """By each record that no other entry covers; if it was the last entry, they are pending."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        lines = history.topic.tables.kept["ledger"]
        gone = lines.pop(data.draw(st.sampled_from(sorted(lines))))
        partition = gone["kafka_partition"]
        others = [one for one in lines.values() if one["kafka_partition"] == partition]
        covered = {offset for one in others for offset in range(one["first_offset"], one["last_offset"] + 1)}
        reached = max((one["last_offset"] + 1 for one in others if not one["job"].startswith(REPLAY)), default=0)
        lost = {offset for offset in range(gone["first_offset"], gone["last_offset"] + 1) if offset < reached} - covered
        found = history.topic.verify()
        adds_up(found)
        assert {(one[1], one[2]) for one in told(found)} == {(partition, offset) for offset in lost}
        assert {one[0] for one in told(found)} <= {"missing", "gap"}


@few_examples
@given(SENDS, st.data())
def test_a_lost_dead_letter_is_named(sends, data):
    """With all its copies: its record is then found nowhere, and its ledger entry counts one too many."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        queue = history.topic.queue.sent
        place = data.draw(st.sampled_from(sorted(set(map(origin, queue)))))
        queue[:] = [one for one in queue if origin(one) != place]
        found = history.topic.verify()
        adds_up(found)
        assert ("missing", *place, None) in told(found)


def origin(letter) -> tuple[int, int]:
    facts = read_error_headers(letter)
    return int(facts["partition"]), int(facts["offset"])


@few_examples
@given(SENDS, st.data())
def test_a_replaced_record_is_named(sends, data):
    """The delivery log knows which key was acknowledged there."""
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        partition = data.draw(st.sampled_from([one for one, kept in history.topic.kafka.items() if kept]))
        kept = history.topic.kafka[partition]
        offset = data.draw(st.integers(0, len(kept) - 1))
        old = kept[offset]
        kept[offset] = message(offset, old.value(), partition=partition, topic="readings", key=key(99))
        found = history.topic.verify()
        adds_up(found)
        assert ("lost", partition, offset, old.key().decode()) in told(found)


@few_examples
@given(SENDS, st.data())
def test_a_row_of_another_writer_is_named(sends, data):
    """With the current time, without a position, or with a position within the topic; over another row or as a new
    one.
    """
    with tempfile.TemporaryDirectory() as home:
        history = corrupted(data, sends, home)
        sensor = data.draw(st.sampled_from([77, *sorted(history.topic.tables.rows)]))
        partition = data.draw(st.sampled_from([one for one, kept in history.topic.kafka.items() if kept]))
        offset = data.draw(st.integers(0, len(history.topic.kafka[partition]) - 1))
        how = data.draw(st.sampled_from([(partition, offset, NOW_US), (None, None, None), (None, None, NOW_US)]))
        if sensor == 77 and data.draw(st.booleans(), label="with the right time"):
            how = (partition, offset, EPOCH_US + offset)
        history.topic.tables.put(sensor, *how)
        found = history.topic.verify()
        adds_up(found)
        assert ("foreign", str(sensor)) in [(one[0], one[3]) for one in told(found)]
