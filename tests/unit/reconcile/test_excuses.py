"""An absence is excused by evidence, counted separately; a loss next to each excuse is found."""

import pytest

from penstock.broker.topics import OffsetRange
from penstock.contract.order import murmur2
from penstock.errors import KafkaUnreachable, PenstockError
from penstock.reconcile import excuse_evidence
from penstock.reconcile.excuses import Lifetime, Pruning, is_expired, with_present
from penstock.sink.ledger import REPLAY
from tests.unit.carried import EPOCH_US, STORED_MS, Carried, Reconciled, value

HOUR_S = 3600
HOUR_MS = HOUR_S * 1000


@pytest.fixture
def topic(tmp_path):
    return Carried(tmp_path)


def outcomes(result: Reconciled) -> dict[str, int]:
    """The count of each outcome; together they are what was produced."""
    names = ("stored", "deleted", "rejected", "filtered", "expired", "pruned", "waiting", "missing")
    counts = {name: result.total(name) for name in names if result.total(name)}
    assert sum(counts.values()) == result.total("produced")
    return counts


def named(result: Reconciled) -> list[tuple[int, str | None]]:
    return [(entry["offset"], entry["id"]) for entry in result.missing_records]


def test_rows_past_their_ttl_are_expired(topic):
    """Their write time, by the ledger, and the table's TTL prove it; a row of a later batch is not excused."""
    for sensor in (1, 2):
        topic.send(sensor)
    topic.carry_out()
    topic.stored_ms += HOUR_MS
    topic.send(3)
    topic.carry_out(OffsetRange(0, 2, 3))
    topic.now_ms = topic.stored_ms + 1
    topic.expire(HOUR_S)
    assert sorted(topic.tables.rows) == [3]
    assert outcomes(topic.audit()) == {"expired": 2, "stored": 1}
    del topic.tables.rows[3]
    audit = topic.audit()
    assert (outcomes(audit), named(audit)) == ({"expired": 2, "missing": 1}, [(2, "3")])


def test_an_expired_row_is_no_longer_expected(topic):
    """The receipt's rows are those that should exist: without the expired ids, with the missing ones."""
    topic.send(1)
    topic.carry_out()
    topic.now_ms += HOUR_MS
    topic.stored_ms = topic.now_ms
    topic.send(2)
    topic.send(3)
    topic.carry_out(OffsetRange(0, 1, 3))
    topic.expire(HOUR_S)
    receipt = topic.verify()
    assert (receipt.balanced, receipt.expired, receipt.rows, receipt.distinct_ids) == (True, 1, 2, 2)
    del topic.tables.rows[3]
    receipt = topic.verify()
    assert (receipt.balanced, receipt.rows, receipt.distinct_ids) == (False, 1, 2)


def test_an_older_row_in_place_of_the_newest_is_not_excused_by_a_ttl(topic):
    """The newest version expires with its row, which leaves none: a row that reverted is a loss."""
    topic.send(1)
    topic.send(1)
    topic.carry_out()
    topic.tables.put(1, 0, 0, EPOCH_US)
    topic.tables.ttl = (HOUR_S, EPOCH_US)
    topic.now_ms += HOUR_MS
    assert named(topic.audit()) == [(1, "1")]


def test_a_version_that_was_written_again_expires_with_the_newest(topic):
    """A later job read the older version again: it lost against the newest, whose TTL has passed."""
    topic.send(1)
    topic.send(1)
    topic.carry_out(OffsetRange(0, 0, 1))
    topic.carry_out(OffsetRange(0, 1, 2))
    topic.stored_ms += HOUR_MS
    topic.carry_out(OffsetRange(0, 0, 1), job="job-b")
    topic.now_ms = topic.stored_ms + 1
    topic.tables.rows.clear()
    topic.tables.ttl = (HOUR_S, EPOCH_US)
    assert outcomes(topic.audit()) == {"expired": 2}


