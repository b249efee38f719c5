"""Tables, rows and ledger against the real Cassandra."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
from cassandra.cluster import Session

from penstock import config
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.batch import BatchSummary, Decoded, Deletion, Row
from penstock.contract.record import Record
from penstock.contract.table import build_table
from penstock.errors import CassandraUnreachable, StoreFailed
from penstock.pipelines import Pipeline, users
from penstock.sink import cassandra, ledger, progress
from penstock.sink.rows import RowWriter, batch_limit_bytes

EPOCH_US = 1_700_000_000_000_000


@pytest.fixture
def pipeline(unique: str) -> Pipeline:
    """The users pipeline with its own keyspace."""
    return replace(users.PIPELINE, keyspace=unique, table="users")


@pytest.fixture
def session(settings: Settings, pipeline: Pipeline) -> Iterator[Session]:
    """A session, with the pipeline's keyspace and tables created."""
    with cassandra.open_session(settings) as connected:
        cassandra.create_keyspace(connected, settings, pipeline)
        cassandra.create_table(connected, settings, pipeline)
        ledger.create_tables(connected, pipeline.keyspace)
        yield connected


@pytest.fixture
def records(captured: list[dict[str, Any]]) -> list[Record]:
    """The captured users as records."""
    return [msgspec.convert(users.from_source(entry), users.User) for entry in captured]


def writer(session: Session, pipeline: Pipeline) -> RowWriter:
    return RowWriter(session, build_table(pipeline.keyspace, "users", users.User), epoch_us=EPOCH_US, concurrency=8)


def write(writer: RowWriter, rows: Iterable[Row] = (), deletions: Iterable[Deletion] = ()) -> None:
    assert writer.write(Decoded(list(rows), list(deletions))) == []


def stored(session: Session, pipeline: Pipeline) -> dict[Any, dict[str, Any]]:
    return {row["id"]: row for row in session.execute(f"SELECT * FROM {pipeline.keyspace}.users")}


def test_the_driver_reads_what_our_codec_wrote(session: Session, pipeline: Pipeline, records: list[Record]) -> None:
    """Each captured user is read back field by field, with its position in Kafka."""
    write(writer(session, pipeline), ((item, 1_700_000_000_123, 2, at) for at, item in enumerate(records)))
    rows = stored(session, pipeline)
    assert len(rows) == len(records)
    for at, record in enumerate(records):
        row = rows[record.id]  # type: ignore[attr-defined]
        for name in record.__struct_fields__:
            value = getattr(record, name)
            expected = value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
            assert row[name] == expected
        assert (row["kafka_partition"], row["kafka_offset"]) == (2, at)
        assert row["ingested_at"] == datetime(2023, 11, 14, 22, 13, 20, 123000)


def test_the_newest_offset_wins_in_any_write_order(session: Session, pipeline: Pipeline, records: list[Record]) -> None:
    """Two updates of one id in one batch and one millisecond, and a replay of the older one: the later offset stays."""
    old = records[0]
    new = msgspec.structs.replace(old, first_name="Newer")
    rows: list[Row] = [(new, 1, 0, 8), (old, 1, 0, 7)]
    write(writer(session, pipeline), rows)
    write(writer(session, pipeline), rows[1:])
    row = stored(session, pipeline)[old.id]  # type: ignore[attr-defined]
    assert (row["first_name"], row["kafka_offset"]) == ("Newer", 8)


def deletion(record: Record, offset: int, timestamp_ms: int = 1) -> Deletion:
    return Deletion(record.id, timestamp_ms, 0, offset)  # type: ignore[attr-defined]


def test_a_deletion_removes_the_row(session: Session, pipeline: Pipeline, records: list[Record]) -> None:
    """Only the named row is deleted; deleting a row that does not exist is no error."""
    rows = writer(session, pipeline)
    write(rows, ((item, 1, 0, at) for at, item in enumerate(records[:3])))
    write(rows, [], [deletion(records[1], 3), deletion(records[9], 4)])
    left = {records[0].id, records[2].id}  # type: ignore[attr-defined]
    assert stored(session, pipeline).keys() == left


