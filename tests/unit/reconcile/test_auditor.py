"""What a reconciler requests, and how it reads the responses."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Annotated
from uuid import UUID

import pytest
from msgspec import Meta

from penstock.broker.topics import OffsetRange, Position
from penstock.codec.wire_format import encode_header
from penstock.config import read
from penstock.contract.record import KEY, Int64, Record
from penstock.pipelines import Pipeline
from penstock.reconcile import auditor, table_rows
from penstock.reconcile.audit import RowPlace, Sent
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.fact_loading import LineFinder, record_columns
from penstock.reconcile.reconciliation import Scope
from penstock.sink.ledger import REPLAY
from tests.unit.carried import EPOCH_US, STORED_MS, Carried, Rows, looked_up, scanned, value
from tests.unit.fakes import FakeSchemas, FakeSession
from tests.unit.records import READINGS


@pytest.fixture
def topic(tmp_path):
    topic = Carried(tmp_path)
    with topic.in_place():
        yield topic


def test_records_are_read_with_what_a_balance_needs(topic):
    """Position, time, key, id, run; the id is None if the value cannot be decoded, or if a null value's key is not an
    id.
    """
    topic.send(7, run="r1")
    topic.send(7, b"junk")
    topic.send(7, tombstone=True)
    topic.send(7, tombstone=True, named=b"no id")
    sent = topic.sent()
    at = [STORED_MS - 1000 + offset for offset in range(4)]
    assert sent == [
        Sent(0, 0, at[0], b"7", "7", False, "r1"),
        Sent(0, 1, at[1], b"7", None, False, None),
        Sent(0, 2, at[2], b"7", "7", True, None),
        Sent(0, 3, at[3], b"no id", None, False, None),
    ]


@pytest.mark.parametrize("last", ["value", "tombstone", "redriven", "declared"])
def test_bulk_reads_equal_single_reads(topic, last):
    """Only values are read in bulk; one other record, or a declared order, and the whole chunk is read one by one."""
    topic.send(7, run="r1")
    topic.send(8, b"junk")
    topic.send(9, named=b"another key", run="r2")
    if last == "declared":
        topic.pipeline = replace(READINGS, order_by="timestamp")
    elif last != "value":
        topic.send(7, tombstone=last == "tombstone", order_us=1 if last == "redriven" else None)
    reader, finder = topic.auditor(), LineFinder({})
    (bulk,) = reader.record_columns(topic.spans(), finder, "r1")
    assert list(map(list, bulk)) == list(map(list, record_columns(topic.sent(), finder, "r1")))


def test_keys_are_read_as_the_pipeline_declares(topic):
    """The reconciler reads a tombstone's key like the job, with the same declaration."""
    topic.send(7, tombstone=True)
    topic.send(7, tombstone=True, named=b'{"sensor":7}')
    assert [message.id for message in topic.sent()] == ["7", "7"]
    topic.pipeline = replace(READINGS, key_format="json")
    topic.send(7, tombstone=True, named=b'{"schema":{},"payload":7}')
    topic.send(7, tombstone=True, named=encode_header(1) + b"7")
    result = [(message.id, message.is_deletion) for message in topic.sent()]
    assert result == [("7", True), ("7", True), (None, False), (None, False)]


@pytest.mark.parametrize("how", ["scan", "look-up"])
def test_rows_are_classified_by_their_write_timestamp(topic, how):
    """Timestamp base and offset: ours.

    Before the base: an earlier incarnation's. Without a position: another writer's; with a clock's time: changed by
    hand.
    """
    tables, now_us = topic.tables, EPOCH_US + 9_000_000_000
    tables.put(1, 2, 30, EPOCH_US + 30)
    tables.put(2, 0, 30, EPOCH_US - 60_000_000 + 30)
    tables.put(3, 0, 30, now_us)
    tables.put(4, None, None, None)
    tables.put(5, 0, 30, EPOCH_US + 29)
    tables.put(6, None, None, now_us)
    rows = Rows(scanned(topic.auditor()) if how == "scan" else looked_up(topic.auditor(), range(1, 8)))
    assert (rows.places, rows.older, sorted(rows.foreign)) == ({1: RowPlace(2, 30)}, 1, [4, 5, 6])
    assert rows.changed == {3: now_us}


