"""The messages of encoded batches, compared with those of cassandra-driver."""

from datetime import UTC, datetime
from operator import attrgetter
from struct import pack
from uuid import UUID

import pytest
from cassandra import ConsistencyLevel, cqltypes
from cassandra.protocol import (
    BatchMessage,
    ColumnMetadata,
    ExecuteMessage,
    PrepareMessage,
    ProtocolHandler,
    QueryMessage,
)
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement, PreparedStatement
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.batch import Decoded, Deletion
from penstock.contract.fields import fields, from_epoch_ms
from penstock.contract.identity import identity_of
from penstock.contract.table import build_table
from penstock.sink.encoded import EncodedBatch, EncodedBatches, head_of
from penstock.sink.rows import RowWriter
from tests.unit.fakes import FakeSession
from tests.unit.framed import TYPES, statements_in
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything, moments, to_ms

EPOCH_US = 1_700_000_000_000_000
VERSIONS = [4, 5]
INSERT_ID, DELETE_ID = b"\x00\x01" * 8, b"\xff\xfe" * 8


def prepared(query_id: bytes, columns: dict[str, type]) -> PreparedStatement:
    metadata = [ColumnMetadata("ks", "t", name, kind) for name, kind in columns.items()]
    return PreparedStatement(metadata, query_id, [0], "", "ks", 5, None, None)


def message_of(batch: BatchStatement, version: int, **more) -> BatchMessage:
    """The message that the driver's session creates for a batch."""
    keyspace = batch.keyspace if version == 5 else None
    level = batch.consistency_level or ConsistencyLevel.LOCAL_QUORUM
    return BatchMessage(batch.batch_type, batch._statements_and_parameters, level, keyspace=keyspace, **more)


def by_the_driver(message, version: int, compressor=None) -> bytes:
    return ProtocolHandler.encode_message(message, 7, version, compressor, False)


def by_us(message, version: int, compressor=None) -> bytes:
    return EncodedBatches.encode_message(message, 7, version, compressor, allow_beta_protocol_version=False)


def add_lengths(values: list[bytes | None]) -> bytes:
    return b"".join(pack(">i", -1) if value is None else pack(">i", len(value)) + value for value in values)


statements = st.lists(
    st.tuples(st.binary(min_size=1, max_size=20), st.lists(st.none() | st.binary(max_size=300), max_size=8)),
    max_size=6,
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "serial_consistency_level": st.sampled_from([ConsistencyLevel.SERIAL, ConsistencyLevel.LOCAL_SERIAL]),
        "timestamp": st.integers(0, 2**63 - 1),
    },
)


def both(result: list[tuple[bytes, list[bytes | None]]]) -> tuple[BatchStatement, EncodedBatch]:
    """A batch of bound statements, and the same one encoded."""
    theirs = BatchStatement(BatchType.UNLOGGED)
    for query_id, values in result:
        statement = BoundStatement(prepared(query_id, {f"c{at}": cqltypes.BytesType for at in range(len(values))}))
        statement.values = values
        theirs.add(statement)
    theirs.keyspace = "ks"
    return theirs, EncodedBatch(
        (head_of(item, len(values)) + add_lengths(values) for item, values in result), "ks", b"key"
    )


@pytest.mark.parametrize("version", VERSIONS)
@given(found=statements, more=extras, level=st.sampled_from(sorted(ConsistencyLevel.value_to_name)))
def test_the_message_is_the_drivers_own(version, found, more, level):
    """With any ids and values, including nulls, and any options after them: byte for byte what the driver writes."""
    theirs, ours = both(found)
    theirs.consistency_level = ours.consistency_level = level
    assert by_us(message_of(ours, version, **more), version) == by_the_driver(
        message_of(theirs, version, **more), version
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_frame_header_is_the_drivers_own(version):
    """Tracing, a payload and compression are in the header as for any other message."""
    theirs, ours = (message_of(item, version) for item in both([(INSERT_ID, [b"a" * 200, None])] * 3))
    for record in (theirs, ours):
        record.tracing = True
        record.update_custom_payload({"a": b"b"})
    for compressor in (None, lambda body: b"compressed %d" % len(body)):
        assert by_us(ours, version, compressor) == by_the_driver(theirs, version, compressor)


def test_a_message_can_be_written_again():
    """A batch is sent to the next node, or retried, unchanged."""
    _, ours = both([(INSERT_ID, [b"a"]), (DELETE_ID, [None])])
    message = message_of(ours, 5)
    assert by_us(message, 5) == by_us(message, 5)
    assert len(statements_in(ours)) == len(message.queries) == 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "message",
    [
        QueryMessage("SELECT * FROM t WHERE a = 1", ConsistencyLevel.QUORUM, fetch_size=10),
        ExecuteMessage(INSERT_ID, [b"a", None], ConsistencyLevel.ONE, result_metadata_id=b"r"),
        PrepareMessage("SELECT * FROM t WHERE a = ?"),
    ],
    ids=attrgetter("name"),
)
def test_another_message_is_unchanged(version, message):
    """The session still queries, and prepares again what a node has forgotten."""
    assert by_us(message, version) == by_the_driver(message, version)


