import struct
from datetime import UTC, datetime, timedelta, timezone
from struct import pack, unpack
from typing import Annotated
from unittest.mock import Mock
from weakref import WeakValueDictionary

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unauthorized, WriteTimeout, WriteType
from cassandra.cluster import NoHostAvailable
from cassandra.cqltypes import BytesType
from cassandra.protocol import ColumnMetadata
from cassandra.query import BatchStatement, BatchType, PreparedStatement
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.batch import Decoded, Deletion
from penstock.contract.cql import build_delete_encoder, build_encoder
from penstock.contract.fields import to_epoch_ms
from penstock.contract.record import KEY, Record
from penstock.contract.table import build_table
from penstock.errors import StoreFailed
from penstock.sink import rows
from penstock.sink.encoded import EncodedBatches, head_of
from penstock.sink.rows import RowWriter
from tests.unit.fakes import FakeSession
from tests.unit.framed import TYPES, statements_in, values_in
from tests.unit.keyed import SAMPLES, Sample
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything

EPOCH_US = 1_700_000_000_000_000
ROW_BYTES = 5 * 16 + len(head_of(b"id", 6)) + 6 * 4 + 4 + 8 + 8 + 4 + 8 + 8
"""What a reading weighs: five cells, and the statement, whose six values have each a length before them."""


class Rows(FakeSession):
    """A session that knows the position of the key in a DELETE: after the write timestamp."""

    def prepare(self, query: str) -> PreparedStatement:
        if not query.startswith("DELETE"):
            return super().prepare(query)
        metadata = [ColumnMetadata("ks", "t", name, BytesType) for name in ("[timestamp]", "key")]
        return PreparedStatement(metadata, b"delete", [1], query, "ks", 5, None, None)


def writer_of(session: FakeSession, record=Reading, limit: str = "5KiB", **more) -> RowWriter:
    session._answer = lambda *_: [{"value": limit}]
    return RowWriter(session, build_table("lab", "readings", record), epoch_us=EPOCH_US, concurrency=4, **more)


def reading(sensor: int, offset: int = 0):
    return Reading(sensor=sensor, celsius=1.5), 1000, 2, offset


def weight(batch: BatchStatement) -> int:
    """The server's upper bound of a statement's size: the values, and the overhead of each cell."""
    return sum(16 + len(value or b"") for sent in statements_in(batch) for value in sent.values)


def deletion(sensor: int, offset: int = 0) -> Deletion:
    return Deletion(sensor, 1000, 2, offset)


def keys(batch: BatchStatement) -> list[bytes]:
    return [sent.values[0] for sent in statements_in(batch)]


def test_a_row_is_bound_as_encoded():
    """A row's cells are those of the contract's encoder; its write timestamp is the base plus its offset."""
    session = FakeSession()
    writer_of(session, limit="1MiB").write(Decoded([reading(7, offset=5)]))
    (batch,) = session.batches
    ((query_id, values),) = statements_in(batch)
    (framed,) = build_encoder(build_table("lab", "readings", Reading))([reading(7, offset=5)], [EPOCH_US + 5])
    assert query_id == b"id"
    assert values == values_in(framed)
    assert unpack(">q", values[-1])[0] == EPOCH_US + 5


def test_a_deletion_is_bound_as_encoded():
    """Key and write timestamp are encoded like a row's."""
    session = Rows()
    writer_of(session, limit="1MiB").write(Decoded([], [deletion(7, offset=5)]))
    (batch,) = session.batches
    ((query_id, values),) = statements_in(batch)
    assert query_id == b"delete"
    assert batch.routing_key == pack(">i", 7)
    assert (
        values
        == values_in(build_delete_encoder(build_table("lab", "readings", Reading))(7, EPOCH_US + 5))
        == [pack(">q", EPOCH_US + 5), pack(">i", 7)]
    )


def test_rows_and_deletions_of_one_replica_set_share_a_batch():
    """They are sent to their nodes together; each statement keeps its own write timestamp."""
    session = Rows()
    writer_of(session, limit="1MiB").write(Decoded([reading(3, 1), reading(6, 2)], [deletion(3, 3), deletion(9, 4)]))
    (batch,) = session.batches
    assert sorted(write_times(batch)) == [EPOCH_US + offset for offset in (1, 2, 3, 4)]


def test_records_with_another_shift_have_their_own_write_timestamp():
    """Of an older layout, or redriven: rows and deletions alike; the others have the shift of the batch."""
    session = Rows()
    shifts = {(2, 2): -1, (2, 4): 7}
    rows, deletions = [reading(3, 1), reading(6, 2)], [deletion(3, 3), deletion(9, 4)]
    writer_of(session, limit="1MiB").write(Decoded(rows, deletions, shift_us=100, shifts=shifts))
    (batch,) = session.batches
    assert sorted(write_times(batch)) == [EPOCH_US + at for at in (1, 11, 101, 103)]