@pytest.mark.parametrize("how", ["scan", "look-up"])
def test_rows_of_redriven_records_are_recognized_by_their_headers(topic, how):
    """A write timestamp before the row's position is explained by the header of the record there."""
    for order_us in (None, 0, None, 1, None):
        topic.send(9, order_us=order_us)
    topic.firsts[0] = 1
    rows = {
        1: (0, 1, EPOCH_US),
        2: (0, 3, EPOCH_US),
        3: (0, 2, EPOCH_US + 1),
        4: (0, 0, EPOCH_US - 5),
        5: (0, 4, EPOCH_US - 5),
        6: (7, 4, EPOCH_US + 3),
        7: (0, 99, EPOCH_US + 3),
    }
    for sensor, row in rows.items():
        topic.tables.put(sensor, *row)
    result = Rows(scanned(topic.auditor()) if how == "scan" else looked_up(topic.auditor(), rows))
    assert result.places == {1: RowPlace(0, 1, -1)}
    assert (result.older, sorted(result.foreign)) == (2, [2, 3, 6, 7])


def test_the_row_of_a_redriven_record_deleted_by_retention_is_ours(topic):
    """It cannot be distinguished from another one any more."""
    topic.send(9)
    topic.send(9)
    topic.firsts[0] = 1
    topic.tables.put(1, 0, 0, EPOCH_US)
    topic.tables.put(2, 3, 0, EPOCH_US)
    topic.kafka[3], topic.firsts[3] = [], 5
    topic.tables.put(3, 3, 4, EPOCH_US + 1)
    result = Rows(scanned(topic.auditor()))
    assert result.places == {1: RowPlace(0, 0), 2: RowPlace(3, 0), 3: RowPlace(3, 4, -3)}
    assert (result.older, result.foreign) == (0, [])


def test_only_positions_near_a_redriven_row_are_read():
    """Positions that are far apart are read one by one."""
    assert table_rows._merge_positions({Position(0, 5), Position(0, 900), Position(0, 9000), Position(1, 9001)}) == [
        OffsetRange(0, 5, 901),
        OffsetRange(0, 9000, 9001),
        OffsetRange(1, 9001, 9002),
    ]


def test_without_ids_there_is_no_lookup(topic):
    """No request is sent."""
    auditor = topic.auditor()
    asked = len(topic.tables.session.executed)
    assert Rows(auditor.rows_of(set())).places == {}
    assert len(topic.tables.session.executed) - asked == 5, "two tables, generations twice, layouts"


def test_dead_letters_are_those_of_this_topic(topic):
    """Not of an earlier incarnation; and those rejected at the source, which never had a position in it."""
    topic.send(1, b"junk")
    topic.carry_out()
    topic.refuse("r1")
    result = topic.auditor().letters()
    assert sorted(letter.origin.partition for letter in result.values()) == [-1, 0]
    topic.tables.generations = {"id-1": EPOCH_US + 60_000_000}
    assert [letter.origin.partition for letter in topic.auditor().letters().values()] == [-1]


def test_pending_records_are_those_the_stream_has_not_reached(topic):
    """The sum over partitions; a replay that went further is not the stream, and a gap is not pending."""
    topic.kafka[1] = []
    for partition in (0, 1):
        for sensor in range(5):
            topic.send(sensor, partition=partition)
    topic.carry_out(OffsetRange(0, 0, 1))
    topic.carry_out(OffsetRange(0, 2, 3))
    topic.carry_out(OffsetRange(0, 0, 5), OffsetRange(1, 0, 5), job=f"{REPLAY}1")
    auditor = topic.auditor()
    assert auditor.waiting([OffsetRange(0, 0, 5)]) == 2
    assert auditor.waiting([OffsetRange(0, 0, 2)]) == 0
    assert auditor.waiting([OffsetRange(0, 0, 5), OffsetRange(1, 3, 5)]) == 4


