"""Each possible outcome of a record, from a stream in memory."""

import zlib

import pytest

from penstock.broker.topics import OffsetRange
from penstock.contract.order import TopicLayout, murmur2
from penstock.sink.ledger import REPLAY
from tests.unit.carried import EPOCH_US, STORED_MS, Carried, Reconciled, value

OUTCOMES = ("stored", "deleted", "rejected", "filtered", "waiting", "missing")


@pytest.fixture
def topic(tmp_path):
    return Carried(tmp_path)


def outcomes(result: Reconciled) -> dict[str, int]:
    """The count of each outcome; together they are what was produced."""
    counts = {name: result.total(name) for name in OUTCOMES if result.total(name)}
    assert sum(counts.values()) == result.total("produced")
    return counts


def named(result: Reconciled) -> list[tuple[int, str | None, str]]:
    return [(record["offset"], record["id"], record["why"]) for record in result.missing_records]


def test_a_record_with_its_row_is_stored(topic):
    """A row of the record's id from its own offset proves it, and the ledger has the latency."""
    topic.send(1)
    topic.send(2)
    topic.carry_out()
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 2}
    assert audit.latencies_ms == [1000, 999]
    assert (audit.first_produced_ms, audit.last_stored_ms) == (STORED_MS - 1000, STORED_MS)
    assert audit.ids == {1: True, 2: True}


def test_a_superseded_record_is_stored(topic):
    """A later record of the same id replaced it, in the same batch or in another."""
    for sensor in (1, 1, 1):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 2))
    topic.carry_out(OffsetRange(0, 2, 3))
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 3}
    assert audit.ids == {1: True}


@pytest.mark.parametrize("again", [False, True])
def test_a_deleted_record_is_stored_and_its_tombstone_deleted(topic, again):
    """A tombstone before a record does not affect it; one after it deletes the row; then a new row may be stored."""
    topic.send(1, tombstone=True)
    topic.send(1)
    topic.send(1, tombstone=True)
    if again:
        topic.send(1)
    topic.carry_out()
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 1 + again, "deleted": 2}
    assert audit.ids == {1: again}


def test_a_deletion_without_a_row_is_counted_separately(topic):
    """A tombstone before any record of its id, or after another tombstone, deletes nothing, and still counts as
    deleted; for one that is pending or was rejected, nothing is known.
    """
    topic.send(1, tombstone=True)
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.send(1, tombstone=True)
    topic.send(2, tombstone=True)
    topic.send(3, tombstone=True, named=b"no id")
    topic.carry_out()
    topic.send(4, tombstone=True)
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 1, "deleted": 4, "rejected": 1, "waiting": 1}
    assert audit.total("deleted_nothing") == 3


def test_a_tombstone_whose_row_exists_is_missing(topic):
    """Whatever precedes it, it does not count as a deletion without a row."""
    topic.send(1, tombstone=True)
    topic.carry_out()
    topic.tables.put(1, 0, -1, EPOCH_US - 1)
    audit = topic.audit()
    assert (audit.total("missing"), audit.total("deleted_nothing")) == (1, 0)


def test_a_record_deleted_after_the_range_is_stored(topic):
    """The tombstone that deleted the row is after the reconciled range."""
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.carry_out()
    assert outcomes(topic.audit(OffsetRange(0, 0, 1))) == {"stored": 1}


def test_a_tombstone_that_did_not_delete_its_row_is_missing(topic):
    """The row is older than its tombstone, which was not applied."""
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.carry_out()
    topic.tables.put(1, 0, 0, EPOCH_US)
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 1, "missing": 1}
    assert named(audit) == [(1, "1", "the row that it deletes is there")]


def test_a_rejected_record_counts_once_however_many_copies_it_has(topic):
    """A batch that is retried dead-letters the same records again."""
    topic.send(1, b"junk")
    topic.send(2, b"")
    topic.written(*topic.spans())
    topic.carry_out()
    audit = topic.audit()
    assert len(topic.queue.sent) == 4
    assert outcomes(audit) == {"rejected": 2}
    assert len(audit.rejected) == len(set(audit.rejected)) == 2
    assert audit.miscounted == []