def test_a_ttl_excuses_nothing_that_the_ledger_skipped(topic):
    """Without a ledger entry there is no write time."""
    topic.send(1)
    topic.send(2)
    topic.carry_out(OffsetRange(0, 1, 2))
    topic.tables.ttl = (HOUR_S, EPOCH_US)
    topic.now_ms += HOUR_MS
    assert named(topic.audit()) == [(0, "1")]


@pytest.mark.parametrize(
    ("lifetimes", "age_ms", "expected"),
    [
        ([], HOUR_MS, False),
        ([Lifetime(0, 0)], HOUR_MS, False),
        ([Lifetime(HOUR_S, 0)], HOUR_MS, True),
        ([Lifetime(HOUR_S, 0)], HOUR_MS - 60_000, True),
        ([Lifetime(HOUR_S, 0)], HOUR_MS - 60_001, False),
        ([Lifetime(10, 0)], 9_000, True),
        ([Lifetime(10, 0)], 8_999, False),
        ([Lifetime(10, STORED_MS + 1)], HOUR_MS, False),
        ([Lifetime(10, STORED_MS)], HOUR_MS, True),
        ([Lifetime(0, 0), Lifetime(10, STORED_MS + 1)], HOUR_MS, False),
        ([Lifetime(10, 0), Lifetime(0, STORED_MS + 1)], HOUR_MS, True),
        ([Lifetime(10, 0), Lifetime(2 * HOUR_S, STORED_MS)], HOUR_MS, False),
    ],
)
def test_a_row_has_the_ttl_that_was_effective_when_it_was_written(lifetimes, age_ms, expected):
    """A later TTL, or one whose start is unknown, excuses nothing; a batch may have started slightly earlier."""
    assert is_expired(STORED_MS, lifetimes, STORED_MS + age_ms) is expected