def write_times(batch: BatchStatement) -> list[int]:
    """The write timestamps: the last value of a row, the first of a deletion."""
    every = [values for _, values in statements_in(batch)]
    return [unpack(">q", values[0] if len(values) == 2 else values[-1])[0] for values in every]


@given(st.lists(st.integers(0, 99), max_size=12), st.lists(st.integers(0, 99), max_size=12), st.integers(0, 400))
def test_every_row_and_deletion_is_in_one_batch(stored, deleted, limit):
    """Whatever their number and the limit: each is sent once, and no batch of more than one is above the limit."""
    session = Rows()
    rows_ = [reading(sensor, at) for at, sensor in enumerate(stored)]
    deletions = [deletion(sensor, 100 + at) for at, sensor in enumerate(deleted)]
    writer_of(session, limit=str(limit)).write(Decoded(rows_, deletions))
    sent = sorted(time - EPOCH_US for batch in session.batches for time in write_times(batch))
    assert sent == [*range(len(stored)), *range(100, 100 + len(deleted))]
    assert all(len(batch) == 1 or weight(batch) <= limit for batch in session.batches)


def test_an_unacknowledged_deletion_fails():
    """A deletion is not lost silently either."""
    session = Rows()
    writer = writer_of(session)
    session._error = OperationTimedOut("late")
    with pytest.raises(StoreFailed, match=r"lab.readings: OperationTimedOut"):
        writer.write(Decoded([], [deletion(1)]))


def test_a_role_without_write_permission_gets_a_hint():
    """The job's log says what to grant."""
    session = Rows()
    writer = writer_of(session)
    session._error = Unauthorized("User app has no MODIFY permission on <table lab.readings> or any of its parents")
    with pytest.raises(StoreFailed, match="Unauthorized") as failed:
        writer.write(Decoded([], [deletion(1)]))
    assert "GRANT MODIFY ON TABLE lab.readings TO app" in failed.value.hint


def test_a_batch_contains_one_replica_set():
    """Rows are grouped with those on the same nodes, in unlogged batches."""
    session = FakeSession()
    writer_of(session, limit="1MiB").write(Decoded([reading(number) for number in range(30)]))
    assert len(session.batches) == 3
    for batch in session.batches:
        assert batch.batch_type == BatchType.UNLOGGED
        assert len({session.cluster.metadata.get_replicas("lab", key)[0] for key in keys(batch)}) == 1
        assert batch.routing_key in keys(batch)
        assert batch.keyspace == "lab"


def test_one_node_is_one_group():
    """If one node has every row, replicas are not looked up: the rows stay together, in their original order."""
    session = FakeSession()
    session.cluster.metadata.hosts = ["host-0"]
    session.cluster.metadata.get_replicas = lambda *_: pytest.fail("replicas were looked for")
    writer_of(session, limit="1MiB").write(Decoded([reading(number) for number in range(30)]))
    (batch,) = session.batches
    assert keys(batch) == [pack(">i", number) for number in range(30)]
    assert (batch.batch_type, batch.keyspace) == (BatchType.UNLOGGED, "lab")
    assert batch.routing_key in keys(batch)


def test_batches_of_one_node_stay_below_the_limit():
    """One group is sent in as many batches as it needs, and no rows are no batch."""
    session = FakeSession()
    session.cluster.metadata.hosts = ["host-0"]
    writer = writer_of(session, limit=f"{3 * ROW_BYTES}B")
    writer.write(Decoded([reading(number) for number in range(7)]))
    assert [len(batch) for batch in session.batches] == [3, 3, 1]
    writer.write(Decoded([]))
    assert len(session.batches) == 3


def test_the_session_uses_the_encoder_for_such_batches():
    """The statements are bytes already: the driver's own handler would take them for the ids of statements."""
    session = FakeSession()
    writer_of(session)
    assert session.client_protocol_handler is EncodedBatches


def test_references_to_the_prepared_statements_are_kept():
    """The driver knows them as long as they are referenced, and prepares them again on a node that restarted."""
    known: WeakValueDictionary[bytes, PreparedStatement] = WeakValueDictionary()

    class Weak(Rows):
        def prepare(self, query: str) -> PreparedStatement:
            prepared = super().prepare(query)
            known[prepared.query_id] = prepared
            return prepared

    writer = writer_of(Weak())
    assert set(known) == {b"id", b"delete"}
    del writer
    assert not known