def test_a_record_rejected_at_the_source_is_rejected_and_not_produced(topic):
    """It never reached the topic, and its dead letter is counted separately."""
    topic.send(1)
    topic.refuse("r1")
    topic.carry_out()
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 1}
    assert (audit.refused, len(audit.rejected)) == (1, 1)


def test_a_dead_letter_of_an_earlier_incarnation_hides_no_loss(topic):
    """A recreated topic has the same offsets again."""
    topic.send(1, b"junk")
    topic.carry_out()
    topic.tables.generations = {"id-1": EPOCH_US + 60_000_000}
    audit = topic.audit()
    assert (outcomes(audit), audit.rejected) == ({"waiting": 1}, [])


def test_a_rejected_record_that_a_replay_stored_stays_rejected(topic):
    """The contract was relaxed before the replay: its dead letter still exists, and its row is explained."""
    topic.send(1, b"junk")
    topic.carry_out()
    topic.kafka[0].clear()
    topic.send(1)
    topic.carry_out(job=f"{REPLAY}1")
    audit = topic.audit()
    assert (outcomes(audit), audit.ids, audit.miscounted) == ({"rejected": 1}, {1: True}, [])


def test_records_dropped_by_the_transform_are_filtered(topic):
    """As many as the ledger entry says, and no more."""
    topic.filters = True
    for celsius in (-1, 1, -1, 1):
        topic.send(len(topic.kafka[0]), value(len(topic.kafka[0]), celsius))
    topic.carry_out()
    assert outcomes(topic.audit()) == {"stored": 2, "filtered": 2}
    del topic.tables.rows[3]
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 1, "filtered": 2, "missing": 1}
    assert named(audit) == [(3, "3", "the ledger counts it, and it is nowhere")]


def test_rejected_records_and_tombstones_do_not_count_as_filtered(topic):
    """The transform never sees them: the lost one is named, and not its filtered neighbour."""
    topic.filters = True
    topic.send(1, value(1, -1))
    topic.send(2, b"junk")
    topic.send(3)
    topic.send(3, tombstone=True)
    topic.send(4, value(4, -1))
    topic.carry_out()
    topic.queue.sent.clear()
    topic.tables.put(3, 0, 2, EPOCH_US + 2)
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 1, "filtered": 2, "missing": 2}
    assert [item[0] for item in named(audit)] == [1, 3]


def test_records_beyond_the_ledger_are_pending(topic):
    """Rows may exist before their ledger entry: their existence is not checked, but their ids are known."""
    for sensor in range(4):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 2))
    topic.written(OffsetRange(0, 2, 3))
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 2, "waiting": 2}
    assert (audit.ids, audit.waiting_ids) == ({0: True, 1: True}, {2, 3})


def test_records_skipped_by_the_ledger_are_missing(topic):
    """A gap, and a job that started after the topic's first record, are losses; they do not stay pending."""
    for sensor in range(6):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 1, 3))
    topic.carry_out(OffsetRange(0, 4, 6))
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 4, "missing": 2}
    assert named(audit) == [(0, "0", "the ledger went past it"), (3, "3", "the ledger went past it")]
    assert audit.miscounted == []


def test_a_record_found_nowhere_is_missing(topic):
    """A record that the ledger covers and no store has is named with its position, and its id if that can be read."""
    for what in (value(0), b"junk", value(2)):
        topic.send(len(topic.kafka[0]), what)
    topic.carry_out()
    del topic.tables.rows[0]
    topic.queue.sent.clear()
    audit = topic.audit()
    why = "the ledger counts it, and it is nowhere"
    assert (outcomes(audit), named(audit)) == ({"stored": 1, "missing": 2}, [(0, "0", why), (1, None, why)])


def test_a_row_older_than_the_record_does_not_count(topic):
    """The row was written by an earlier record: the later one is missing."""
    topic.send(1)
    topic.send(1)
    topic.carry_out()
    topic.tables.put(1, 0, 0, EPOCH_US)
    audit = topic.audit()
    assert [item[:2] for item in named(audit)] == [(1, "1")]
    assert outcomes(audit) == {"stored": 1, "missing": 1}


