"""Each outcome that a record can have, by what a stream in memory made of it."""

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


def outcomes(found: Reconciled) -> dict[str, int]:
    """What there is of each outcome; together they are what was produced."""
    counts = {name: found.total(name) for name in OUTCOMES if found.total(name)}
    assert sum(counts.values()) == found.total("produced")
    return counts


def named(found: Reconciled) -> list[tuple[int, str | None, str]]:
    return [(one["offset"], one["id"], one["why"]) for one in found.missing_records]


def test_a_record_with_its_row_is_stored(topic):
    """A row of the record's id from its own offset says so, and the ledger how long that took."""
    topic.send(1)
    topic.send(2)
    topic.carry_out()
    found = topic.audit()
    assert outcomes(found) == {"stored": 2}
    assert found.latencies_ms == [1000, 999]
    assert (found.first_produced_ms, found.last_stored_ms) == (STORED_MS - 1000, STORED_MS)
    assert found.ids == {1: True, 2: True}


def test_a_superseded_record_is_stored(topic):
    """A later record of the same id took its place, in the same batch or in another."""
    for sensor in (1, 1, 1):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 2))
    topic.carry_out(OffsetRange(0, 2, 3))
    found = topic.audit()
    assert outcomes(found) == {"stored": 3}
    assert found.ids == {1: True}


@pytest.mark.parametrize("again", [False, True])
def test_a_record_that_was_deleted_is_stored_and_its_tombstone_deleted(topic, again):
    """A tombstone before a record takes nothing of it; one behind it takes the row; then a new row may come."""
    topic.send(1, tombstone=True)
    topic.send(1)
    topic.send(1, tombstone=True)
    if again:
        topic.send(1)
    topic.carry_out()
    found = topic.audit()
    assert outcomes(found) == {"stored": 1 + again, "deleted": 2}
    assert found.ids == {1: again}


def test_a_deletion_that_met_no_row_is_counted_apart(topic):
    """A tombstone before any record of its id, or behind another tombstone, deletes nothing, and is deleted all the
    same; of one that waits, or was rejected, nothing is known."""
    topic.send(1, tombstone=True)
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.send(1, tombstone=True)
    topic.send(2, tombstone=True)
    topic.send(3, tombstone=True, named=b"no id")
    topic.carry_out()
    topic.send(4, tombstone=True)
    found = topic.audit()
    assert outcomes(found) == {"stored": 1, "deleted": 4, "rejected": 1, "waiting": 1}
    assert found.total("deleted_nothing") == 3


def test_a_tombstone_whose_row_is_there_has_not_deleted_nothing(topic):
    """It is missing, whatever came before it."""
    topic.send(1, tombstone=True)
    topic.carry_out()
    topic.tables.put(1, 0, -1, EPOCH_US - 1)
    found = topic.audit()
    assert (found.total("missing"), found.total("deleted_nothing")) == (1, 0)


def test_a_record_that_was_deleted_after_the_stretch_is_stored(topic):
    """The tombstone that took the row away lies behind what is audited."""
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.carry_out()
    assert outcomes(topic.audit(OffsetRange(0, 0, 1))) == {"stored": 1}


def test_a_row_that_a_tombstone_did_not_delete_is_missing(topic):
    """The row is older than its tombstone: that was not carried out."""
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.carry_out()
    topic.tables.put(1, 0, 0, EPOCH_US)
    found = topic.audit()
    assert outcomes(found) == {"stored": 1, "missing": 1}
    assert named(found) == [(1, "1", "the row that it deletes is there")]


def test_a_rejected_record_has_one_letter_however_many_copies(topic):
    """A batch that is done again sets its rejects aside again: the same ones."""
    topic.send(1, b"junk")
    topic.send(2, b"")
    topic.written(*topic.spans())
    topic.carry_out()
    found = topic.audit()
    assert len(topic.queue.sent) == 4
    assert outcomes(found) == {"rejected": 2}
    assert len(found.rejected) == len(set(found.rejected)) == 2
    assert found.miscounted == []


