"""Existing differences are accepted, recorded with who and why, and counted separately from then on."""

import pytest

from penstock.broker.topics import OffsetRange
from penstock.errors import UsageError
from penstock.reconcile import acceptance, trace, verify
from penstock.reconcile.acceptance import DifferenceSelection
from penstock.reconcile.verify import Difference, TopicReceipt
from tests.unit.carried import EPOCH_US, Carried


@pytest.fixture
def topic(tmp_path):
    """Ten readings, three of which have no row."""
    topic = Carried(tmp_path)
    for sensor in range(10):
        topic.send(sensor, run="r1")
    topic.acknowledge("r1")
    topic.carry_out()
    for sensor in (2, 5, 7):
        del topic.tables.rows[sensor]
    return topic


def accept(topic: Carried, selection: DifferenceSelection) -> list[Difference]:
    with topic.in_place():
        differences = acceptance.find_differences(topic.settings, topic.tables.session, selection)
        acceptance.accept_differences(topic.settings, topic.tables.session, differences, "ann", "a drill")
    return differences


def named(receipt: TopicReceipt) -> list[tuple[str, int | None]]:
    return [(difference.kind, difference.offset) for difference in receipt.differences]


def test_accepted_differences_are_counted_separately(topic):
    """Missing records are accepted; every record is still accounted for, and unselected ones are still named."""
    accept(topic, DifferenceSelection(kinds=["missing"], ids=["2", "5"]))
    receipt = topic.verify()
    assert named(receipt) == [("missing", 7)]
    assert (receipt.produced, receipt.stored, receipt.missing, receipt.accepted) == (10, 7, 1, 2)
    accept(topic, DifferenceSelection(partition=0, first=7, end=8))
    receipt = topic.verify()
    assert (receipt.balanced, receipt.accepted, receipt.accepted_differences) == (True, 3, {"missing": 3})


def test_a_loss_next_to_accepted_differences_is_named(topic):
    """Within the same range, and of the same kind."""
    accept(topic, DifferenceSelection(kinds=["missing"]))
    assert topic.verify().balanced
    del topic.tables.rows[6]
    assert named(topic.verify()) == [("missing", 6)]


def test_an_acceptance_records_who_what_and_why(topic):
    """With the time, and what differed then."""
    accept(topic, DifferenceSelection(ids=["5"]))
    with topic.in_place():
        (entry,) = acceptance.list_accepted(topic.settings, topic.tables.session)
    assert (entry.kind, entry.partition, entry.offset, entry.id) == ("missing", 0, 5, "5")
    assert (entry.who, entry.reason, entry.difference) == ("ann", "a drill", "the ledger counts it, and it is nowhere")


@pytest.mark.parametrize(
    "selection",
    [
        DifferenceSelection(ids=["3"]),
        DifferenceSelection(kinds=["lost"]),
        DifferenceSelection(partition=1),
        DifferenceSelection(first=8),
        DifferenceSelection(end=2),
    ],
    ids=str,
)
def test_only_current_differences_can_be_accepted(topic, selection):
    """Nothing is recorded for a future difference."""
    with pytest.raises(UsageError, match=r"no current difference matches .*: 3"):
        accept(topic, selection)
    assert topic.tables.kept["accepted"] == {}


def test_more_differences_than_fit_in_memory_are_not_accepted(topic, monkeypatch):
    """The table should be rebuilt then."""
    monkeypatch.setattr(verify, "_ACCEPTED_AT_MOST", 2)
    with pytest.raises(UsageError, match="too many differences to accept individually: 3"):
        accept(topic, DifferenceSelection(kinds=["missing"]))


def test_more_differences_than_a_receipt_names_can_be_accepted(tmp_path):
    """A receipt names a hundred of each kind."""
    topic = Carried(tmp_path)
    for sensor in range(130):
        topic.send(sensor)
    topic.carry_out()
    topic.tables.rows.clear()
    assert len(accept(topic, DifferenceSelection(kinds=["missing"]))) == 130
    assert topic.verify().balanced
    assert len(topic.tables.kept["receipts"]) == 1, "accepting gives no receipt"


def test_an_acceptance_does_not_apply_to_a_recreated_topic(topic):
    """It has the same offsets again."""
    accept(topic, DifferenceSelection(kinds=["missing"]))
    topic.tables.generations = {"id-1": EPOCH_US + 60_000_000}
    assert acceptance_count(topic) == 0


def acceptance_count(topic: Carried) -> int:
    with topic.in_place():
        return len(acceptance.list_accepted(topic.settings, topic.tables.session))


def test_a_count_that_grew_is_another_difference(topic):
    """The entry lacked one record when that was accepted; now it lacks two."""
    (line,) = topic.tables.kept["ledger"].values()
    line["records"] = 11
    accept(topic, DifferenceSelection(kinds=["miscounted", "missing"]))
    assert topic.verify().balanced
    line["records"] = 12
    assert named(topic.verify()) == [("miscounted", 0)]


def test_gaps_lost_records_and_unordered_ids_can_be_accepted(tmp_path):
    """Every named difference can be accepted, and is no longer named."""
    topic = Carried(tmp_path, partitions=2)
    for sensor in range(4):
        topic.send(sensor)
    topic.send(1, partition=1)
    topic.written(OffsetRange(0, 0, 2))
    topic.carry_out(OffsetRange(0, 2, 4), OffsetRange(1, 0, 1))
    topic.acknowledge("r2", [(0, 9)])
    topic.tables.put(77, None, None, None)
    kinds = {kind for kind, _ in named(topic.verify())}
    assert kinds == {"gap", "lost", "unordered", "foreign"}
    accept(topic, DifferenceSelection(kinds=sorted(kinds)))
    receipt = topic.verify()
    assert (receipt.balanced, set(receipt.accepted_differences)) == (True, kinds)
    assert receipt.accepted == 0, "none of the records is missing"


def test_a_trace_shows_an_acceptance(topic):
    """Of the accepted record, and of no other."""
    accept(topic, DifferenceSelection(ids=["5"]))
    with topic.in_place(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "Registry", lambda _settings: None)
        traced = [trace.trace_record(topic.settings, topic.tables.session, sensor)[0].outcome for sensor in "57"]
    assert traced == ["accepted", "missing"]


def test_nothing_is_accepted_of_a_topic_that_no_job_has_read(topic):
    """All of its records are pending."""
    topic.tables.generations = {}
    with pytest.raises(UsageError, match="no current difference matches"):
        accept(topic, DifferenceSelection(kinds=["missing"]))
    assert acceptance_count(topic) == 0