def test_the_reconciliation_of_a_run_counts_only_its_records(topic):
    """Others between them do not count; a ledger entry is compared with all records in its range."""
    for sensor in range(6):
        topic.send(sensor, b"junk" if sensor > 3 else None, run=("r1", "r2")[sensor % 2])
    topic.carry_out()
    topic.refuse("r1", b"1")
    topic.refuse("r2", b"2")
    audit = topic.auditor().audit_run(topic.spans(), "r1")
    assert [audit.total(item) for item in ("produced", "stored", "rejected", "missing")] == [3, 2, 1, 0]
    assert (audit.refused, audit.known_ids, audit.expected_ids, audit.named["miscounted"]) == (1, 2, 2, [])


def test_a_record_of_a_run_deleted_by_another_runs_tombstone_is_stored(topic):
    """Within the range that is read for the run, and after it."""
    topic.send(1, run="r1")
    topic.send(2, run="r1")
    topic.send(1, tombstone=True)
    topic.send(2, tombstone=True)
    topic.carry_out()
    audit = topic.auditor().audit_run([OffsetRange(0, 0, 3)], "r1")
    assert (audit.total("produced"), audit.total("stored")) == (2, 2)


def test_the_ledger_is_read_before_table_and_dead_letters(topic, monkeypatch):
    """What an entry covers exists by then, so a running stream causes no losses."""
    topic.send(1)
    topic.send(2, b"junk")
    auditor = topic.auditor()
    order = []
    for name in ("coverage", "letter_copies", "row_columns", "record_columns"):
        real = getattr(auditor, name)

        def record_call(*arguments, name=name, real=real):
            order.append(name)
            return real(*arguments)

        monkeypatch.setattr(auditor, name, record_call)
    auditor.audit(topic.spans())
    assert order[0] == "coverage"
    assert order.index("record_columns") > max(order.index("row_columns"), order.index("letter_copies"))


@pytest.mark.parametrize("scan", [True, False])
def test_topic_and_ledger_are_read_once(topic, monkeypatch, scan):
    """Whether the rows are scanned or looked up; and the result has the ledger's counts."""
    for sensor in (5, 6, 7):
        topic.send(sensor)
    topic.carry_out()
    auditor = topic.auditor()
    asked = []
    for name in ("coverage", "record_columns"):
        real = getattr(auditor, name)

        def record_call(of, *more, real=real):
            asked.append(of)
            return real(of, *more)

        monkeypatch.setattr(auditor, name, record_call)
    with auditor.reconciled(Scope([OffsetRange(0, 1, 3)], is_whole=scan)) as (result, reconciliation):
        rows = [int(record_id) for (record_id,) in reconciliation.engine.rows("SELECT id FROM topic_rows")]
    assert asked == [OffsetRange(0, 1, 3), [OffsetRange(0, 1, 3)]]
    assert sorted(rows) == ([5, 6, 7] if scan else [6, 7])
    assert [line.summary.stored for line in result.covered[0].lines] == [3]


@pytest.mark.parametrize("known", ["nothing", "keyspace", "generations"])
def test_without_a_ledger_everything_is_pending(monkeypatch, known):
    """Before any job has read the topic there are no entries, whether the keyspace, the table or the topic is
    missing.
    """
    session = FakeSession()
    if known != "nothing":
        tables = {"generations"} if known == "generations" else set()
        session.cluster.metadata.keyspaces = {"spark_streams": SimpleNamespace(tables=tables)}
    monkeypatch.setattr(auditor, "Registry", lambda _settings: FakeSchemas())
    monkeypatch.setattr(auditor.topics, "fetch_topic_id", lambda *_: "id-1")
    first = Auditor(read(), session)
    assert first.book is None
    assert first.coverage(OffsetRange(0, 0, 5)).reached == 0
    assert first.waiting([OffsetRange(0, 2, 5)]) == 3


def test_the_ledger_is_that_of_the_topics_incarnation(topic):
    """A reconciler that ran before the first job reads it again."""
    topic.tables.generations = {"another": 5}
    auditor = topic.auditor()
    assert auditor.book is None
    topic.tables.generations["id-1"] = 9
    assert (auditor.book.epoch_us, auditor.book) == (9, auditor.book)


