"""Each kind of difference, and what is not a difference."""

import inspect
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.contract.failing import FailingBatch
from penstock.dead_letters import resolutions
from penstock.errors import NotFound, PenstockError
from penstock.process.checkpoint import folder_of
from penstock.produce import delivery_log
from penstock.produce.delivery_log import DeliveryLog
from penstock.reconcile import verify
from penstock.reconcile.nulls import Nulls, compute_null_shares
from penstock.reconcile.verify import TopicReceipt
from penstock.sink.failing_batches import FailingBatches
from penstock.sink.ledger import REPLAY
from tests.unit.carried import EPOCH_US, STORED_MS, TOPIC_ID, Carried, message, value

NOW_US = EPOCH_US + 9_000_000_000


@pytest.fixture
def topic(tmp_path):
    """Five readings, sent by one run, recorded in its delivery log, and stored."""
    topic = Carried(tmp_path)
    for sensor in range(5):
        topic.send(sensor, run="r1")
    topic.acknowledge("r1")
    topic.carry_out()
    return topic


def list_differences(receipt: TopicReceipt) -> list[tuple[str, int | None, int | None, str | None]]:
    """The differences, without their messages."""
    assert receipt.balanced == (receipt.differences == []) == (receipt.differences_found == 0)
    return [
        (difference.kind, difference.partition, difference.offset, difference.id) for difference in receipt.differences
    ]


def test_consistent_stores_are_balanced(topic):
    """Every source says the same."""
    topic.runs = {"r1": {"topic": "readings", "topic_id": TOPIC_ID, "produced": 5, "offsets": {"0": [0, 4]}}}
    receipt = topic.verify()
    assert list_differences(receipt) == []
    assert (receipt.produced, receipt.stored, receipt.rows, receipt.distinct_ids, receipt.older_rows) == (5, 5, 5, 5, 0)
    assert (receipt.acknowledged.attempts, receipt.acknowledged.records, receipt.acknowledged.runs) == (1, 5, 1)
    assert (receipt.topic, receipt.since) == ("readings", None)


def test_a_missing_row_is_named(topic):
    """By its record."""
    del topic.tables.rows[3]
    receipt = topic.verify()
    assert list_differences(receipt) == [("missing", 0, 3, "3")]
    assert (receipt.rows, receipt.distinct_ids) == (4, 5)


def test_many_missing_rows_are_counted_and_a_hundred_named(tmp_path):
    """The count of differences is complete."""
    topic = Carried(tmp_path)
    for sensor in range(130):
        topic.send(sensor)
    topic.carry_out()
    topic.tables.rows.clear()
    receipt = topic.verify()
    assert (len(receipt.differences), receipt.differences_found, receipt.balanced) == (100, 130, False)


def test_doubled_entries_are_named(topic):
    """Two batches of one job that overlap; by a later job it is no difference."""
    topic.carry_out(OffsetRange(0, 1, 3))
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.doubled) == ([("doubled", 0, None, None)], 2)


def test_a_lost_checkpoint_and_a_replay_are_no_differences(topic):
    """Read again by another job, and by a replay."""
    topic.carry_out(job="job-b")
    topic.carry_out(OffsetRange(0, 1, 3), job=f"{REPLAY}1")
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.doubled, receipt.reread) == ([], 0, 5)


def test_acknowledged_records_that_kafka_does_not_have_are_lost(topic):
    """A broker that forgot the newest records: only the producer knows of them."""
    topic.acknowledge("r2", [(0, 4), (0, 5), (3, 0)])
    assert list_differences(topic.verify()) == [("lost", 0, 5, "7"), ("lost", 3, 0, "7")]


def test_acknowledged_records_under_another_key_are_lost(topic):
    """The acknowledged offset has another record."""
    topic.kafka[0][2] = message(2, value(2), topic="readings", key=b"9", headers=[("penstock.run", b"r1")])
    assert list_differences(topic.verify()) == [("lost", 0, 2, "2")]


def test_records_deleted_by_retention_are_not_lost(topic):
    """The topic starts later than the delivery log, the ledger and the table; older rows are counted separately."""
    topic.firsts[0] = 2
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.produced, receipt.acknowledged.records, receipt.older_rows) == (
        [],
        3,
        3,
        2,
    )