def test_ttls_are_known_from_one_receipt_to_the_next(topic):
    """Cassandra tells when a table was last altered, for whatever reason; the receipt knows that its TTL is older."""
    topic.send(1)
    topic.carry_out()
    topic.tables.ttl = (HOUR_S, EPOCH_US)
    first = topic.verify()
    assert first.lifetimes == [Lifetime(HOUR_S, EPOCH_US // 1000)]
    topic.tables.ttl = (HOUR_S, EPOCH_US + 10**12)  # a column was added
    topic.tables.rows.clear()
    topic.now_ms += HOUR_MS
    receipt = topic.verify()
    assert (receipt.balanced, receipt.expired, receipt.lifetimes) == (True, 1, first.lifetimes)
    assert receipt.evidence == [
        "default_time_to_live of readings is 3600 s, in effect since at least 2023-11-14T22:13:20+00:00"
    ]
    topic.tables.ttl = (0, EPOCH_US + 2 * 10**12)
    assert [lifetime.ttl_s for lifetime in topic.verify().lifetimes] == [HOUR_S, 0]


def test_a_missing_table_has_no_ttls(tmp_path):
    """The known ones stay."""
    assert with_present([Lifetime(1, 2)], None) == [Lifetime(1, 2)]
    assert with_present([], None) == []


def junk(topic: Carried, sensor: int) -> int:
    return topic.send(sensor, b"junk")


def test_dead_letters_below_the_log_start_are_pruned(topic):
    """The ledger counts them, and the dead-letter topic starts after them; one that it still has is rejected."""
    for sensor in (1, 2, 3):
        junk(topic, sensor)
    topic.send(4)
    topic.carry_out()
    topic.queue_first = 2
    audit = topic.audit()
    assert outcomes(audit) == {"pruned": 2, "rejected": 1, "stored": 1}
    assert audit.miscounted == []
    assert topic.verify().evidence == ["log start of readings.dlq: 0:2"]


def test_a_dead_letter_that_never_existed_is_not_pruned(topic):
    """No more are excused than were below the log start, and none after one that still exists."""
    junk(topic, 1)
    topic.carry_out()
    topic.stored_ms += 1000
    junk(topic, 2)
    topic.carry_out(OffsetRange(0, 1, 2))
    topic.queue.sent.pop()
    assert named(topic.audit()) == [(1, None)]
    topic.queue_first = 1
    audit = topic.audit()
    assert (outcomes(audit), named(audit)) == ({"pruned": 1, "missing": 1}, [(1, None)])
    assert len(audit.miscounted) == 1


def test_a_dead_letter_after_one_of_an_earlier_batch_is_not_pruned(topic):
    """Dead letters are appended in the order of the batches: what follows an existing one was not pruned."""
    topic.refuse("r1")  # below the log start
    for at, sensor in enumerate((1, 2)):
        junk(topic, sensor)
        topic.carry_out(OffsetRange(0, at, at + 1))
        topic.stored_ms += 1000
    topic.queue.sent.pop()
    topic.queue_first = 1
    audit = topic.audit()
    assert (outcomes(audit), named(audit)) == ({"rejected": 1, "missing": 1}, [(1, None)])


def test_a_copy_written_by_a_replay_does_not_affect_the_order(topic):
    """The first dead letters were pruned; a replay of only the first batch dead-lettered its record again."""
    for at, sensor in enumerate((1, 2)):
        junk(topic, sensor)
        topic.carry_out(OffsetRange(0, at, at + 1))
        topic.stored_ms += 1000
    topic.carry_out(OffsetRange(0, 0, 1), job=f"{REPLAY}1")
    topic.queue_first = 2
    assert outcomes(topic.audit()) == {"rejected": 1, "pruned": 1}


def test_a_lost_row_does_not_count_as_a_pruned_dead_letter(topic):
    """The ledger counts one rejected record in the entry: it is the one that cannot be decoded."""
    topic.send(1)
    junk(topic, 2)
    topic.send(3)
    topic.carry_out()
    topic.queue_first = 1
    del topic.tables.rows[1]
    audit = topic.audit()
    assert (outcomes(audit), named(audit)) == ({"stored": 1, "pruned": 1, "missing": 1}, [(0, "1")])


def test_a_pruned_dead_letter_of_a_record_that_is_valid_now_is_excused(topic):
    """The contract was relaxed: the ledger counts a rejected record, and it was that one."""
    junk(topic, 1)
    topic.carry_out()
    topic.kafka[0].clear()
    topic.send(1)
    topic.queue_first = 1
    assert outcomes(topic.audit()) == {"pruned": 1}
    topic.queue_first, topic.queue.sent[:] = 0, []
    assert outcomes(topic.audit()) == {"missing": 1}


def test_a_pruned_dead_letter_of_a_superseded_record_is_no_difference(topic):
    """Its id has a newer row: the record counts as stored, and its ledger entry lacks no dead letter."""
    junk(topic, 1)
    topic.carry_out()
    topic.kafka[0].clear()
    topic.send(1)
    topic.send(1)
    topic.carry_out(OffsetRange(0, 1, 2))
    topic.queue_first = 1
    audit = topic.audit()
    assert (outcomes(audit), audit.miscounted) == ({"stored": 2}, [])


def compacted(topic: Carried, sensors: str, *batches: int) -> Carried:
    """A compacted topic: digits are sent as readings, in batches; the newest of each sensor is left."""
    topic.topic_settings["cleanup.policy"] = "compact,delete"
    at = 0
    for sensor in sensors:
        topic.send(int(sensor), run="r1")
    topic.acknowledge("r1")
    for size in batches or (len(sensors),):
        topic.carry_out(OffsetRange(0, at, at + size))
        at += size
    topic.compact()
    return topic


def differences(topic: Carried) -> list[tuple[str, int | None, str | None]]:
    receipt = topic.verify()
    assert receipt.balanced == (receipt.differences == [])
    return [(entry.kind, entry.offset, entry.id) for entry in receipt.differences]


def test_compacted_records_are_counted_separately(topic):
    """Versions before the newest of each key are gone: the ledger counts them, and they are not missing."""
    compacted(topic, "1212121233", 4, 6)
    receipt = topic.verify()
    assert (receipt.balanced, receipt.produced, receipt.stored, receipt.compacted) == (True, 3, 3, 7)
    assert receipt.evidence == ["cleanup.policy of readings includes compact"]


def test_only_a_compacted_topic_may_lack_records(topic):
    """By its cleanup policy; the policy is not requested while nothing is gone."""
    compacted(topic, "11")
    topic.topic_settings["cleanup.policy"] = "delete"
    assert differences(topic) == [("miscounted", 0, None), ("lost", 0, "1")]


def test_a_lost_row_of_a_compacted_topic_is_missing(topic):
    """Its record exists."""
    compacted(topic, "121233")
    del topic.tables.rows[2]
    assert differences(topic) == [("missing", 3, "2")]


@pytest.mark.parametrize("is_journaled", [True, False])
def test_compaction_does_not_excuse_the_newest_record_of_a_key(topic, is_journaled):
    """The topic lost it: its row proves that, and the delivery log if there is one."""
    compacted(topic, "121233")
    topic.compacted.add((0, 3))
    if not is_journaled:
        for file in (topic.settings.home / "data" / "journal").iterdir():
            file.unlink()
    lost = [("lost", 1, "2")] if is_journaled else []
    assert differences(topic) == [*lost, ("lost", 3, "2")]


def test_a_record_whose_older_version_exists_was_lost(topic):
    """Compaction removes older versions first."""
    compacted(topic, "11")
    topic.compacted = {(0, 1)}
    assert ("lost", 1, "1") in differences(topic)


def test_a_rejected_version_compacts_the_records_before_it(topic):
    """Compaction goes by keys: the row's own record is gone, since a newer one of its key was sent and rejected."""
    topic.topic_settings["cleanup.policy"] = "compact"
    topic.send(1, run="r1")
    topic.send(2, run="r1")
    junk(topic, 1)
    topic.acknowledge("r1")
    topic.carry_out()
    topic.compact()
    receipt = topic.verify()
    assert (receipt.balanced, receipt.compacted, receipt.older_rows) == (True, 1, 1)
    topic.compacted.add((0, 1))
    assert set(differences(topic)) == {("lost", 1, "2")}


def test_an_unread_version_compacts_the_records_before_it(topic):
    """The log cleaner may be ahead of the stream."""
    topic.topic_settings["cleanup.policy"] = "compact"
    topic.send(1)
    topic.acknowledge("r1")
    topic.carry_out()
    topic.send(1)
    topic.compact()
    receipt = topic.verify()
    assert (receipt.balanced, receipt.compacted, receipt.waiting) == (True, 1, 1)


def test_a_tombstone_is_gone_after_its_retention(topic):
    """Record, tombstone and row are gone then; before, compaction must have kept the tombstone."""
    topic.topic_settings["cleanup.policy"] = "compact"
    topic.send(1)
    topic.send(2)
    topic.send(1, tombstone=True)
    topic.acknowledge("r1")
    topic.carry_out()
    topic.compact()
    assert set(differences(topic)) == {("lost", 0, "1"), ("lost", 2, "1")}
    topic.now_ms = STORED_MS + 86_400_000
    assert differences(topic) == []
    topic.compacted.add((0, 1))
    del topic.tables.rows[2]
    assert set(differences(topic)) == {("lost", 0, "1"), ("lost", 1, "2"), ("lost", 2, "1")}


def test_compaction_excuses_nothing_after_the_log_end(topic):
    """A broker that forgot its newest records has lost them."""
    compacted(topic, "11")
    topic.acknowledge("r2", [(0, 2)])
    assert differences(topic) == [("lost", 2, "7")]


def test_a_run_may_lack_as_many_records_as_there_are_gaps(topic):
    """Where compaction removed them; any more are named."""
    compacted(topic, "1122")
    run = {"topic": "readings", "topic_id": "id-1", "produced": 4, "offsets": {"0": [0, 3]}}
    topic.runs = {"r1": run}
    assert differences(topic) == []
    topic.runs = {"r1": run | {"produced": 5}}
    assert differences(topic) == [("run", None, None)]
    topic.topic_settings["cleanup.policy"] = "delete"
    assert ("run", None, None) in differences(topic)


def test_rejected_records_that_are_compacted_and_pruned_are_no_difference(topic):
    """Neither the record nor its dead letter exists: only the ledger has it."""
    topic.topic_settings["cleanup.policy"] = "compact"
    junk(topic, 1)
    topic.send(1)
    topic.carry_out()
    topic.compact()
    assert differences(topic) == []
    topic.queue_first = 1
    assert differences(topic) == []
    topic.queue_first, topic.queue.sent[:] = 0, []
    assert differences(topic) == [("miscounted", 0, None)]


def test_a_topic_whose_settings_cannot_be_read_counts_as_not_compacted(topic, monkeypatch):
    """That is logged; an unavailable Kafka is an error."""
    compacted(topic, "11")

    def refuse(error: PenstockError) -> None:
        def settings_of(*_):
            raise error

        monkeypatch.setattr(Carried, "_settings_of", settings_of)

    refuse(PenstockError("not authorized"))
    assert [kind for kind, *_ in differences(topic)] == ["miscounted", "lost"]
    refuse(KafkaUnreachable("away"))
    with pytest.raises(KafkaUnreachable):
        topic.verify()


def test_evidence_is_only_requested_if_something_is_absent(topic, monkeypatch):
    """A topic without gaps needs no permission to read settings."""
    topic.send(1)
    junk(topic, 2)
    topic.carry_out()
    monkeypatch.setattr(excuse_evidence.Evidence, "compaction", property(lambda _: pytest.fail("asked")))
    monkeypatch.setattr(excuse_evidence.Evidence, "queue_firsts", property(lambda _: pytest.fail("asked")))
    assert topic.verify().balanced


def test_filtered_records_of_a_compacted_entry_stay_filtered(topic):
    """As far as they still exist."""
    topic.filters = True
    topic.topic_settings["cleanup.policy"] = "compact"
    topic.send(1, value(1, -1))
    topic.send(2, value(2, -1))
    topic.send(1)
    topic.carry_out()
    topic.compact()
    audit = topic.audit()
    assert (outcomes(audit), audit.total("compacted"), audit.miscounted) == ({"stored": 1, "filtered": 1}, 1, [])


def test_each_offset_below_a_log_start_excuses_one_dead_letter():
    """In the partition of its key; a record without a key may have gone to any, and takes no other's."""
    (of_0, *_), (of_1, *_) = ([key for key in KEYS if murmur2(key) % 2 == partition] for partition in (0, 1))
    pruning = Pruning({0: 1, 1: 1}, [])
    assert [pruning.excuse(key, 0) for key in (of_0, of_0, of_1, of_1)] == [True, False, True, False]
    assert not pruning.excuse(None, 0)
    pruning = Pruning({0: 1, 1: 1}, [])
    assert [pruning.excuse(key, 0) for key in (None, of_0, of_1, None)] == [True, True, False, False]
    assert not Pruning({0: 0, 1: 3}, []).excuse(of_0, 0)
    assert not Pruning({}, []).excuse(of_0, 0)


KEYS = [b"%d" % number for number in range(20)]


def test_a_lost_row_does_not_count_as_a_compacted_rejected_record(topic):
    """The rejected record and its dead letter are gone; the record after it exists, and its row does not."""
    topic.topic_settings["cleanup.policy"] = "compact"
    junk(topic, 1)
    topic.send(1)
    topic.carry_out()
    topic.compact()
    topic.queue_first = 1
    assert topic.audit().total("missing") == 0
    topic.tables.rows.clear()
    assert named(topic.audit()) == [(1, "1")]