def test_a_valid_value_under_another_key_has_the_values_id(topic):
    """The row's id is the one in the value, whatever its key."""
    topic.send(1, value(2))
    assert [message.id for message in topic.sent()] == ["2"]


class Item(Record, frozen=True, kw_only=True, rename="camel"):
    """A key with another name in messages."""

    order: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    unitPrice: float  # noqa: N815
    limit: Int64 | None = None


class Thing(Record, frozen=True, kw_only=True):
    id: Annotated[UUID, Meta(extra=KEY)]


def test_ids_that_are_uuids_are_scanned_as_text(settings, monkeypatch):
    """That costs less than to read a UUID and write it."""
    pipeline = Pipeline(topic="t", keyspace="lab", table="t", record=Thing, from_source=dict)
    monkeypatch.setattr(auditor.pipelines, "of", lambda _settings: pipeline)
    monkeypatch.setattr(Auditor, "book", None)
    ids = [str(UUID(int=number)) for number in range(2)]
    row = {"kafka_partition": 0, "kafka_offset": 5, "written_us": 5}
    rows = [row | {"id": name, "write times": sum_us} for name, sum_us in zip(ids, (15, 14), strict=True)]
    session = FakeSession(lambda *_: rows)
    session.cluster.metadata.keyspaces = {"lab": SimpleNamespace(tables={"t"})}
    columns = [list(zip(*piece, strict=True)) for piece in Auditor(settings, session).row_columns()]
    assert "CAST(id AS text) AS id" in session.executed[-1][0]
    assert columns == [
        [(ids[0], "topic", 0, 5, 5, False, None)],
        [(ids[1], "topic", 0, 5, 5, True, None)],
    ]


def test_names_in_row_queries_are_quoted(settings, monkeypatch):
    """A key that is a reserved word, in a table that is one."""
    pipeline = Pipeline(topic="t", keyspace="Lab", table="table", record=Item, from_source=dict)
    monkeypatch.setattr(auditor.pipelines, "of", lambda _settings: pipeline)
    monkeypatch.setattr(Auditor, "book", None)
    row = {
        "order": "o",
        "kafka_partition": 0,
        "kafka_offset": 1,
        "written_us": 1,
        "write times": 4,
        "limit written": None,
    }
    session = FakeSession(lambda *_: [row])
    session.cluster.metadata.keyspaces = {"Lab": SimpleNamespace(tables={"table"})}
    result = Auditor(settings, session)
    assert Rows(scanned(result)).places == {"o": RowPlace(0, 1)}
    times = [f"WRITETIME({name})" for name in ('"unitPrice"', "ingested_at", "kafka_partition", "kafka_offset")]
    select = (
        'SELECT "order" AS "order", kafka_partition AS kafka_partition, kafka_offset AS kafka_offset, '
        f'WRITETIME(kafka_offset) AS written_us, {" + ".join(times)} AS "write times", '
        'WRITETIME("limit") AS "limit written" FROM "Lab"."table"'
    )
    assert session.executed[1:] == [(select, ())], "after a look at the keyspace's tables"


def test_a_nullable_field_that_was_changed_by_hand_is_named(settings, monkeypatch):
    """Null has no write timestamp; an older value, from before a record that left the field unset, was not changed."""
    pipeline = Pipeline(topic="t", keyspace="lab", table="t", record=Item, from_source=dict)
    monkeypatch.setattr(auditor.pipelines, "of", lambda _settings: pipeline)
    monkeypatch.setattr(Auditor, "book", None)
    times = {"null": None, "written": 7, "older": 5, "by hand": 9}
    row = {"kafka_partition": 0, "kafka_offset": 7, "written_us": 7, "write times": 28}
    session = FakeSession(lambda *_: [row | {"order": name, "limit written": at} for name, at in times.items()])
    session.cluster.metadata.keyspaces = {"lab": SimpleNamespace(tables={"t"})}
    rows = Rows(scanned(Auditor(settings, session)))
    assert (rows.changed, len(rows.places)) == ({"by hand": None}, 4)