def test_the_delivery_log_of_an_earlier_incarnation_is_ignored(topic):
    """Its offsets are those of other records."""
    topic.acknowledge("r0", [(0, offset) for offset in range(50)], topic_id="id-0")
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.acknowledged.attempts) == ([], 1)


def test_a_truncated_delivery_log_is_used_up_to_its_end(topic):
    """A killed attempt lacks lines of records that Kafka has, never the reverse."""
    (file,) = delivery_log.folder_of(topic.settings).iterdir()
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:3]) + whole[3][:4])
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.acknowledged.attempts, receipt.acknowledged.records) == ([], 1, 2)


REPORTED = {
    "as Kafka has": {},
    "more": {"produced": 6},
    "fewer": {"produced": 4},
    "another incarnation": {"topic_id": "id-0", "produced": 9},
    "another topic": {"topic": "others", "produced": 9},
    "an offset that Kafka does not have": {"offsets": {"0": [0, 40]}, "produced": 9},
    "a partition that Kafka does not have": {"offsets": {"0": [0, 4], "1": [0, 0]}, "produced": 9},
    "nothing": {"offsets": {}, "produced": 0},
}
"""What runs that sent five records report, as far as it is not what Kafka has."""


def test_a_run_that_reports_more_than_kafka_has_is_named(tmp_path):
    """Kafka may have more, since an attempt that was killed sent some too; runs of other topics do not count."""
    topic = Carried(tmp_path)
    topic.runs = {}
    for run, changes in REPORTED.items():
        offsets = [topic.send(sensor, run=run) for sensor in range(5)]
        reported = {"topic": "readings", "topic_id": TOPIC_ID, "produced": 5}
        topic.runs[run] = reported | {"offsets": {"0": [offsets[0], offsets[-1]]}} | changes
    topic.carry_out()
    receipt = topic.verify()
    assert list_differences(receipt) == [("run", None, None, None)]
    assert receipt.differences[0].why == "run more says it produced 6, Kafka has 5"
    assert receipt.acknowledged.runs == 4


def test_airflow_may_be_unavailable(topic):
    """Its runs are then not compared, and the receipt says so."""
    topic.runs = None
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.acknowledged.runs) == ([], None)
    assert receipt.acknowledged.why


def test_records_rejected_at_the_source_are_counted_by_time(topic):
    """A receipt since a time has those since; one of given offsets has none, as they never reached the topic."""
    topic.refuse("r1")
    assert topic.verify().refused == 1
    assert topic.verify(since=datetime(2020, 1, 1, tzinfo=UTC)).refused == 1
    late = topic.verify(since=datetime.now(UTC) + timedelta(hours=1))
    assert (late.refused, late.queue["waiting"]) == (0, 0)
    assert topic.verify(ranges=[OffsetRange(0, 0, 5)]).refused == 0


def test_no_ranges_are_not_all_ranges(topic):
    """A range without a partition balances as such."""
    assert topic.verify(ranges=[]).produced == 0


def test_nulls_stay_counted_after_retention_deletes_their_records(topic, monkeypatch):
    """Otherwise the counts would fall, and a field that becomes null go unnoticed; what is read again counts once."""
    monkeypatch.setattr(verify, "fields", lambda _record: [type("F", (), {"column": "celsius", "nullable": True})])
    assert topic.verify().counts == {"": 5, "celsius": 0}
    topic.firsts[0] = 5
    topic.carry_out(OffsetRange(0, 0, 5), job="job-b")
    topic.send(5)
    topic.carry_out(OffsetRange(0, 5, 6), job="job-b")
    *_, line = topic.tables.kept["ledger"].values()
    line["nulls"] = {"celsius": 1}
    receipt = topic.verify()
    assert (receipt.counts, receipt.counted) == ({"": 6, "celsius": 1}, {0: 6})
    assert receipt.warnings == ["celsius was never null before; it is null in 1 of the 1 rows stored since"]