@pytest.mark.parametrize("is_apart", [False, True], ids=["in one batch", "one after the other"])
@pytest.mark.parametrize(("row_offset", "is_left"), [(7, False), (9, True)], ids=["row, deletion", "deletion, row"])
@pytest.mark.parametrize("is_row_first", [False, True], ids=["deletion written first", "row written first"])
def test_a_row_and_a_deletion_of_one_id_end_in_kafka_order(
    session: Session,
    pipeline: Pipeline,
    records: list[Record],
    is_apart: bool,
    row_offset: int,
    is_left: bool,
    is_row_first: bool,
) -> None:
    """The later offset wins in the same millisecond, in one batch or two, in either order, replayed or not."""
    put, first = partial(write, writer(session, pipeline)), records[0]
    rows, deletions = [(first, 1, 0, row_offset)], [deletion(first, 8)]
    for _ in range(2):
        if not is_apart:
            put(rows, deletions)
        elif is_row_first:
            put(rows)
            put([], deletions)
        else:
            put([], deletions)
            put(rows)
        assert bool(stored(session, pipeline)) is is_left


def test_replaying_records_before_a_deletion_restores_nothing(
    session: Session, pipeline: Pipeline, records: list[Record]
) -> None:
    """Two rows of one id and its deletion, then both rows again: the row stays deleted, and a newer one is stored."""
    put, first = partial(write, writer(session, pipeline)), records[0]
    older: list[Row] = [(first, 5, 0, 1), (msgspec.structs.replace(first, first_name="Newer"), 5, 0, 2)]
    put(older, [deletion(first, 3, timestamp_ms=5)])
    put(older)
    put(older[::-1])
    assert stored(session, pipeline) == {}
    put([(first, 5, 0, 4)], [deletion(first, 3, timestamp_ms=5)])
    assert [row["kafka_offset"] for row in stored(session, pipeline).values()] == [4]


def test_many_deletions_are_written(session: Session, pipeline: Pipeline, records: list[Record]) -> None:
    """Thousands of deletions, mixed with rows, are written in batches that the server neither rejects nor warns
    about.
    """
    many = [msgspec.structs.replace(records[at % 30], id=uuid.uuid4()) for at in range(3000)]
    rows = writer(session, pipeline)
    write(rows, ((item, 1, 0, at) for at, item in enumerate(many)))
    more = [msgspec.structs.replace(record, id=uuid.uuid4()) for record in records]
    write(
        rows,
        ((item, 1, 0, 3000 + at) for at, item in enumerate(more)),
        (deletion(item, 4000 + at) for at, item in enumerate(many[:2990])),
    )
    assert len(stored(session, pipeline)) == 10 + len(more)


def test_the_ledger_knows_the_last_offset_it_covers(session: Session, pipeline: Pipeline) -> None:
    """The newest entry determines it, in whichever bucket the entry starts; without an entry in the range there is
    none.
    """
    book = ledger.Ledger(session, pipeline.keyspace, "topic", EPOCH_US)
    assert book.reached(OffsetRange(0, 17, 5_000_000)) == 17
    first = BatchSummary(0, 0, 999_990, 999_991, 999_991, 0, 0, 0, 1_000, {}, {})
    across = BatchSummary(0, 999_991, 1_000_004, 14, 14, 0, 0, 0, 2_000, {}, {})
    book.write("job", 1, [first, across])
    assert book.reached(OffsetRange(0, 0, 1_000_005)) == 1_000_005
    assert book.reached(OffsetRange(0, 0, 4_000_000)) == 1_000_005
    assert book.reached(OffsetRange(0, 2_000_000, 4_000_000)) == 2_000_000
    assert book.reached(OffsetRange(1, 0, 10)) == 0
    book.write("job", 2, [across._replace(first_offset=1_000_005, last_offset=1_000_009)])
    assert book.reached(OffsetRange(0, 0, 4_000_000)) == 1_000_010


def test_many_rows_are_stored(session: Session, pipeline: Pipeline, records: list[Record]) -> None:
    """Thousands of rows are written in batches that the server neither rejects nor warns about."""
    many = [msgspec.structs.replace(records[at % 30], id=uuid.uuid4()) for at in range(5000)]
    write(writer(session, pipeline), ((item, 1, 0, at) for at, item in enumerate(many)))
    count = session.execute(f"SELECT count(*) AS rows FROM {pipeline.keyspace}.users").one()["rows"]
    assert count == 5000


def test_the_batch_limit_is_the_servers_warning_threshold(session: Session) -> None:
    """The local stack's server warns at 64 KiB."""
    assert batch_limit_bytes(session) == 64 * 1024


def test_a_failed_write_raises_an_error(session: Session, pipeline: Pipeline, records: list[Record]) -> None:
    """Writing to a table that was dropped is an error, not a silent loss."""
    rows = writer(session, pipeline)
    session.execute(f"DROP TABLE {pipeline.keyspace}.users")
    with pytest.raises(StoreFailed, match="users"):
        write(rows, [(records[0], 1, 0, 0)])


