import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cassandra import OperationTimedOut

from penstock.broker.topics import OffsetRange
from penstock.contract.batch import BatchSummary
from penstock.contract.order import TopicLayout
from penstock.sink import ledger
from penstock.sink.ledger import BUCKET_OFFSETS, Ledger, LedgerEntry
from tests.unit.fakes import FakeSession, created

EPOCH_US = 5


class FakeTable:
    """Records what is inserted and finds it by partition key, like Cassandra with ledger and incarnations."""

    def __init__(self) -> None:
        self.rows: dict[tuple, dict] = {}

    def __call__(self, query: str, values: tuple) -> list[dict]:
        if query.startswith("INSERT"):
            names = re.findall(r"\w+", query.partition("(")[2].partition(")")[0])
            row = dict(zip(names, values, strict=True))
            if "stored_at" in row:
                row["stored_at"] = row["stored_at"].astimezone(UTC).replace(tzinfo=None)  # as the driver reads it
                row["nulls"] = row["nulls"] or None  # an empty map is no map
            self.rows[tuple(row.get(name) for name in _KEY)] = row
            return []
        if "DISTINCT" in query:
            return [row for row in self.rows.values() if "bucket" in row]
        names = re.findall(r"(\w+) = (?:\?|%s)", query)
        wanted = dict(zip(names, values, strict=True))
        of_table = "epoch_us" if "generations" in query else "shift_us" if "layouts" in query else "bucket"
        result = [row for row in self.rows.values() if of_table in row and wanted.items() <= row.items()]
        result.sort(key=lambda row: (row.get("first_offset", 0), row.get("job", "")))
        return result[::-1] if query.endswith("DESC") else result


_KEY = ("topic", "generation_us", "kafka_partition", "bucket", "first_offset", "job", "epoch_us", "partitions")


@pytest.fixture
def table() -> FakeTable:
    return FakeTable()


@pytest.fixture
def session(table) -> FakeSession:
    return FakeSession(table)


@pytest.fixture
def book(session) -> Ledger:
    return Ledger(session, "ks", "t", EPOCH_US)


def summary(first: int, last: int, partition: int = 0, **changes) -> BatchSummary:
    count = last - first + 1
    plain = {
        "records": count,
        "stored": count,
        "deleted": 0,
        "rejected": 0,
        "filtered": 0,
        "nulls": {},
        "latencies": {},
    }
    return BatchSummary(partition, first, last, **plain | {"stored_at_ms": 1_700_000_000_123} | changes)


def firsts(book: Ledger, span: OffsetRange) -> list[int]:
    return [line.summary.first_offset for line in book.lines(span)]


def test_an_entry_is_read_as_it_was_written(book):
    """The outcome of an offset range is read back: counts, nulls, time and job."""
    first = summary(10, 19, partition=3, stored=5, deleted=2, rejected=2, filtered=1, nulls={"a": 3, "b": 1})
    book.write("job-1", 42, [first])
    assert list(book.lines(OffsetRange(3, 0, 100))) == [LedgerEntry(first, 42, "job-1")]


def test_a_range_written_again_is_one_entry(book):
    """A batch that is retried leaves the ledger as it was; another job's entry is separate."""
    book.write("job-1", 1, [summary(0, 9)])
    book.write("job-1", 1, [summary(0, 9)])
    book.write("job-2", 0, [summary(0, 9)])
    assert [line.job for line in book.lines(OffsetRange(0, 0, 10))] == ["job-1", "job-2"]


@pytest.fixture
def slept(session, monkeypatch) -> list[tuple[float, int]]:
    """Each sleep of the ledger, and how many statements were executed before it."""
    slept: list[tuple[float, int]] = []
    monkeypatch.setattr(ledger.time, "sleep", lambda seconds: slept.append((seconds, len(session.executed))))
    return slept


def test_entries_are_written_again_after_the_commit_log_lag(session, book, slept):
    """With a lag, the same entries are written after it for a second time, and remain one each."""
    lines = [summary(0, 9), summary(10, 19)]
    book.write("j", 1, lines, 0.01)
    assert slept == [(0.01, 2)]
    written = [values for query, values in session.executed if query.startswith("INSERT")]
    assert len(written) == 4
    assert written[:2] == written[2:]
    assert [line.summary for line in book.lines(OffsetRange(0, 0, 20))] == lines


def test_without_a_lag_entries_are_written_once(session, book, slept):
    """What is in the commit log when it is acknowledged needs no second write."""
    book.write("j", 1, [summary(0, 9), summary(10, 19)])
    book.write("j", 2, [summary(20, 29)], 0.0)
    assert slept == []
    assert len(session.executed) == 3