def test_a_row_that_no_record_explains_is_foreign(topic):
    """Written by another program, or with a position that is not its own."""
    topic.tables.put(9, None, None, None)
    topic.tables.put(10, None, None, NOW_US)
    topic.tables.put(11, 0, 2, NOW_US)
    topic.tables.put(12, 0, 2, EPOCH_US + 2)
    topic.tables.put(13, 7, 2, EPOCH_US + 2)
    assert list_differences(topic.verify()) == [
        ("foreign", 0, 2, "12"),
        ("foreign", 7, 2, "13"),
        ("foreign", None, None, "10"),
        ("foreign", None, None, "11"),
        ("foreign", None, None, "9"),
    ]


def test_a_row_overwritten_by_hand_is_foreign_and_its_record_missing(topic):
    """The record's own row no longer exists."""
    topic.tables.put(3, 0, 3, NOW_US)
    assert list_differences(topic.verify()) == [("missing", 0, 3, "3"), ("foreign", None, None, "3")]


def test_rows_whose_entries_are_not_written_yet_are_not_foreign(topic):
    """The stream continues during verification: rows exist before their ledger entry."""
    for sensor in (5, 6):
        topic.send(sensor)
    topic.written(OffsetRange(0, 5, 7))
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.waiting, receipt.stored, receipt.distinct_ids) == ([], 2, 5, 5)


def test_rows_of_records_that_arrived_since_are_not_foreign(topic, monkeypatch):
    """They are after the end offsets that were read first."""
    ends = topic.spans()
    topic.send(3)
    topic.send(8)
    topic.carry_out(OffsetRange(0, 5, 7))
    monkeypatch.setattr(Carried, "spans", lambda _self: ends)
    assert list_differences(topic.verify()) == []


def test_pending_records_are_no_difference(topic):
    """Not yet is not never."""
    topic.send(5)
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.waiting) == ([], 1)


def test_a_lost_entry_is_a_gap(topic):
    """Each of its records is named, although its row exists; only the entry knows what the transform dropped."""
    topic.filters = True
    topic.send(5, value(5, -1))
    topic.send(6)
    topic.send(7)
    topic.carry_out(OffsetRange(0, 5, 7))
    topic.carry_out(OffsetRange(0, 7, 8))
    lines = topic.tables.kept["ledger"]
    (gone,) = [name for name, line in lines.items() if line["filtered"]]
    del lines[gone]
    assert list_differences(topic.verify()) == [("missing", 0, 5, "5"), ("gap", 0, 6, "6")]


def test_dead_letter_counts_are_what_became_of_the_rejected_records(topic, monkeypatch):
    """rejected + rejected at the source = the sum of the dead letters; claimed ones are pending, other topics' do not
    count.
    """
    for sensor in range(5, 10):
        topic.send(sensor, b"junk %d" % sensor)
    topic.carry_out(OffsetRange(0, 5, 10))
    topic.refuse("r1")
    states = dict(enumerate(["redriven", "discarded", "claimed", "superseded"]))
    identities = [f"readings/{EPOCH_US}/0/{offset}" for offset in (5, 6, 7, 8)] + ["readings/1/0/5"]

    def line(state):
        return resolutions.Resolution(resolutions.State(state), None, None, 0, "", "", None, {})

    lines = {identity: line(states.get(at, "redriven")) for at, identity in enumerate(identities)}
    monkeypatch.setattr(resolutions, "read_resolutions", lambda *_: lines)
    receipt = topic.verify()
    assert receipt.queue == {"waiting": 3, "redriven": 1, "superseded": 1, "discarded": 1}
    assert (receipt.rejected, receipt.refused, list_differences(receipt)) == (5, 1, [])


def test_since_balances_what_arrived_then(topic):
    """What is older counts neither as produced nor as lost, and its rows are not read."""
    del topic.tables.rows[0]
    since = datetime.fromtimestamp((STORED_MS - 1000 + 2) / 1000, tz=UTC)
    receipt = topic.verify(since=since)
    assert (list_differences(receipt), receipt.produced, receipt.stored, receipt.acknowledged.records) == ([], 3, 3, 3)
    assert receipt.since == since.isoformat()
    topic.acknowledge("r2", [(0, 5)])
    assert list_differences(topic.verify(since=since)) == [("lost", 0, 5, "7")]