def test_a_refused_record_is_rejected_and_not_produced(topic):
    """It never got to the topic, and its letter is counted by itself."""
    topic.send(1)
    topic.refuse("r1")
    topic.carry_out()
    found = topic.audit()
    assert outcomes(found) == {"stored": 1}
    assert (found.refused, len(found.rejected)) == (1, 1)


def test_a_letter_of_an_earlier_topic_hides_no_loss(topic):
    """A topic made anew has the same offsets again."""
    topic.send(1, b"junk")
    topic.carry_out()
    topic.tables.generations = {"id-1": EPOCH_US + 60_000_000}
    found = topic.audit()
    assert (outcomes(found), found.rejected) == ({"waiting": 1}, [])


def test_a_record_that_a_replay_stored_after_all_stays_rejected_and_its_row_is_known(topic):
    """A contract that was eased, and a replay: its letter is still in the queue, and its row came from there."""
    topic.send(1, b"junk")
    topic.carry_out()
    topic.kafka[0].clear()
    topic.send(1)
    topic.carry_out(job=f"{REPLAY}1")
    found = topic.audit()
    assert (outcomes(found), found.ids, found.miscounted) == ({"rejected": 1}, {1: True}, [])


def test_what_the_transform_dropped_is_filtered(topic):
    """As many as the line says, and no more."""
    topic.filters = True
    for celsius in (-1, 1, -1, 1):
        topic.send(len(topic.kafka[0]), value(len(topic.kafka[0]), celsius))
    topic.carry_out()
    assert outcomes(topic.audit()) == {"stored": 2, "filtered": 2}
    del topic.tables.rows[3]
    found = topic.audit()
    assert outcomes(found) == {"stored": 1, "filtered": 2, "missing": 1}
    assert named(found) == [(3, "3", "the ledger counts it, and it is nowhere")]


def test_no_reject_and_no_tombstone_is_taken_for_filtered(topic):
    """The transform is not shown these: the one that is lost is named, and not its filtered neighbour."""
    topic.filters = True
    topic.send(1, value(1, -1))
    topic.send(2, b"junk")
    topic.send(3)
    topic.send(3, tombstone=True)
    topic.send(4, value(4, -1))
    topic.carry_out()
    topic.queue.sent.clear()
    topic.tables.put(3, 0, 2, EPOCH_US + 2)
    found = topic.audit()
    assert outcomes(found) == {"stored": 1, "filtered": 2, "missing": 2}
    assert [one[0] for one in named(found)] == [1, 3]


def test_what_the_ledger_has_not_come_to_is_waiting(topic):
    """Rows may be there before their line is: whether they are, is not asked, but their ids are known."""
    for sensor in range(4):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 2))
    topic.written(OffsetRange(0, 2, 3))
    found = topic.audit()
    assert outcomes(found) == {"stored": 2, "waiting": 2}
    assert (found.ids, found.waiting_ids) == ({0: True, 1: True}, {2, 3})


def test_what_the_ledger_went_past_is_missing(topic):
    """A gap, and a job that began behind the topic's first record, are losses; they do not wait for ever."""
    for sensor in range(6):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 1, 3))
    topic.carry_out(OffsetRange(0, 4, 6))
    found = topic.audit()
    assert outcomes(found) == {"stored": 4, "missing": 2}
    assert named(found) == [(0, "0", "the ledger went past it"), (3, "3", "the ledger went past it")]
    assert found.miscounted == []


def test_a_record_that_is_nowhere_is_missing(topic):
    """What the ledger covers and nobody has is named with its place, and its id if that can be read."""
    for what in (value(0), b"junk", value(2)):
        topic.send(len(topic.kafka[0]), what)
    topic.carry_out()
    del topic.tables.rows[0]
    topic.queue.sent.clear()
    found = topic.audit()
    why = "the ledger counts it, and it is nowhere"
    assert (outcomes(found), named(found)) == ({"stored": 1, "missing": 2}, [(0, "0", why), (1, None, why)])


