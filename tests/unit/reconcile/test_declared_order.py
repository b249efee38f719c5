"""Verification where Kafka's timestamp orders the table: random histories balance, and defects are named."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.contract.fault import Fault, Reason
from penstock.errors import PenstockError
from penstock.reconcile.audit import RowPlace
from tests.unit.carried import EPOCH_US, STORED_MS, Carried, Rows, scanned, value
from tests.unit.reconcile.test_histories import list_differences
from tests.unit.reconcile.test_versions import TIE
from tests.unit.strategies import few_examples

BY_TIME_MS = STORED_MS - 10_000
NOW_US = EPOCH_US + 9_000_000_000
SENDS = st.lists(
    st.tuples(
        st.integers(0, 3),  # id
        st.integers(0, 2),  # partition
        st.integers(0, 3),  # timestamp
        st.sampled_from(["one", "other", "deletion", "junk"]),
        st.none() | st.integers(0, 3),  # first timestamp of a redriven record
    ),
    max_size=25,
)


def carried(home: Path) -> Carried:
    topic = Carried(home, 3)
    topic.pipeline = replace(topic.pipeline, order_by="timestamp")
    return topic


@pytest.fixture
def topic(tmp_path):
    topic = carried(tmp_path)
    with topic.in_place():
        yield topic


def body(sensor: int, kind: str) -> bytes | None:
    return {"one": value(sensor, 1), "other": value(sensor, 2), "junk": b"junk"}.get(kind)


class Model:
    """The newest versions of each id, by brute force."""

    def __init__(self) -> None:
        self.versions: dict[int, list[tuple[int, str]]] = {}

    def add(self, sensor: int, order_us: int, kind: str) -> None:
        if kind != "junk":
            self.versions.setdefault(sensor, []).append((order_us, kind))

    def newest(self, sensor: int) -> set[str]:
        last_us = max(order_us for order_us, _ in self.versions[sensor])
        return {kind for order_us, kind in self.versions[sensor] if order_us == last_us}

    @property
    def tied(self) -> set[str]:
        return {str(sensor) for sensor in self.versions if len(self.newest(sensor)) > 1}


def filled(topic: Carried, sends) -> Model:
    model = Model()
    for sensor, partition, at, kind, first in sends:
        first_ms = None if first is None or kind == "junk" else BY_TIME_MS + first
        more = {"partition": partition, "at_ms": BY_TIME_MS + at, "first_ms": first_ms}
        offset = topic.send(sensor, body(sensor, kind), tombstone=kind == "deletion", **more)
        own_us = (BY_TIME_MS + at) * 1000 + offset % 1000
        model.add(sensor, own_us if first_ms is None else min(own_us, first_ms * 1000), kind)
    return model


def carry_out_in_batches(topic: Carried, data: st.DataObject) -> None:
    """Batches that take some of each partition, whatever the timestamps are, and finally the rest."""
    at = {span.partition: span.first for span in topic.spans()}
    for number in range(data.draw(st.integers(1, 3), label="batches") + 1):
        ends = {span.partition: span.end for span in topic.spans()}
        upto = {key: end if number == 0 else data.draw(st.integers(at[key], end)) for key, end in ends.items()}
        if number == 0:
            continue
        topic.carry_out(*[OffsetRange(item, at[item], upto[item]) for item in ends])
        at = upto
    topic.carry_out(*[OffsetRange(span.partition, at[span.partition], span.end) for span in topic.spans()])


@few_examples
@given(SENDS, st.data())
def test_only_ties_lack_an_order(sends, data):
    """Whatever the partitions and batches are; the table has the newest version of each id that has one."""
    with tempfile.TemporaryDirectory() as home:
        topic = carried(Path(home))
        model = filled(topic, sends)
        carry_out_in_batches(topic, data)
        receipt = topic.verify()
        assert {(kind, record_id) for kind, _, _, record_id in list_differences(receipt)} == {
            ("unordered", record_id) for record_id in model.tied
        }
        assert {difference.why for difference in receipt.differences} <= {TIE}
        assert receipt.missing == receipt.waiting == 0
        for sensor in model.versions:
            if str(sensor) not in model.tied:
                assert (sensor in topic.tables.rows) == (model.newest(sensor) != {"deletion"})
        assert len(topic.tables.rows) <= len(model.versions)


@few_examples
@given(SENDS.filter(bool), st.data())
def test_a_loss_is_named(sends, data):
    """The row of the newest version is gone, is an older version's, or was changed by hand."""
    with tempfile.TemporaryDirectory() as home:
        topic = carried(Path(home))
        filled(topic, sends)
        topic.carry_out()
        before = list_differences(topic.verify())
        if not topic.tables.rows:
            return
        sensor = data.draw(st.sampled_from(sorted(topic.tables.rows)))
        row = topic.tables.rows[sensor]
        how = data.draw(st.sampled_from(["gone", "older", "by hand"]))
        if how == "gone":
            del topic.tables.rows[sensor]
        elif how == "older":
            at_ms = BY_TIME_MS - 1
            written_us = at_ms * 1000 + row["kafka_offset"] % 1000
            topic.tables.put(sensor, row["kafka_partition"], row["kafka_offset"], written_us, at_ms)
        else:
            topic.tables.put(sensor, row["kafka_partition"], row["kafka_offset"], NOW_US)
        new = [each for each in list_differences(topic.verify()) if each not in before]
        kinds = {kind for kind, _, _, record_id in new if record_id == str(sensor)}
        assert kinds >= ({"foreign"} if how == "by hand" else {"missing"})