def test_entries_are_written_concurrently(session, book, monkeypatch):
    """All are sent before the first response is awaited, and each response is."""
    happened = []
    answered = SimpleNamespace(result=lambda: happened.append("answered"))
    monkeypatch.setattr(session, "execute_async", lambda *_: happened.append("sent") or answered)
    book.write("j", 1, [summary(at, at) for at in range(3)])
    assert happened == ["sent"] * 3 + ["answered"] * 3


@pytest.mark.parametrize("sync_lag_s", [0.0, 0.01])
def test_an_unacknowledged_entry_is_an_error(session, book, slept, sync_lag_s):
    """The batch does not count as written, and the lag is not awaited."""
    session._error = OperationTimedOut("late")
    with pytest.raises(OperationTimedOut):
        book.write("j", 1, [summary(0, 9)], sync_lag_s)
    assert slept == []


def test_an_unacknowledged_second_write_is_an_error(session, book, monkeypatch):
    """Only the second write guarantees that everything acknowledged before it is in the commit log."""

    def sleep(_seconds):
        session._error = OperationTimedOut("late")

    monkeypatch.setattr(ledger.time, "sleep", sleep)
    with pytest.raises(OperationTimedOut):
        book.write("j", 1, [summary(0, 9)], 0.01)


def test_only_entries_that_overlap_the_range_are_returned(book):
    """An entry counts if one of its offsets is in the range, in that partition."""
    book.write("j", 1, [summary(0, 9), summary(10, 19), summary(20, 29), summary(12, 13, partition=1)])
    assert firsts(book, OffsetRange(0, 9, 10)) == [0]
    assert firsts(book, OffsetRange(0, 10, 20)) == [10]
    assert firsts(book, OffsetRange(0, 9, 21)) == [0, 10, 20]
    assert firsts(book, OffsetRange(0, 30, 40)) == []
    assert firsts(book, OffsetRange(0, 0, 0)) == []


def test_entries_are_distributed_over_buckets(book, table):
    """No Cassandra partition grows without bound: an entry is in the bucket of its first offset."""
    book.write(
        "j",
        1,
        [
            summary(0, 5),
            summary(BUCKET_OFFSETS - 1, BUCKET_OFFSETS + 5),
            summary(3 * BUCKET_OFFSETS, 3 * BUCKET_OFFSETS),
        ],
    )
    assert [row["bucket"] for row in table.rows.values()] == [0, 0, 3]


def test_an_entry_that_starts_in_the_previous_bucket_is_found(book):
    """A range across two buckets is found from either side, and entries stay in offset order."""
    edge = BUCKET_OFFSETS
    book.write("j", 1, [summary(edge + 6, edge + 9), summary(edge - 5, edge + 5), summary(2 * edge, 2 * edge)])
    assert firsts(book, OffsetRange(0, edge, edge + 1)) == [edge - 5]
    assert firsts(book, OffsetRange(0, edge - 1, 2 * edge + 1)) == [edge - 5, edge + 6, 2 * edge]


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (OffsetRange(0, 0, 30), 20),
        (OffsetRange(0, 5, 30), 20),
        (OffsetRange(0, 25, 30), 25),
        (OffsetRange(1, 0, 30), 0),
        (OffsetRange(1, 7, 7), 7),
        (OffsetRange(0, 0, 5 * BUCKET_OFFSETS), 20),
    ],
)
def test_the_newest_entry_determines_the_last_covered_offset(book, span, expected):
    """The end of the newest entry, or else the start of the range."""
    book.write("j", 1, [summary(0, 9), summary(10, 19)])
    assert book.reached(span) == expected


def test_the_last_covered_offset_is_found_across_buckets(book):
    """The newest entry may start in the bucket before the one in which the range starts."""
    edge = BUCKET_OFFSETS
    book.write("j", 1, [summary(edge - 5, edge + 5)])
    assert book.reached(OffsetRange(0, 0, 2 * edge)) == edge + 6
    assert book.reached(OffsetRange(0, edge, 2 * edge)) == edge + 6
    assert book.reached(OffsetRange(0, edge + 10, 2 * edge)) == edge + 10
    book.write("j", 2, [summary(edge + 6, edge + 6)])
    assert book.reached(OffsetRange(0, edge, 2 * edge)) == edge + 7


def test_a_replay_does_not_affect_the_streams_position(book):
    """Entries of a replay are skipped, although they are newer and many."""
    book.write("stream", 1, [summary(0, 9)])
    book.write(f"{ledger.REPLAY}x", 1, [summary(at, at) for at in range(10, 40)])
    assert book.reached(OffsetRange(0, 0, 100)) == 10
    assert book.reached(OffsetRange(0, 20, 100)) == 20