def test_a_row_that_reverted_is_not_excused_by_a_later_tombstone(topic):
    """The row exists, so no tombstone deleted it."""
    topic.send(1)
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.carry_out(OffsetRange(0, 0, 2))
    topic.tables.put(1, 0, 0, EPOCH_US)
    audit = topic.audit()
    assert (outcomes(audit), [item[0] for item in named(audit)]) == ({"stored": 1, "waiting": 1, "missing": 1}, [1])


def test_records_in_a_gap_are_named_even_if_they_are_stored(topic):
    """Stored, rejected, deleted, or stored and deleted since: no entry records it, and the ledger skipped them."""
    topic.send(1)
    topic.send(2, b"junk")
    topic.send(3)
    topic.send(3, tombstone=True)
    topic.send(4)
    topic.written(OffsetRange(0, 0, 4))
    topic.carry_out(OffsetRange(0, 4, 5))
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 3, "rejected": 1, "deleted": 1}
    assert audit.total("gaps") == 4
    assert {(gap["offset"], gap["why"].partition(",")[0]) for gap in audit.gaps} == {
        (0, "it is stored"),
        (1, "it is rejected"),
        (2, "it is deleted since"),
        (3, "it is deleted"),
    }


def test_a_gap_that_a_replay_filled_is_none(topic):
    """Its entries record what became of the records."""
    for sensor in range(4):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 2, 4))
    topic.carry_out(OffsetRange(0, 0, 3), job=f"{REPLAY}1")
    audit = topic.audit()
    assert (outcomes(audit), audit.total("gaps"), audit.gaps) == ({"stored": 4}, 0, [])


@pytest.mark.parametrize("change", [{"records": 4}, {"rejected": 1}, {"last_offset": 1}, {"last_offset": 9}], ids=str)
def test_a_ledger_entry_with_wrong_counts_is_named(topic, change):
    """Its counts are compared with Kafka and the dead-letter topic."""
    for sensor in range(3):
        topic.send(sensor)
    topic.carry_out()
    (line,) = topic.tables.kept["ledger"].values()
    line |= change
    for sensor in range(3, 10):
        topic.send(sensor)
    (result,) = topic.audit().miscounted
    assert (result["partition"], result["offset"]) == (0, 0)
    assert result["why"].startswith(f"the ledger counts {line['records']} records to {line['last_offset']}, ")


def test_a_partly_reconciled_ledger_entry_is_not_compared_with_kafka(topic):
    """A range may start and end within an entry; retention also removes the start of one."""
    for sensor in range(5):
        topic.send(sensor)
    topic.carry_out()
    for span in (OffsetRange(0, 1, 5), OffsetRange(0, 0, 4), OffsetRange(0, 2, 3)):
        audit = topic.audit(span)
        assert (audit.miscounted, outcomes(audit)) == ([], {"stored": span.records})


def test_a_retried_batch_duplicates_nothing(topic):
    """It writes its ledger entry again."""
    topic.send(1)
    topic.send(2)
    for _ in range(2):
        topic.carry_out(number=1)
    audit = topic.audit()
    assert (audit.total("doubled"), audit.total("reread"), outcomes(audit)) == (0, 0, {"stored": 2})


def test_overlapping_entries_of_one_job_are_doubled(topic):
    """One checkpoint never causes that; and records in both entries are not reported as miscounted too."""
    for sensor in range(5):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 4))
    topic.carry_out(OffsetRange(0, 2, 5))
    audit = topic.audit()
    assert (audit.total("doubled"), audit.total("reread"), audit.miscounted) == (2, 0, [])


def test_records_read_again_by_another_job_are_reread(topic):
    """A checkpoint was lost: the topic is read again, and the rows stay the same."""
    for sensor in range(5):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 4))
    topic.carry_out(OffsetRange(0, 0, 5), job="job-b")
    audit = topic.audit()
    assert (audit.total("doubled"), audit.total("reread"), audit.miscounted) == (0, 4, [])
    assert outcomes(audit) == {"stored": 5}


