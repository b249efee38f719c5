"""Rows that expire by a field: their TTLs when they are written, those that are too late, those that last too long."""

from datetime import UTC, datetime, timedelta
from struct import unpack

import pytest
from cassandra.cqltypes import BytesType
from cassandra.protocol import ColumnMetadata
from cassandra.query import PreparedStatement
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.batch import Decoded, Deletion
from penstock.contract.expiry import MAX_TTL_S
from penstock.contract.table import build_table
from penstock.contract.violation import Rule, Violation
from penstock.sink.expiring import find_ttl_problem, read_clock_ms
from penstock.sink.rows import RowWriter
from tests.unit.fakes import FakeSession
from tests.unit.framed import statements_in
from tests.unit.records import Reading, Session

NOW = datetime(2026, 11, 30, 12, 0, 0, 250_000, UTC)
NOW_MS = 1_796_040_000_250
SENT_MS = NOW_MS - 60_000
EPOCH_US = 1_700_000_000_000_000
YEAR = timedelta(days=365)


class Table(FakeSession):
    """A session that knows the server's settings, and a DELETE from an INSERT."""

    def __init__(self, mode: str | None = "NONE") -> None:
        super().__init__(self._settings)
        self._mode = mode

    def _settings(self, query, _values):
        if "storage_compatibility_mode" not in query:
            return [{"value": "1MiB"}]
        return [] if self._mode is None else [{"value": self._mode}]

    def prepare(self, query: str) -> PreparedStatement:
        if not query.startswith("DELETE"):
            return super().prepare(query)
        metadata = [ColumnMetadata("ks", "t", name, BytesType) for name in ("[timestamp]", "key")]
        return PreparedStatement(metadata, b"delete", [1], query, "ks", 5, None, None)


class Written:
    """What a batch of sessions sends: the TTL of each row and the write timestamp of each deletion, by sensor."""

    def __init__(self, *records, ttl="expires_at", table=None, deletions=(), **more) -> None:
        session = table or Table()
        declared = build_table("lab", "sessions", Session, ttl=ttl)
        more = {"epoch_us": EPOCH_US, "concurrency": 4, "clock_ms": lambda: NOW_MS} | more
        self.batch = Decoded([(record, SENT_MS, 0, at) for at, record in enumerate(records)], list(deletions))
        self.failures = RowWriter(session, declared, **more).write(self.batch)
        self.ttls_s, self.deleted_us = {}, {}
        for batch in session.batches:
            for query_id, values in statements_in(batch):
                if query_id == b"delete":
                    self.deleted_us[unpack(">i", values[1])[0]] = unpack(">q", values[0])[0]
                else:
                    self.ttls_s[unpack(">i", values[0])[0]] = unpack(">i", values[-1])[0]


def session(sensor: int, **fields) -> Session:
    return Session(sensor=sensor, celsius=1.0, **fields)


def test_a_row_is_written_with_what_remains_until_its_expiry():
    """In whole seconds, rounded up; never is 0, which also ends the TTL of an earlier version."""
    moments = [NOW + timedelta(milliseconds=1), NOW + timedelta(seconds=59, milliseconds=750), NOW + YEAR]
    written = Written(*(session(at, expires_at=moment) for at, moment in enumerate(moments)), session(3))
    assert (written.ttls_s, written.deleted_us, written.failures) == ({0: 1, 1: 60, 2: 31_536_001, 3: 0}, {}, [])


def test_a_duration_counts_from_kafkas_timestamp_not_from_the_write():
    """The record was sent a minute ago: its row has a minute less to live, up to the end of that second."""
    written = Written(session(1, lasts=timedelta(minutes=3)), session(2), ttl="lasts")
    assert written.ttls_s == {1: 121, 2: 0}


def test_a_row_that_has_expired_is_deleted_at_its_own_write_timestamp():
    """It is counted as stored. No older version stays, and no newer one is deleted."""
    late = [session(1, expires_at=NOW), session(2, expires_at=NOW - YEAR)]
    written = Written(session(0), *late)
    assert (written.ttls_s, written.deleted_us) == ({0: 0}, {1: EPOCH_US + 1, 2: EPOCH_US + 2})
    assert (len(written.batch.rows), written.batch.deletions, written.failures) == (3, [], [])


@pytest.mark.parametrize("lasts", [timedelta(0), timedelta(seconds=-1), timedelta(seconds=60)])
def test_a_time_that_is_over_is_a_deletion_too(lasts):
    """Also one that never began."""
    assert Written(session(1, lasts=lasts), ttl="lasts").deleted_us == {1: EPOCH_US}


def test_a_replay_after_the_expiry_deletes_what_the_first_write_left():
    """The same record, later: the write timestamp is the same, at which a deletion wins over a row."""
    record = session(1, expires_at=NOW + timedelta(seconds=5))
    assert Written(record).ttls_s == {1: 6}
    replayed = Written(record, clock_ms=lambda: NOW_MS + 5_000)
    assert (replayed.ttls_s, replayed.deleted_us) == ({}, {1: EPOCH_US})