class Typed(FakeSession):
    """A session that prepares the statements of a record like Cassandra, with the types of their columns."""

    def __init__(self, record) -> None:
        super().__init__(lambda *_: [{"value": "1MiB"}])
        self.cluster.metadata.hosts = ["host-0"]
        columns = {name: TYPES[kind] for name, kind in build_table("ks", "t", record).columns.items()}
        key = identity_of(record).names[0]
        self.insert = prepared(INSERT_ID, columns | {"[timestamp]": cqltypes.LongType})
        self.delete = prepared(DELETE_ID, {"[timestamp]": cqltypes.LongType, key: columns[key]})

    def prepare(self, query: str) -> PreparedStatement:
        return self.insert if query.startswith("INSERT") else self.delete


def assert_written_as_bound(version: int, record, rows, deletions, *, leaves_unset: bool = False) -> None:
    """Assert that a writer sends what the driver sends for the same values."""
    session = Typed(record)
    writer = RowWriter(
        session, build_table("ks", "t", record), epoch_us=EPOCH_US, concurrency=4, leaves_unset=leaves_unset
    )
    writer.write(Decoded(rows, deletions))
    (ours,) = session.batches
    theirs = BatchStatement(BatchType.UNLOGGED)
    for deletion, timestamp_ms, partition, offset in rows:
        values = [getattr(deletion, field.name) for field in fields(record)]
        if leaves_unset:
            values = [UNSET_VALUE if value is None else value for value in values]
        theirs.add(session.insert, [*values, from_epoch_ms(timestamp_ms), partition, offset, EPOCH_US + offset])
    for deletion in deletions:
        theirs.add(session.delete, [EPOCH_US + deletion.offset, deletion.key])
    assert theirs.keyspace == ours.keyspace == "ks"
    assert by_us(message_of(ours, version), version) == by_the_driver(message_of(theirs, version), version)


@pytest.mark.parametrize("version", VERSIONS)
@given(
    records=st.lists(everything(moments.map(to_ms)), min_size=1, max_size=4), deleted=st.lists(st.uuids(), max_size=3)
)
def test_rows_and_deletions_are_written_as_the_driver_binds_them(version, records, deleted):
    """For values of every type, and None, inserts and deletions mixed, the whole message is the driver's."""
    rows = [(item, 1_700_000_000_123 + at, at, 10 * at) for at, item in enumerate(records)]
    deletions = [Deletion(key, 0, 0, 100 + at) for at, key in enumerate(deleted)]
    assert_written_as_bound(version, Everything, rows, deletions)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_readable_batch_is_written_as_the_driver_binds_it(version):
    """Nulls, an empty text, a long text, and another record."""
    plain = {"other_id": UUID(int=6), "moment": datetime(2020, 1, 1, tzinfo=UTC), "small": -1, "big": 2**40}
    record = Everything(id=UUID(int=5), text="", ratio=0.5, flag=True, **plain)
    other = Everything(
        id=UUID(int=7), text="ë" * 2000, ratio=-0.0, flag=False, maybe_text="", maybe_flag=False, **plain
    )
    rows = [(record, 1, 2, 3), (other, 4, 5, 6)]
    assert_written_as_bound(version, Everything, rows, [Deletion(UUID(int=5), 0, 0, 9)])
    assert_written_as_bound(
        version, Reading, [(Reading(sensor=7, celsius=1.5), 1, 2, 3)], [Deletion(8, 0, 0, 1), Deletion(7, 0, 0, 2)]
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_nulls_may_be_left_unset(version):
    """As the driver binds UNSET_VALUE: nothing is written to the column, while a null would be a tombstone."""
    assert_written_as_bound(version, Reading, [(Reading(sensor=7, celsius=1.5), 1, 2, 3)], [], leaves_unset=True)
    plain = {"other_id": UUID(int=6), "moment": datetime(2020, 1, 1, tzinfo=UTC), "small": -1, "big": 2**40}
    record = Everything(id=UUID(int=5), text="", ratio=0.5, flag=True, maybe_text="x", **plain)
    assert None in [getattr(record, field.name) for field in fields(Everything)]
    assert_written_as_bound(version, Everything, [(record, 1, 2, 3)], [], leaves_unset=True)


def test_a_batch_is_routed_to_its_first_row():
    """Keyspace and routing key are the given ones, and it is unlogged."""
    batch = EncodedBatch([b"a", b"b"], "ks", b"key")
    assert (batch.batch_type, batch.keyspace, batch.routing_key) == (BatchType.UNLOGGED, "ks", b"key")
    assert len(batch) == 2