def test_a_batch_stays_below_the_limit():
    """A batch is closed before it exceeds the server's warning threshold."""
    for limit, lengths in ((3 * ROW_BYTES, [3, 3, 1]), (3 * ROW_BYTES - 1, [2, 2, 2, 1])):
        session = FakeSession()
        writer_of(session, limit=f"{limit}B").write(Decoded([reading(3 * number) for number in range(7)]))
        assert [len(batch) for batch in session.batches] == lengths
        assert all(weight(batch) <= limit for batch in session.batches)


@given(st.lists(everything(), max_size=12), st.integers(0, 3000))
def test_every_row_is_in_one_batch(records, limit):
    """Whatever the rows and the limit: each is sent once, and a batch of more than one row is below the limit."""
    session = FakeSession()
    writer_of(session, Everything, str(limit)).write(Decoded([(item, 0, 0, at) for at, item in enumerate(records)]))
    sent = [unpack(">q", values[-1])[0] for batch in session.batches for _, values in statements_in(batch)]
    assert sorted(sent) == [EPOCH_US + at for at in range(len(records))]
    assert all(len(batch) == 1 or weight(batch) <= limit for batch in session.batches)


def test_a_row_above_the_limit_is_sent_alone():
    """It is not dropped."""
    session = FakeSession()
    writer_of(session, limit=f"{ROW_BYTES - 1}B").write(Decoded([reading(3), reading(6)]))
    assert [len(batch) for batch in session.batches] == [1, 1]


def test_without_rows_there_are_no_batches():
    """Nothing to store is no error."""
    session = FakeSession()
    writer_of(session).write(Decoded([]))
    assert session.batches == []


@pytest.mark.parametrize(
    "error",
    [
        WriteTimeout("late", write_type=WriteType.BATCH),
        OperationTimedOut("late"),
        NoHostAvailable("none", {}),
        InvalidRequest("no such table"),
    ],
    ids=repr,
)
def test_an_unacknowledged_row_fails(error):
    """Any Cassandra error fails the write, with the table and the message."""
    session = FakeSession()
    writer = writer_of(session)
    session._error = error
    with pytest.raises(StoreFailed, match=rf"lab.readings: {type(error).__name__}"):
        writer.write(Decoded([reading(1)]))


class Worded(Record, frozen=True, kw_only=True):
    """A text and a time, whose types alone do not guarantee that they can be stored."""

    sensor: Annotated[int, Meta(ge=0, le=1_000_000, extra=KEY)]
    note: str
    at: Annotated[datetime, Meta(tz=True)]


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
UNENCODABLE = {
    "a lone surrogate": (Worded(sensor=1, note="\ud800", at=NOON), UnicodeEncodeError),
    "a time without a zone": (Worded(sensor=1, note="", at=NOON.replace(tzinfo=None)), TypeError),
    "a number out of range": (Worded(sensor=2**40, note="", at=NOON), struct.error),
    "a value of another type": (Worded(sensor=1, note=None, at=NOON), TypeError),
}


@pytest.mark.parametrize(("record", "error"), UNENCODABLE.values(), ids=UNENCODABLE)
def test_a_row_that_cannot_be_encoded_is_returned(record, error):
    """The rows and deletions of its batch are stored; its position and its error are returned."""
    session = Rows()
    session.cluster.metadata.hosts = ["host-0"]
    good = Worded(sensor=7, note="x", at=NOON)
    rows = [(good, 1000, 2, 4), (record, 1000, 2, 5), (good, 1000, 2, 6)]
    (result,) = writer_of(session, Worded, limit="1MiB").write(Decoded(rows, [deletion(8, offset=7)]))
    assert (result.partition, result.offset, type(result.error)) == (2, 5, error)
    (batch,) = session.batches
    assert [unpack(">q", sent.values[-1 if sent.query_id == b"id" else 0])[0] for sent in statements_in(batch)] == [
        EPOCH_US + offset for offset in (4, 6, 7)
    ]


def test_a_deletion_that_cannot_be_encoded_is_returned():
    """Its key has no row; the others are deleted."""
    session = Rows()
    (result,) = writer_of(session).write(Decoded([], [deletion(2**40, offset=5), deletion(7, offset=6)]))
    assert (result.partition, result.offset, type(result.error)) == (2, 5, struct.error)
    assert len(session.batches) == 1


def test_valid_rows_are_encoded_once():
    """No row is tried alone as long as none fails."""
    writer = writer_of(FakeSession())
    encode = Mock(side_effect=writer._encode)
    writer._encode = encode
    assert writer.write(Decoded([reading(number) for number in range(30)])) == []
    assert encode.call_count == 1


def test_lack_of_memory_is_not_blamed_on_a_row():
    """The batch fails, and is retried."""
    writer = writer_of(FakeSession())
    writer._encode = Mock(side_effect=MemoryError)
    with pytest.raises(MemoryError):
        writer.write(Decoded([reading(1)]))