def test_a_row_that_is_older_than_the_record_is_none_of_it(topic):
    """The row was written by an earlier record: the later one is missing."""
    topic.send(1)
    topic.send(1)
    topic.carry_out()
    topic.tables.put(1, 0, 0, EPOCH_US)
    found = topic.audit()
    assert [one[:2] for one in named(found)] == [(1, "1")]
    assert outcomes(found) == {"stored": 1, "missing": 1}


def test_a_row_that_fell_back_is_not_excused_by_a_tombstone_to_come(topic):
    """It is there, so no tombstone took it away."""
    topic.send(1)
    topic.send(1)
    topic.send(1, tombstone=True)
    topic.carry_out(OffsetRange(0, 0, 2))
    topic.tables.put(1, 0, 0, EPOCH_US)
    found = topic.audit()
    assert (outcomes(found), [one[0] for one in named(found)]) == ({"stored": 1, "waiting": 1, "missing": 1}, [1])


def test_records_in_a_gap_are_named_though_they_are_where_they_should_be(topic):
    """Stored, rejected, deleted, or stored and deleted since: no line says so, and the ledger went past them."""
    topic.send(1)
    topic.send(2, b"junk")
    topic.send(3)
    topic.send(3, tombstone=True)
    topic.send(4)
    topic.written(OffsetRange(0, 0, 4))
    topic.carry_out(OffsetRange(0, 4, 5))
    found = topic.audit()
    assert outcomes(found) == {"stored": 3, "rejected": 1, "deleted": 1}
    assert found.total("gaps") == 4
    assert {(one["offset"], one["why"].partition(",")[0]) for one in found.gaps} == {
        (0, "it is stored"),
        (1, "it is rejected"),
        (2, "it is deleted since"),
        (3, "it is deleted"),
    }


def test_a_gap_that_a_replay_filled_is_none(topic):
    """Its lines say what became of the records."""
    for sensor in range(4):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 2, 4))
    topic.carry_out(OffsetRange(0, 0, 3), job=f"{REPLAY}1")
    found = topic.audit()
    assert (outcomes(found), found.total("gaps"), found.gaps) == ({"stored": 4}, 0, [])


@pytest.mark.parametrize("change", [{"records": 4}, {"rejected": 1}, {"last_offset": 1}, {"last_offset": 9}], ids=str)
def test_a_line_that_counts_something_else_is_named(topic, change):
    """What a line counts is held against what lies in Kafka and in the dead-letter topic."""
    for sensor in range(3):
        topic.send(sensor)
    topic.carry_out()
    (line,) = topic.tables.kept["ledger"].values()
    line |= change
    for sensor in range(3, 10):
        topic.send(sensor)
    (found,) = topic.audit().miscounted
    assert (found["partition"], found["offset"]) == (0, 0)
    assert found["why"].startswith(f"the ledger counts {line['records']} records to {line['last_offset']}, ")


def test_a_line_that_is_not_audited_as_a_whole_is_not_held_against_kafka(topic):
    """A stretch may begin and end within a line; retention too takes the beginning of one."""
    for sensor in range(5):
        topic.send(sensor)
    topic.carry_out()
    for span in (OffsetRange(0, 1, 5), OffsetRange(0, 0, 4), OffsetRange(0, 2, 3)):
        found = topic.audit(span)
        assert (found.miscounted, outcomes(found)) == ([], {"stored": span.records})


def test_a_batch_that_is_done_again_doubles_nothing(topic):
    """It writes its line again."""
    topic.send(1)
    topic.send(2)
    for _ in range(2):
        topic.carry_out(number=1)
    found = topic.audit()
    assert (found.total("doubled"), found.total("reread"), outcomes(found)) == (0, 0, {"stored": 2})


def test_lines_of_one_job_that_overlap_are_doubled(topic):
    """One checkpoint never does that; and what lies on both is not counted wrong besides."""
    for sensor in range(5):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 4))
    topic.carry_out(OffsetRange(0, 2, 5))
    found = topic.audit()
    assert (found.total("doubled"), found.total("reread"), found.miscounted) == (2, 0, [])


def test_what_another_job_read_again_is_reread(topic):
    """A checkpoint was lost: the topic is read again, and the rows stay the same."""
    for sensor in range(5):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 4))
    topic.carry_out(OffsetRange(0, 0, 5), job="job-b")
    found = topic.audit()
    assert (found.total("doubled"), found.total("reread"), found.miscounted) == (0, 4, [])
    assert outcomes(found) == {"stored": 5}