def test_rows_explain_their_own_write_timestamps(topic):
    """By Kafka's timestamp in the row; a redriven one by its record; others were changed by hand or are older."""
    for first_ms in (None, 5):
        topic.send(2, at_ms=BY_TIME_MS, first_ms=first_ms)
    topic.firsts[1] = 9
    topic.kafka[1] = [None] * 9
    tables, at_us = topic.tables, BY_TIME_MS * 1000
    tables.put(1, 0, 7_007, at_us + 7, BY_TIME_MS)
    tables.put(2, 0, 1, 5000, BY_TIME_MS)
    tables.put(3, 0, 1, 5000, BY_TIME_MS)
    tables.put(4, 0, 0, NOW_US, BY_TIME_MS)
    tables.put(5, 1, 3, 5000, BY_TIME_MS)
    tables.put(6, 0, 0, at_us + 1, BY_TIME_MS)
    result = Rows(scanned(topic.auditor()))
    shifts = {1: RowPlace(0, 7_007, at_us + 7 - EPOCH_US - 7_007), 2: RowPlace(0, 1, 5000 - EPOCH_US - 1)}
    assert result.places == shifts | {5: RowPlace(1, 3, 5000 - EPOCH_US - 3)}
    assert (result.older, result.changed) == (1, {4: NOW_US, 6: at_us}), "times by hand to the second"


def test_rows_of_an_earlier_incarnation_are_checked_against_records(topic):
    """A recreated topic has the same offsets again: a row that explains itself may be one of the earlier
    incarnation.
    """
    topic.tables.generations["id-0"] = EPOCH_US - 1
    topic.send(1, at_ms=BY_TIME_MS)
    topic.tables.put(1, 0, 0, BY_TIME_MS * 1000, BY_TIME_MS)
    topic.tables.put(2, 0, 0, BY_TIME_MS * 1000, BY_TIME_MS)
    topic.tables.put(3, 0, 5, BY_TIME_MS * 1000 + 5, BY_TIME_MS)
    result = Rows(scanned(topic.auditor()))
    assert (list(result.places), result.older, result.changed, result.foreign) == ([1], 2, {}, [])


def test_a_record_that_nothing_orders_has_no_id(topic):
    """The job rejects it: it is looked up among the dead letters."""
    topic.send(1, at_ms=-1)
    topic.send(1, at_ms=2**50)
    topic.send(1, at_ms=BY_TIME_MS)
    result = topic.sent()
    assert [item.id for item in result] == [None, None, "1"]
    fault = topic.auditor()._compute_rank(topic.kafka[0][0], [], result[2])
    assert isinstance(fault, Fault)
    assert fault.reason == Reason.ORDER_UNKNOWN


def test_equal_bytes_at_two_positions_are_one_version(topic):
    """A producer that sent a record twice within a millisecond changes nothing."""
    topic.send(1, at_ms=BY_TIME_MS)
    topic.send(1, at_ms=BY_TIME_MS, partition=1)
    topic.carry_out()
    assert topic.verify().balanced
    topic.send(1, value(1, 7), at_ms=BY_TIME_MS, partition=2)
    topic.carry_out(OffsetRange(2, 0, 1))
    receipt = topic.verify()
    assert [(difference.kind, difference.id, difference.why) for difference in receipt.differences] == [
        ("unordered", "1", TIE)
    ]


def test_a_table_of_another_order_is_not_verified(topic):
    """Every row would be reported as foreign: it is rejected, with a way out, like by the job."""
    topic.tables.session.cluster.metadata.keyspaces["lab"].tables.add("readings")
    topic.tables.put(1, 0, 0, EPOCH_US)
    with pytest.raises(PenstockError, match="is ordered by 'offset'"):
        topic.verify()