def test_the_limit_is_the_servers_own():
    """The server is asked for its warning threshold."""
    session = FakeSession(lambda *_: [{"value": "5KiB"}])
    assert rows.batch_limit_bytes(session) == 5120
    assert "batch_size_warn_threshold" in session.executed[0][0]


@pytest.mark.parametrize(
    ("size", "bytes_"), [("5KiB", 5120), ("1MiB", 2**20), ("2GiB", 2**31), ("300B", 300), ("5120", 5120)]
)
def test_sizes_with_a_unit_are_parsed(size, bytes_):
    """Cassandra writes sizes with a unit."""
    assert rows._parse_size(size) == bytes_


def test_routing_keys_are_bytes():
    """A routing key is the key's CQL bytes, by which the driver finds its replicas."""
    session = FakeSession()
    writer_of(session).write(Decoded([reading(7)]))
    assert keys(session.batches[0]) == [pack(">i", 7)]


@pytest.mark.parametrize(("may_tie", "written"), [(True, [8]), (False, [7, 8, 9])])
def test_only_the_last_of_versions_that_tie_is_written(may_tie, written):
    """Cassandra would mix their columns; where no two can have one write timestamp, ties are not searched for."""
    batch = Decoded([reading(1, 7), reading(1, 8)], [deletion(1, 6)])
    batch.shifts = {(2, offset): 9 - offset for offset in (6, 7, 8)}
    if not may_tie:
        batch = Decoded([reading(1, 7), reading(1, 8)], [deletion(1, 9)])
    session = Rows()
    writer_of(session, may_tie=may_tie).write(batch)
    times = [time - EPOCH_US for each in session.batches for time in write_times(each)]
    assert sorted(times) == ([9] if may_tie else written)
    assert len(batch.rows) == 2


SERIES = SAMPLES.build_table("lab")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def sample(sensor: str, at: datetime, offset: int, celsius: float = 1.5):
    return Sample(sensor=sensor, at=at, celsius=celsius), 1000, 2, offset


def series_writer(session: FakeSession, **more) -> RowWriter:
    session._answer = lambda *_: [{"value": "1MiB"}]
    return RowWriter(session, SERIES, epoch_us=EPOCH_US, concurrency=4, **more)


def test_a_row_of_several_key_fields_is_bound_with_its_derived_columns():
    """And its deletion has every column of the primary key, in order."""
    session = Rows()
    series_writer(session).write(Decoded([sample("a", NOON, 1)], [Deletion(("a", NOON), 1000, 2, 2)]))
    (batch,) = session.batches
    row, deleted = (sent.values for sent in statements_in(batch))
    day = TYPES["date"].serialize(NOON.date(), 5)
    assert row[:4] == [b"a", pack(">q", to_epoch_ms(NOON)), pack(">d", 1.5), day]
    assert deleted == [pack(">q", EPOCH_US + 2), b"a", day, pack(">q", to_epoch_ms(NOON))]
    assert batch.routing_key == SERIES.routing_key(("a", NOON))


def test_batches_are_grouped_by_the_whole_partition_key():
    """Rows and deletions of one partition share a batch, whatever their clustering columns."""
    session = Rows()
    session.cluster.metadata.get_replicas = lambda keyspace, key: [key]
    days = [NOON + timedelta(hours=hours) for hours in (0, 1, 24)]
    deletions = [Deletion(("a", days[0]), 1000, 2, 9), Deletion(("b", days[0]), 1000, 2, 10)]
    series_writer(session).write(Decoded([sample("a", day, at) for at, day in enumerate(days)], deletions))
    assert {batch.routing_key: len(batch) for batch in session.batches} == {
        SERIES.routing_key(("a", days[0])): 3,
        SERIES.routing_key(("a", days[2])): 1,
        SERIES.routing_key(("b", days[0])): 1,
    }


def test_of_versions_of_one_identity_with_one_timestamp_the_last_is_written():
    """One moment in two zones is one identity; another moment is another."""
    session = Rows()
    east = NOON.astimezone(timezone(timedelta(hours=3)))
    rows_ = [sample("a", NOON, 1, 1.0), sample("a", east, 2, 2.0), sample("a", NOON + timedelta(seconds=1), 3, 3.0)]
    deletions = [Deletion(("b", NOON), 1000, 2, 4)]
    shifts = {(2, offset): -offset for offset in (1, 2, 3, 4)}
    series_writer(session, may_tie=True).write(Decoded(rows_, deletions, shifts=shifts))
    sent = [sent.values for batch in session.batches for sent in statements_in(batch)]
    assert sorted(unpack(">d", values[2])[0] for values in sent if len(values) == 8) == [2.0, 3.0]
    assert len(sent) == 3