def test_ranges_are_balanced_on_their_own(tmp_path):
    """What is before them, after them, and in other partitions does not count, in the delivery log neither."""
    topic = Carried(tmp_path, partitions=2)
    for sensor in range(10):
        topic.send(sensor, partition=sensor % 2, run="r1")
    topic.acknowledge("r1")
    topic.carry_out()
    del topic.tables.rows[0], topic.tables.rows[1]
    receipt = topic.verify(ranges=[OffsetRange(0, 1, 4)])
    assert (list_differences(receipt), receipt.produced, receipt.stored, receipt.acknowledged.records) == ([], 3, 3, 3)
    assert [partition.partition for partition in receipt.partitions] == [0]
    del topic.tables.rows[4]
    assert list_differences(topic.verify(ranges=[OffsetRange(0, 1, 4)])) == [("missing", 0, 2, "4")]


def test_receipts_of_the_whole_topic_are_kept(topic):
    """As JSON, for comparison with the next one; those of a range are not, nor without a ledger."""
    topic.verify(ranges=[OffsetRange(0, 0, 5)])
    topic.verify(since=datetime(2020, 1, 1, tzinfo=UTC))
    assert topic.tables.kept["receipts"] == {}
    receipt = topic.verify()
    ((_, at),) = topic.tables.kept["receipts"]
    (kept,) = topic.tables.kept["receipts"].values()
    assert at.isoformat(timespec="milliseconds") == receipt.at
    assert msgspec.json.decode(kept["receipt"])["counts"] == receipt.counts == {"": 5}


def test_a_topic_that_no_job_has_read_is_pending(tmp_path):
    """Nothing is missing yet, and no receipt is kept."""
    topic = Carried(tmp_path)
    topic.tables.generations = {}
    topic.send(1)
    receipt = topic.verify()
    assert (list_differences(receipt), receipt.waiting, topic.tables.kept["receipts"]) == ([], 1, {})


def test_a_missing_topic_is_not_balanced(tmp_path):
    """The pipeline may be the wrong one: the topic is named, and no receipt is kept."""
    topic = Carried(tmp_path, partitions=0)
    topic.tables.generations = {}
    with pytest.raises(NotFound, match="topic 'readings' does not exist"):
        topic.verify()
    assert topic.tables.kept["receipts"] == {}


def shares(stored: int, nulls: int, last: tuple[int, int] | None = None) -> tuple[Nulls, list[str]]:
    """The share of nulls in one optional field."""
    before = None if last is None else {"": last[0], "maybe": last[1]}
    result, warnings = compute_null_shares(["maybe"], {"": stored, "maybe": nulls}, before)
    return result["maybe"], warnings


@pytest.mark.parametrize(
    ("now", "last", "expected"),
    [
        ((0, 0), None, (0.0, None, None)),
        ((10, 5), None, (0.5, None, None)),
        ((10, 5), (10, 5), (0.5, None, None)),
        ((20, 10), (10, 5), (0.5, 0.5, 0.0)),
        ((20, 5), (10, 5), (0.25, 0.0, -0.5)),
        ((10, 5), (0, 0), (0.5, 0.5, None)),
        ((4, 1), (10, 5), (0.25, None, None)),
    ],
    ids=str,
)
def test_the_share_of_nulls_and_its_change_are_reported(now, last, expected):
    """Of all rows, of those since the last receipt, and the difference; None if unknown."""
    result, warnings = shares(*now, last)
    assert ((result.share, result.since_last, result.moved), warnings) == (expected, [])


def test_a_field_that_becomes_null_raises_a_warning():
    """It was never null in what was stored before, and is now."""
    result, warnings = shares(15, 2, (10, 0))
    assert (result.since_last, result.moved) == (0.4, 0.4)
    assert warnings == ["maybe was never null before; it is null in 2 of the 5 rows stored since"]


def test_a_new_field_raises_no_warning():
    """Old records do not have it: the last receipt did not know it."""
    result, warnings = compute_null_shares(["new"], {"": 20, "new": 15}, {"": 10})
    assert (result["new"].share, warnings) == (0.75, [])