def test_an_empty_ledger_covers_nothing(book):
    """Nothing was written: the result is the range's start, in whatever bucket it is."""
    assert book.reached(OffsetRange(0, 0, 0)) == 0
    assert book.reached(OffsetRange(0, 3 * BUCKET_OFFSETS, 9 * BUCKET_OFFSETS)) == 3 * BUCKET_OFFSETS


def test_incarnations_are_separate(session, book):
    """Offsets of a recreated topic are not those of its predecessor."""
    book.write("j", 1, [summary(0, 9)])
    assert list(Ledger(session, "ks", "t", EPOCH_US + 1).lines(OffsetRange(0, 0, 10))) == []
    assert list(Ledger(session, "ks", "other", EPOCH_US).lines(OffsetRange(0, 0, 10))) == []


def test_an_incarnation_starts_once(session, monkeypatch):
    """The first job that reads a topic starts its incarnation; every later one finds the same."""
    monkeypatch.setattr("time.time_ns", lambda: 9_000_000_000_000_000_000)
    assert ledger.read_epoch_us(session, "ks", "t", "id-1") is None
    assert ledger.begin_generation(session, "ks", "t", "id-1") == 9_000_000_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: 9_000_000_001_000_000_000)
    assert ledger.begin_generation(session, "ks", "t", "id-1") == 9_000_000_000_000_000
    assert ledger.read_epoch_us(session, "ks", "t", "id-1") == 9_000_000_000_000_000
    assert ledger.read_epoch_us(session, "ks", "other", "id-1") is None


def test_a_recreated_topic_has_a_later_timestamp_base_whatever_the_clock_says(session, monkeypatch):
    """Rows of a new incarnation win over earlier ones, even if the clock was set back."""
    monkeypatch.setattr("time.time_ns", lambda: 2_000_000_000_000_000)
    first = ledger.begin_generation(session, "ks", "t", "id-1")
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000_000_000)
    second = ledger.begin_generation(session, "ks", "t", "id-2")
    assert second - first >= 60_000_000


def test_a_recreated_topic_starts_after_every_offset_of_its_predecessor(session, monkeypatch):
    """A timestamp is base plus offset: with a hundred million records the next base has to be further ahead."""
    monkeypatch.setattr("time.time_ns", lambda: 2_000_000_000_000_000)
    first = ledger.begin_generation(session, "ks", "t", "id-1")
    Ledger(session, "ks", "t", first).write("j", 1, [summary(100_000_000, 100_900_000)])
    assert ledger.begin_generation(session, "ks", "t", "id-2") > first + 100_900_000
    assert ledger.begin_generation(session, "ks", "other", "id-3") == 2_000_000_000_000


def test_a_recreated_topic_starts_after_the_layouts_of_its_predecessor(session, table, monkeypatch):
    """The newest layout shifted what was written last."""
    monkeypatch.setattr("time.time_ns", lambda: 2_000_000_000_000_000)
    first = ledger.begin_generation(session, "ks", "t", "id-1")
    Ledger(session, "ks", "t", first).write("j", 1, [summary(0, 9)])
    insert = "INSERT INTO ks.layouts (topic, generation_us, partitions, shift_us, starts)"
    for layout in (("t", first, 4, 0, None), ("t", first, 6, 5_000_000_000_000, {0: 10})):
        table(insert, layout)
    assert ledger.read_layouts(session, "ks", "t", first) == [
        TopicLayout(4),
        TopicLayout(6, 5_000_000_000_000, {0: 10}),
    ]
    assert ledger.begin_generation(session, "ks", "t", "id-2") > first + 5_000_000_000_000


def test_tables_are_created_in_the_keyspace():
    """Ledger and incarnations are created if they do not exist, with the columns of an entry."""
    session = FakeSession()
    ledger.create_tables(session, "ks")
    lines, generations, layouts = created(session)
    assert "CREATE TABLE IF NOT EXISTS ks.ledger" in lines
    assert all(f"  {name} bigint" in lines for name in ("records", "stored", "deleted", "rejected", "filtered"))
    assert "  nulls map<text, bigint>" in lines
    assert "CREATE TABLE IF NOT EXISTS ks.generations" in generations
    assert "CREATE TABLE IF NOT EXISTS ks.layouts" in layouts


def test_times_are_utc(book, table):
    """The time of an entry is bound with its zone and read back as UTC."""
    book.write("j", 1, [summary(0, 0, stored_at_ms=1)])
    (row,) = table.rows.values()
    assert row["stored_at"] == datetime(1970, 1, 1, 0, 0, 0, 1000)
    assert next(book.lines(OffsetRange(0, 0, 1))).summary.stored_at_ms == 1