def test_entries_of_a_replay_are_separate_from_the_streams(topic):
    """They duplicate nothing and do not count as read by the stream; but a covered record that is found nowhere is
    missing.
    """
    for sensor in range(6):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 3))
    topic.carry_out(OffsetRange(0, 0, 5), job=f"{REPLAY}1")
    audit = topic.audit()
    assert (audit.total("doubled"), audit.total("reread"), audit.miscounted) == (0, 0, [])
    assert outcomes(audit) == {"stored": 5, "waiting": 1}
    del topic.tables.rows[4]
    assert [item[0] for item in named(topic.audit())] == [4]


def test_counts_are_kept_by_partition(tmp_path):
    """Each partition has its own balance; ids and names are merged."""
    topic = Carried(tmp_path, partitions=3)
    for sensor in range(7):
        topic.send(sensor, partition=sensor % 2)
    topic.carry_out()
    del topic.tables.rows[3]
    audit = topic.audit()
    assert [(balance.produced, balance.stored, balance.missing) for balance in audit.balances.values()] == [
        (4, 4, 0),
        (3, 2, 1),
        (0, 0, 0),
    ]
    assert [(record["partition"], record["offset"]) for record in audit.missing_records] == [(1, 1)]


def test_an_empty_topic_has_an_empty_reconciliation(topic):
    """An empty topic has an empty audit."""
    audit = topic.audit()
    assert (outcomes(audit), audit.ids, audit.latencies_ms, audit.first_produced_ms) == ({}, {}, [], 0)


def grow(topic: Carried) -> None:
    """Give the topic a second partition; records read from the first belong to the earlier layout."""
    topic.kafka[1] = []
    topic.firsts[1] = 0
    topic.tables.layouts.append(TopicLayout(2, 60_000_000, {0: len(topic.kafka[0])}))


def moved(partition: int) -> list[int]:
    """Sensors whose keys both Java's partitioner and librdkafka's assign to this one of two partitions."""
    sensors = [sensor for sensor in range(200) if murmur2(b"%d" % sensor) % 2 == partition]
    return [sensor for sensor in sensors if zlib.crc32(b"%d" % sensor) % 2 == partition]


def test_a_record_in_a_new_partition_is_newer(topic):
    """Its offset is smaller than that of the earlier row, and its row has replaced that one."""
    for sensor in range(200):
        topic.send(sensor)
    topic.carry_out()
    grow(topic)
    for sensor in moved(1):
        topic.send(sensor, partition=1, at_ms=STORED_MS)
    for sensor in moved(0):
        topic.send(sensor, partition=0)
    topic.carry_out(OffsetRange(0, 200, len(topic.kafka[0])), OffsetRange(1, 0, len(topic.kafka[1])))
    audit = topic.audit()
    assert outcomes(audit) == {"stored": audit.total("produced")}
    assert (audit.unordered, audit.unordered_ids) == ([], 0)
    assert {row["kafka_partition"] for sensor, row in topic.tables.rows.items() if sensor in moved(1)} == {1}


def test_a_stale_row_of_a_moved_key_is_missing(topic):
    """As left by a job without layouts: the older record's offset won."""
    (sensor, *_) = moved(1)
    for _ in range(3):
        topic.send(sensor)
    topic.carry_out()
    grow(topic)
    topic.send(sensor, partition=1)
    topic.carry_out(OffsetRange(1, 0, 1))
    topic.tables.put(sensor, 0, 2, EPOCH_US + 2)
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 3, "missing": 1}
    assert [(record["partition"], record["offset"]) for record in audit.missing_records] == [(1, 0)]


def test_a_tombstone_in_a_new_partition_deletes_the_row(topic):
    """And a row that it did not delete is named, even if the row's offset is larger."""
    (sensor, *_) = moved(1)
    for _ in range(3):
        topic.send(sensor)
    topic.carry_out()
    grow(topic)
    topic.send(sensor, partition=1, tombstone=True)
    topic.carry_out(OffsetRange(1, 0, 1))
    assert outcomes(topic.audit()) == {"stored": 3, "deleted": 1}
    topic.tables.put(sensor, 0, 2, EPOCH_US + 2)
    assert outcomes(topic.audit()) == {"stored": 3, "missing": 1}