def test_a_recreated_topic_raises_no_warning():
    """Its counts start again: there is nothing to compare with."""
    assert shares(5, 5, (10, 0)) == (Nulls(1.0, None, None), [])


def test_a_recreated_topic_that_the_job_has_not_read_yet_is_named(topic):
    """None of it is missing, all of it is pending, and it is not compared with the earlier incarnation."""
    topic.tables.generations = {"id-0": EPOCH_US}
    receipt = topic.verify()
    (difference,) = receipt.differences
    assert (difference.kind, receipt.balanced, receipt.missing, receipt.waiting) == ("recreated", False, 0, 5)
    assert "its id is id-1, the ledger's topic has the id id-0" in difference.why


def test_without_topic_ids_a_run_counts_for_its_incarnation(topic, monkeypatch):
    """What was acknowledged before the current incarnation started was another topic's, and is not lost."""
    monkeypatch.setattr("tests.unit.carried.TOPIC_ID", topics.NO_ID)
    topic.tables.generations = {topics.NO_ID: EPOCH_US}
    with DeliveryLog(delivery_log.folder_of(topic.settings), "r9", "readings", topics.NO_ID) as attempt:
        attempt.note(0, 77, b"9")
    assert [difference.kind for difference in topic.verify().differences] == ["lost"]
    file = max(delivery_log.folder_of(topic.settings).glob("*.journal"))
    began = datetime.fromtimestamp(EPOCH_US / 1_000_000 - 1, UTC).isoformat()
    file.write_text(re.sub(r'"started_at":"[^"]*"', f'"started_at":"{began}"', file.read_text()))
    assert topic.verify().balanced


def test_nulls_are_compared_with_the_last_receipt(topic, monkeypatch):
    """By the ledger's counts and the stored receipt."""
    monkeypatch.setattr(verify, "fields", lambda _record: [type("F", (), {"column": "celsius", "nullable": True})])
    first = topic.verify()
    assert (first.counts, first.warnings) == ({"": 5, "celsius": 0}, [])
    topic.send(5)
    topic.carry_out(OffsetRange(0, 5, 6))
    *_, line = topic.tables.kept["ledger"].values()
    line["nulls"] = {"celsius": 1}
    second = topic.verify()
    assert second.nulls["celsius"].since_last == 1.0
    assert second.warnings == ["celsius was never null before; it is null in 1 of the 1 rows stored since"]
    assert second.balanced


def rebuildable(topic: Carried) -> int:
    with topic.in_place():
        return verify.count_rows_to_rebuild(topic.settings, topic.tables.session)


def test_a_table_whose_records_all_exist_can_be_rebuilt(topic):
    """Each row's record is still there."""
    assert rebuildable(topic) == 5


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((9, 3, 1, EPOCH_US + 1), "1 from older records, 0 from other writers"),
        ((9, 0, 1, EPOCH_US - 1), "1 from older records, 0 from other writers"),
        ((9, 0, 1, NOW_US), "0 from older records, 1 from other writers"),
        ((9, None, None, None), "0 from older records, 1 from other writers"),
    ],
    ids=str,
)
def test_a_table_with_rows_without_records_is_not_rebuilt(topic, row, words):
    """They would be lost: the topic never had them, or was another one."""
    topic.tables.put(*row)
    with pytest.raises(PenstockError, match=words):
        rebuildable(topic)


def test_a_table_older_than_the_retention_is_not_rebuilt(topic):
    """Retention deleted the records of two rows."""
    topic.firsts[0] = 2
    with pytest.raises(PenstockError, match=r"would lose 2 rows of readings .*2 from older records, 0 from other"):
        rebuildable(topic)


def test_the_stand_in_has_the_signatures_of_topics():
    """What stands in for `topics` accepts what the real module accepts."""
    for called, stand_in in (
        ("fetch_offset_ranges", "_spans"),
        ("read_records", "_records"),
        ("find_offset_ranges_since", "_since"),
    ):
        real = list(inspect.signature(getattr(topics, called)).parameters)
        assert len(real) == len(inspect.signature(getattr(Carried, stand_in)).parameters) - 1