def test_the_ledger_returns_the_entries_that_overlap_a_range(session: Session, pipeline: Pipeline) -> None:
    """Entries are in offset order, across buckets; writing an entry again changes nothing."""
    book = ledger.Ledger(session, pipeline.keyspace, "topic", EPOCH_US)
    lines = [
        BatchSummary(0, 0, 999_997, 999_998, 999_998, 0, 0, 0, 1_000, {}, {}),
        BatchSummary(0, 999_998, 1_000_004, 7, 4, 1, 2, 0, 2_000, {"title": 3, "age": 1}, {25: 3, 2_147_483_647: 1}),
        BatchSummary(0, 1_000_005, 1_000_005, 1, 1, 0, 0, 0, 3_000, {}, {}),
        BatchSummary(1, 0, 9, 10, 10, 0, 0, 0, 4_000, {}, {}),
    ]
    book.write("job", 1, lines)
    book.write("job", 1, lines)
    assert [line.summary for line in book.lines(OffsetRange(0, 0, 2_000_000))] == lines[:3]
    assert [line.summary for line in book.lines(OffsetRange(0, 1_000_003, 1_000_005))] == lines[1:2]
    assert [line.summary for line in book.lines(OffsetRange(1, 0, 10))] == lines[3:]


def test_a_recreated_topic_gets_a_later_timestamp_base(session: Session, pipeline: Pipeline) -> None:
    """The timestamp base of an incarnation stays; the next one is later, even if created at once."""
    assert ledger.read_epoch_us(session, pipeline.keyspace, "topic", "first") is None
    first = ledger.begin_generation(session, pipeline.keyspace, "topic", "first")
    second = ledger.begin_generation(session, pipeline.keyspace, "topic", "second")
    assert second > first
    assert ledger.begin_generation(session, pipeline.keyspace, "topic", "first") == first
    assert ledger.read_epoch_us(session, pipeline.keyspace, "topic", "second") == second


def test_an_unavailable_cassandra_is_reported_as_unreachable(free_port: int) -> None:
    """The error names the address and the setting."""
    away = config.read(cassandra_port=free_port, cassandra_timeout_s=2)
    with pytest.raises(CassandraUnreachable, match=str(free_port)) as caught:
        cassandra.connect(away)
    assert "PENSTOCK_CASSANDRA_HOSTS" in caught.value.hint


def test_batches_and_failures_are_listed_newest_first(session: Session, pipeline: Pipeline) -> None:
    """Across the hours of a day, up to the limit; a query without any batch has an empty list."""
    kept = progress.Progress(session, pipeline.keyspace, "t")
    assert (kept.batches(5), kept.failures()) == ([], [])
    progress.create_tables(session, pipeline.keyspace)
    now = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)
    batches = [
        progress.Batch(7 - hours, now - timedelta(hours=hours), 5, 50.0, 80.5, {"addBatch": 9}, {0: 17, 1: 4})
        for hours in (0, 1, 1, 23, 24)
    ]
    kept.keep(batches)
    assert kept.batches(9, now) == [batches[0], batches[1], batches[3]]
    assert kept.batches(2, now) == batches[:2]
    kept.failed("no", "x" * 30_000 + "end")
    [failure] = kept.failures()
    assert failure.error == "no"
    assert failure.trace.endswith("end")
    assert len(failure.trace) == 20_000
    assert abs(datetime.now(UTC) - failure.at) < timedelta(minutes=1)


def test_ledger_entries_are_summed_from_an_offset_on(session: Session, pipeline: Pipeline) -> None:
    """Across buckets, exactly the entries that start in the range count."""
    book = ledger.Ledger(session, pipeline.keyspace, "t", EPOCH_US)
    summaries = [
        BatchSummary(0, 0, 999_989, 999_990, 999_980, 0, 10, 0, 1_000, {}, {100: 999_980}),
        BatchSummary(0, 999_990, 1_000_009, 20, 20, 0, 0, 0, 2_000, {}, {250: 20}),
        BatchSummary(0, 1_000_010, 1_000_014, 5, 5, 0, 0, 0, 3_000, {}, {}),
    ]
    book.write("stream", 1, summaries)
    assert book.stored_in(OffsetRange(0, 0, 1_000_015)) == 1_000_005
    assert book.stored_in(OffsetRange(0, 999_990, 1_000_010)) == 20
    assert (book.stored_in(OffsetRange(0, 5, 5)), book.stored_in(OffsetRange(1, 0, 9))) == (0, 0)
    assert [line.summary for line in book.begun_in(OffsetRange(0, 999_990, 1_000_015))] == summaries[1:]
    assert list(book.begun_in(OffsetRange(0, 1, 999_990))) == []