@pytest.mark.parametrize("tombstone", [False, True])
def test_versions_without_an_order_are_named(tmp_path, tombstone):
    """Records without a key may be in any partition: which version is the newest is unknown."""
    topic = Carried(tmp_path, partitions=2)
    for sensor in (7, 8, 9):
        topic.send(sensor, partition=0)
    topic.send(7, partition=1, tombstone=tombstone)
    topic.carry_out()
    audit = topic.audit()
    assert audit.unordered_ids == 1
    assert [(record["id"], record["why"]) for record in audit.unordered] == [
        ("7", "versions in partitions 0 and 1 of one layout of the topic: Kafka gives them no order")
    ]


def test_rejected_versions_need_no_order(tmp_path):
    """They are in no table, whatever their partition."""
    topic = Carried(tmp_path, partitions=2)
    topic.send(7, partition=0)
    topic.send(7, value(-1000), partition=1)
    topic.carry_out()
    audit = topic.audit()
    assert outcomes(audit) == {"stored": 1, "rejected": 1}
    assert audit.unordered_ids == 0


def redrive(topic: Carried, sensor: int, *sends: int | None, **more: bool) -> None:
    """Reject a version of a sensor at offset 0; then send others, None for a tombstone; then redrive the first one."""
    topic.send(sensor, b"junk")
    topic.carry_out()
    for sent in sends:
        topic.send(sensor, tombstone=sent is None)
    topic.send(sensor, order_us=0, **more)
    topic.carry_out(OffsetRange(0, 1, len(topic.kafka[0])))


def test_a_redriven_record_does_not_replace_the_row_of_a_newer_one(topic):
    """All versions are stored, the row is the newer one's, and Kafka orders them."""
    redrive(topic, 1, 1)
    audit = topic.audit()
    assert outcomes(audit) == {"rejected": 1, "stored": 2}
    assert topic.tables.rows[1]["kafka_offset"] == 1
    assert audit.unordered == []


def test_a_redriven_record_has_the_row_if_nothing_newer_arrived(topic):
    """Its row is recognized as its own, although its write timestamp is earlier than its position."""
    redrive(topic, 1)
    topic.send(2)
    topic.carry_out(OffsetRange(0, 2, 3))
    receipt = topic.verify()
    assert (receipt.differences, receipt.stored, receipt.rejected, receipt.rows) == ([], 2, 1, 2)
    assert topic.tables.rows[1]["written_us"] == EPOCH_US


@pytest.mark.parametrize(("sends", "rows"), [((None,), 0), ((None, 1), 1)])
def test_a_redriven_record_does_not_return_after_a_deletion(topic, sends, rows):
    """The tombstone is newer; the newest version decides whether the id has a row."""
    redrive(topic, 1, *sends)
    receipt = topic.verify()
    assert (receipt.differences, receipt.rows, receipt.distinct_ids) == ([], rows, rows)
    assert (receipt.stored, receipt.deleted) == (len(sends), 1)


def test_a_redriven_deletion_deletes_nothing_newer(topic):
    """It counts as deleted, and the row of the newer version stays."""
    redrive(topic, 1, 1, tombstone=True)
    receipt = topic.verify()
    assert (receipt.differences, receipt.stored, receipt.deleted, receipt.rows) == ([], 1, 1, 1)


def test_a_redriven_record_written_as_new_is_named(topic):
    """As by a job of an older version: it replaced the row of a newer version."""
    redrive(topic, 1, 1)
    topic.tables.put(1, 0, 2, EPOCH_US + 2)
    receipt = topic.verify()
    assert [(difference.kind, difference.offset, difference.id) for difference in receipt.differences] == [
        ("missing", 2, "1")
    ]
    assert "does not have the write time of its place" in receipt.differences[0].why


def test_a_newer_version_that_lost_its_row_to_a_redriven_one_is_named(topic):
    """The row of the older version exists, and is recognized as such."""
    redrive(topic, 1, 1)
    topic.tables.put(1, 0, 2, EPOCH_US)
    assert named(topic.audit()) == [(1, "1", "the ledger counts it, and it is nowhere")]


def test_two_records_with_one_position_are_named(topic):
    """The header was forged: which of the two is newer is unknown."""
    topic.send(1)
    topic.send(1, order_us=0)
    topic.carry_out()
    audit = topic.audit()
    assert [record["why"] for record in audit.unordered] == [
        "two versions have one place in the order: Cassandra mixes their columns"
    ]