def test_deletions_without_a_row_are_separate_in_the_receipt(topic):
    """They are no difference, and are shown next to those that deleted a row."""
    topic.send(1, tombstone=True)
    topic.send(9, tombstone=True)
    topic.carry_out()
    receipt = topic.verify()
    assert (receipt.balanced, receipt.deleted, receipt.deleted_nothing) == (True, 2, 1)


def test_ids_of_a_pipeline_with_one_version_per_id_are_checked(topic):
    """The same value again, as sent by a retried run, is the same version; another one is named."""
    topic.pipeline = replace(topic.pipeline, one_version_per_id=True)
    topic.send(3)
    topic.carry_out()
    assert topic.verify().balanced
    topic.send(3, value(3, 2.0))
    topic.send(4, value(4, 2.0))
    topic.carry_out()
    assert list_differences(topic.verify()) == [("repeated", 0, 6, "3"), ("repeated", 0, 7, "4")]
    topic.send(4, tombstone=True)
    topic.send(4, value(4, 3.0))
    topic.carry_out(OffsetRange(0, 8, 10))
    assert len(topic.verify().differences) == 2, "nothing is left of a row that was deleted"
    topic.pipeline = replace(topic.pipeline, one_version_per_id=False)
    assert topic.verify().balanced


def test_a_field_that_was_changed_by_hand_is_named(topic):
    """Or deleted: its write timestamp differs from that of the record, so it wins over later records."""
    topic.tables.rows[2]["write times"] += 9_000_000_000
    topic.tables.rows[3]["write times"] = None
    receipt = topic.verify()
    assert list_differences(receipt) == [("foreign", None, None, "2"), ("foreign", None, None, "3")]
    assert {difference.why.partition(":")[0] for difference in receipt.differences} == {
        "a row that was changed by hand"
    }
    topic.tables.put(4, 0, 4, NOW_US)
    (last,) = (
        difference for difference in topic.verify().differences if difference.id == "4" and difference.kind == "foreign"
    )
    assert last.why.startswith("a row that was changed by hand at 2023-11-15T00:43:20+00:00")


@pytest.mark.parametrize(
    ("failed_s", "checkpoint", "named"),
    [
        (0, "", []),
        (61, "", [("stuck", 0, 5)]),
        (61, "/elsewhere", [("stuck", 0, 5)]),
    ],
    ids=["a failure that retrying may help", "a stuck stream", "a stream of another checkpoint"],
)
def test_a_stuck_stream_is_not_balanced(topic, failed_s, checkpoint, named):
    """Pending records are no difference, unless the stream is stuck on them; the difference says where and why."""
    topic.send(5)
    write_failing(topic, 5, 6, failed_s, checkpoint)
    receipt = topic.verify()
    assert [(difference.kind, difference.partition, difference.offset) for difference in receipt.differences] == named
    assert receipt.waiting == 1
    assert receipt.balanced == (not named)
    assert all(
        "0:5 to 0:5" in difference.why and "my.py, line 7: ValueError" in difference.why
        for difference in receipt.differences
    )


def test_a_failing_batch_of_another_checkpoint_that_the_ledger_passed_is_over(topic):
    """The stream continued from another checkpoint: an old failure is not reported as current."""
    write_failing(topic, 2, 5, 3600, "/elsewhere")
    assert topic.verify().balanced
    write_failing(topic, 2, 5, 3600, "")
    assert not topic.verify().balanced


def test_given_offsets_are_verified_whatever_the_stream_does(topic):
    """The receipt of a replay covers only the replay."""
    write_failing(topic, 2, 5, 3600, "")
    assert topic.verify(ranges=topic.spans()).balanced


def write_failing(topic: Carried, first: int, end: int, failed_s: float, checkpoint: str) -> None:
    began = datetime.now(UTC) - timedelta(seconds=failed_s)
    folder = checkpoint or folder_of(topic.settings, "readings")
    batch = FailingBatch(
        folder, 3, {0: first}, {0: end}, 4, began, began, "retrying", "my.py, line 7: ValueError", "the same, and words"
    )
    FailingBatches(topic.tables.session, "lab", "readings").write(batch)
