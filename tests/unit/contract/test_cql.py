from datetime import UTC, datetime, timedelta
from struct import unpack

import pytest
from cassandra import cqltypes
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract import cql
from penstock.contract.fields import epoch_ms, fields
from penstock.contract.record import Arrival
from penstock.pipelines.users import User
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything, users

TYPES = {
    "text": cqltypes.UTF8Type,
    "uuid": cqltypes.UUIDType,
    "timestamp": cqltypes.DateType,
    "int": cqltypes.Int32Type,
    "bigint": cqltypes.LongType,
    "double": cqltypes.DoubleType,
    "boolean": cqltypes.BooleanType,
}
HALF_MS = timedelta(microseconds=500)


def driver_reads(cql_name: str, encoded: bytes | None):
    """What the driver makes of a cell; a timestamp to the ms: the driver counts them in floating point."""
    if encoded is None:
        return None
    value = TYPES[cql_name].deserialize(encoded, 5)
    if cql_name != "timestamp":
        return value
    return epoch_ms(min(value, datetime.max - HALF_MS).replace(tzinfo=UTC) + HALF_MS)


def expected(value):
    return epoch_ms(value) if isinstance(value, datetime) else value


def assert_driver_reads(record):
    encoded = cql.encoder(type(record))(record, 1, 2, 3, 4)
    for field, cell in zip(fields(type(record)), encoded, strict=False):
        assert driver_reads(field.kind.cql, cell) == expected(getattr(record, field.name)), field.name


@given(users())
def test_the_driver_reads_every_user_as_it_was(user):
    """The bytes bound for a user are those that cassandra-driver decodes to its values."""
    assert_driver_reads(user)


@given(everything())
def test_the_driver_reads_every_type_as_it_was(record):
    """The bytes bound for each type, None included, are those that cassandra-driver decodes to its value."""
    assert_driver_reads(record)


@given(everything())
def test_moments_are_bound_to_the_millisecond(record):
    """A timestamp cell holds the whole milliseconds of the moment in its own zone, exactly."""
    cells = dict(
        zip((field.name for field in fields(Everything)), cql.encoder(Everything)(record, 0, 0, 0, 0), strict=False)
    )
    assert unpack(">q", cells["moment"])[0] == epoch_ms(record.moment)


@given(st.integers(0, 2**41), st.integers(0, 2**31 - 1), st.integers(0, 2**62), st.integers(0, 2**62))
def test_arrival_and_write_time_stand_after_the_record(timestamp_ms, partition, offset, write_us):
    """The record's cells are followed by arrival time, partition, offset and write timestamp."""
    encoded = cql.encoder(Reading)(Reading(sensor=7, celsius=1.5), timestamp_ms, partition, offset, write_us)
    values = [unpack(kind, cell)[0] for kind, cell in zip((">i", ">d", ">q", ">i", ">q", ">q"), encoded, strict=True)]
    assert values == [7, 1.5, timestamp_ms, partition, offset, write_us]


def test_table_of_each_type():
    """The table has a column for each field, then the arrival, and the key as primary key."""
    assert cql.create_table("ks", "t", Everything) == "\n".join(
        [
            "CREATE TABLE IF NOT EXISTS ks.t (",
            "  id uuid,",
            "  text text,",
            "  other_id uuid,",
            "  moment timestamp,",
            "  small int,",
            "  big bigint,",
            "  ratio double,",
            "  flag boolean,",
            "  maybe_text text,",
            "  maybe_id uuid,",
            "  maybe_moment timestamp,",
            "  maybe_small int,",
            "  maybe_big bigint,",
            "  maybe_ratio double,",
            "  maybe_flag boolean,",
            "  ingested_at timestamp,",
            "  kafka_partition int,",
            "  kafka_offset bigint,",
            "  PRIMARY KEY (id)",
            ")",
        ]
    )


def test_keyspace():
    """The keyspace is made with the replication that is given, when it is not there."""
    assert cql.create_keyspace("ks", "{'class': 'X'}") == (
        "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = {'class': 'X'}"
    )


def test_insert_names_the_columns_that_the_encoder_fills():
    """The INSERT has one mark for each encoded value; the last is the write timestamp."""
    text = cql.insert("ks", "t", Reading)
    assert text == (
        "INSERT INTO ks.t (sensor, celsius, ingested_at, kafka_partition, kafka_offset) "
        "VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
    )
    assert text.count("?") == len(cql.encoder(Reading)(Reading(sensor=1, celsius=1.0), 0, 0, 0, 0))


def test_every_column_of_a_user_is_in_table_and_insert():
    """Table and INSERT hold the same columns: the user's and the arrival's."""
    names = [one.name for one in (*fields(User), *fields(Arrival))]
    insert = cql.insert("ks", "t", User)
    table = cql.create_table("ks", "t", User)
    assert all(name in insert and f"  {name} " in table for name in names)


@pytest.mark.parametrize("wrong", ["", "1a", "Upper", "a-b", "a;DROP", 'a"', "a b", "a" * 49, "ä", "a\n"])
def test_a_name_that_needs_quotes_is_refused(wrong):
    """Keyspace, table and column names are plain: nothing can be slipped into a statement."""
    with pytest.raises(ValueError, match="not a CQL name"):
        cql.name(wrong)
    with pytest.raises(ValueError, match="not a CQL name"):
        cql.create_table("ks", wrong, Reading)


def test_a_plain_name_is_taken():
    """Lower-case letters, digits and _, at most 48."""
    assert cql.name("a" * 48) == "a" * 48
    assert cql.name("a_1") == "a_1"


def test_columns_are_those_of_the_table():
    """The columns, in order, are those that the table is made with."""
    lines = cql.create_table("ks", "t", Everything).splitlines()[1:-2]
    assert [f"  {name} {kind}," for name, kind in cql.columns(Everything).items()] == lines


def test_a_column_is_added():
    """The statement names table, column and type."""
    assert cql.add_column("ks", "t", "age", "int") == "ALTER TABLE ks.t ADD age int"


def test_a_column_that_needs_quotes_is_not_added():
    """Nothing can be slipped into the statement."""
    with pytest.raises(ValueError, match="not a CQL name"):
        cql.add_column("ks", "t", "age int, x", "int")