def test_tombstones_are_written_beside_those_that_have_expired():
    """Both with their own write timestamps."""
    written = Written(session(1, expires_at=NOW), deletions=[Deletion(2, SENT_MS, 0, 7)])
    assert written.deleted_us == {1: EPOCH_US, 2: EPOCH_US + 7}


@pytest.mark.parametrize(
    ("mode", "last"), [("NONE", NOW + 20 * YEAR), ("CASSANDRA_4", datetime(2038, 1, 18, tzinfo=UTC)), (None, None)]
)
def test_an_expiry_that_cassandra_cannot_hold_is_a_fault_of_the_record(mode, last):
    """More than 20 years ahead, or after the last date of the server's storage format: 2038 until it is Cassandra 5's.

    Cut to that, the row would vanish before its time.
    """
    last = last or datetime(2038, 1, 18, tzinfo=UTC)
    moments = [last - timedelta(seconds=2), last + timedelta(seconds=2), datetime.max.replace(tzinfo=UTC)]
    written = Written(*(session(at, expires_at=moment) for at, moment in enumerate(moments)), table=Table(mode))
    assert written.ttls_s.keys() == {0}
    assert written.ttls_s[0] <= MAX_TTL_S
    message = f"ends after {last.date()}, the last day on which Cassandra can expire a row; write null for never"
    assert written.failures == [(0, at, Violation("expires_at", Rule.RANGE, message)) for at in (1, 2)]


def test_a_duration_without_kafkas_timestamp_is_a_fault_of_the_record():
    """It would have ended in 1970. A moment needs no timestamp, and neither does never."""
    batch = Decoded([(session(at, lasts=lasts), -1, 0, at) for at, lasts in enumerate((timedelta(days=1), None))])
    (failure,) = RowWriter(
        Table(), build_table("lab", "sessions", Session, ttl="lasts"), epoch_us=EPOCH_US, concurrency=4
    ).write(batch)
    assert failure == (0, 0, Violation("lasts", Rule.RANGE, "counts from Kafka's timestamp, which is missing"))


@given(
    st.lists(st.none() | st.integers(-3_000, 3_000).map(lambda ms: NOW + timedelta(milliseconds=ms)), max_size=8),
    st.integers(0, 2),
)
def test_every_row_is_written_once(expiries, more):
    """As a row if it is live, or else as a deletion; of rows that tie, only the last."""
    records = [session(at, expires_at=moment) for at, moment in enumerate(expiries)]
    written = Written(
        *records, deletions=[Deletion(100 + at, SENT_MS, 0, 100 + at) for at in range(more)], may_tie=True
    )
    live = {at for at, moment in enumerate(expiries) if moment is None or moment > NOW}
    assert written.ttls_s.keys() == live
    assert written.deleted_us.keys() == (set(range(len(expiries))) - live) | {100 + at for at in range(more)}


@pytest.mark.parametrize("ttl", [None, timedelta(days=1)])
def test_other_tables_are_written_as_before(ttl):
    """No TTL is bound, whatever the record has, and the server is not asked for its last date."""
    table = Table()
    writer = RowWriter(table, build_table("lab", "readings", Reading, ttl=ttl), epoch_us=EPOCH_US, concurrency=4)
    assert writer.write(Decoded([(Reading(sensor=1, celsius=1.0), SENT_MS, 0, 5)])) == []
    ((_, values),) = statements_in(table.batches[0])
    assert unpack(">q", values[-1])[0] == EPOCH_US + 5
    assert not any("compatibility" in query for query, _ in table.executed)


@pytest.mark.parametrize(
    ("mode", "years", "fits"),
    [("NONE", 19, True), ("CASSANDRA_4", 11, True), ("CASSANDRA_4", 12, False), ("UPGRADING", 12, False)],
)
def test_a_ttl_that_the_server_would_refuse_for_every_row_is_a_problem(mode, years, fits):
    """It is known before the first batch fails: with the server's last date, and what to change."""
    table = build_table("lab", "readings", Reading, ttl=years * YEAR)
    problem = find_ttl_problem(Table(mode), table, NOW)
    assert (problem == "") is fits
    assert fits or problem.startswith(
        "its TTL of 378432000 s ends on 2038-11-27, and Cassandra can expire rows until 2038-01-18"
    )


def test_a_table_without_a_ttl_of_its_own_is_no_problem():
    """The server is not asked."""
    session = Table()
    for ttl in (None, "lasts"):
        assert find_ttl_problem(session, build_table("lab", "sessions", Session, ttl=ttl), NOW) == ""
    assert session.executed == []


def test_the_clock_is_the_time_of_day():
    """It is the one that producers set expiries by."""
    assert abs(read_clock_ms() - datetime.now(UTC).timestamp() * 1000) < 5_000