def test_lines_of_a_replay_are_not_the_streams(topic):
    """They double nothing and let nothing pass as read; but what they cover, and is nowhere, is missing."""
    for sensor in range(6):
        topic.send(sensor)
    topic.carry_out(OffsetRange(0, 0, 3))
    topic.carry_out(OffsetRange(0, 0, 5), job=f"{REPLAY}1")
    found = topic.audit()
    assert (found.total("doubled"), found.total("reread"), found.miscounted) == (0, 0, [])
    assert outcomes(found) == {"stored": 5, "waiting": 1}
    del topic.tables.rows[4]
    assert [one[0] for one in named(topic.audit())] == [4]


def test_counts_are_kept_by_partition(tmp_path):
    """Each partition has a balance of its own; ids and names are those of all."""
    topic = Carried(tmp_path, partitions=3)
    for sensor in range(7):
        topic.send(sensor, partition=sensor % 2)
    topic.carry_out()
    del topic.tables.rows[3]
    found = topic.audit()
    assert [(one.produced, one.stored, one.missing) for one in found.balances.values()] == [
        (4, 4, 0),
        (3, 2, 1),
        (0, 0, 0),
    ]
    assert [(one["partition"], one["offset"]) for one in found.missing_records] == [(1, 1)]


def test_nothing_sent_is_nothing_to_tell(topic):
    """An empty topic has an empty audit."""
    found = topic.audit()
    assert (outcomes(found), found.ids, found.latencies_ms, found.first_produced_ms) == ({}, {}, [], 0)


def grow(topic: Carried) -> None:
    """Give the topic a second partition; what was read of the first belongs to the layout before."""
    topic.kafka[1] = []
    topic.firsts[1] = 0
    topic.tables.layouts.append(TopicLayout(2, 60_000_000, {0: len(topic.kafka[0])}))


def moved(partition: int) -> list[int]:
    """Sensors whose keys Java's partitioner puts into this one of two partitions, and librdkafka's does too."""
    sensors = [sensor for sensor in range(200) if murmur2(b"%d" % sensor) % 2 == partition]
    return [sensor for sensor in sensors if zlib.crc32(b"%d" % sensor) % 2 == partition]


def test_a_record_that_moved_with_the_partitions_is_newer(topic):
    """Its offset is smaller than that of the row before, and its row has taken that one's place."""
    for sensor in range(200):
        topic.send(sensor)
    topic.carry_out()
    grow(topic)
    for sensor in moved(1):
        topic.send(sensor, partition=1, at_ms=STORED_MS)
    for sensor in moved(0):
        topic.send(sensor, partition=0)
    topic.carry_out(OffsetRange(0, 200, len(topic.kafka[0])), OffsetRange(1, 0, len(topic.kafka[1])))
    found = topic.audit()
    assert outcomes(found) == {"stored": found.total("produced")}
    assert (found.unordered, found.unordered_ids) == ([], 0)
    assert {row["kafka_partition"] for sensor, row in topic.tables.rows.items() if sensor in moved(1)} == {1}


def test_a_stale_row_of_a_key_that_moved_is_missing(topic):
    """As a job left it that knew of no layouts: the older record's offset won."""
    (sensor, *_) = moved(1)
    for _ in range(3):
        topic.send(sensor)
    topic.carry_out()
    grow(topic)
    topic.send(sensor, partition=1)
    topic.carry_out(OffsetRange(1, 0, 1))
    topic.tables.put(sensor, 0, 2, EPOCH_US + 2)
    found = topic.audit()
    assert outcomes(found) == {"stored": 3, "missing": 1}
    assert [(one["partition"], one["offset"]) for one in found.missing_records] == [(1, 0)]


def test_a_tombstone_that_moved_deletes_the_row(topic):
    """And a row that it did not delete is named, though that row's offset is larger."""
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
    """Records without a key lie in any partition: nobody can say which version is the newest."""
    topic = Carried(tmp_path, partitions=2)
    for sensor in (7, 8, 9):
        topic.send(sensor, partition=0)
    topic.send(7, partition=1, tombstone=tombstone)
    topic.carry_out()
    found = topic.audit()
    assert found.unordered_ids == 1
    assert [(one["id"], one["why"]) for one in found.unordered] == [
        ("7", "versions in partitions 0 and 1 of one layout of the topic: Kafka gives them no order")
    ]


def test_rejected_versions_need_no_order(tmp_path):
    """They are in no table, whatever partition they came by."""
    topic = Carried(tmp_path, partitions=2)
    topic.send(7, partition=0)
    topic.send(7, value(-1000), partition=1)
    topic.carry_out()
    found = topic.audit()
    assert outcomes(found) == {"stored": 1, "rejected": 1}
    assert found.unordered_ids == 0


def redrive(topic: Carried, sensor: int, *sends: int | None, **more: bool) -> None:
    """Reject a version of a sensor at offset 0; then send others, None for a tombstone; then redrive the first one."""
    topic.send(sensor, b"junk")
    topic.carry_out()
    for sent in sends:
        topic.send(sensor, tombstone=sent is None)
    topic.send(sensor, order_us=0, **more)
    topic.carry_out(OffsetRange(0, 1, len(topic.kafka[0])))


def test_a_redriven_record_does_not_take_the_row_of_a_newer_one(topic):
    """All versions are stored, the row is the newer one's, and Kafka orders them."""
    redrive(topic, 1, 1)
    found = topic.audit()
    assert outcomes(found) == {"rejected": 1, "stored": 2}
    assert topic.tables.rows[1]["kafka_offset"] == 1
    assert found.unordered == []


def test_a_redriven_record_has_the_row_when_nothing_newer_came(topic):
    """Its row is known as its own, though its write time is earlier than its position."""
    redrive(topic, 1)
    topic.send(2)
    topic.carry_out(OffsetRange(0, 2, 3))
    found = topic.verify()
    assert (found.differences, found.stored, found.rejected, found.rows) == ([], 2, 1, 2)
    assert topic.tables.rows[1]["written_us"] == EPOCH_US


@pytest.mark.parametrize(("sends", "rows"), [((None,), 0), ((None, 1), 1)])
def test_a_redriven_record_does_not_come_back_after_a_deletion(topic, sends, rows):
    """The tombstone is newer; whether the id is to have a row is said by the newest version."""
    redrive(topic, 1, *sends)
    found = topic.verify()
    assert (found.differences, found.rows, found.distinct_ids) == ([], rows, rows)
    assert (found.stored, found.deleted) == (len(sends), 1)


def test_a_redriven_deletion_deletes_nothing_newer(topic):
    """It is deleted, and the row of the newer version stays."""
    redrive(topic, 1, 1, tombstone=True)
    found = topic.verify()
    assert (found.differences, found.stored, found.deleted, found.rows) == ([], 1, 1, 1)


def test_a_redriven_record_that_was_written_as_new_is_named(topic):
    """As a job of an older version does it: it took the row of a newer version."""
    redrive(topic, 1, 1)
    topic.tables.put(1, 0, 2, EPOCH_US + 2)
    found = topic.verify()
    assert [(one.kind, one.offset, one.id) for one in found.differences] == [("missing", 2, "1")]
    assert "does not have the write time of its place" in found.differences[0].why


def test_a_newer_version_that_lost_its_row_to_a_redriven_one_is_named(topic):
    """The row of the older version is there, and known as such."""
    redrive(topic, 1, 1)
    topic.tables.put(1, 0, 2, EPOCH_US)
    assert named(topic.audit()) == [(1, "1", "the ledger counts it, and it is nowhere")]


def test_two_records_with_one_place_are_named(topic):
    """Somebody wrote the header: which of the two is newer, nobody can say."""
    topic.send(1)
    topic.send(1, order_us=0)
    topic.carry_out()
    found = topic.audit()
    assert [one["why"] for one in found.unordered] == [
        "two versions have one place in the order: Cassandra mixes their columns"
    ]
