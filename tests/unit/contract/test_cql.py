from datetime import UTC, datetime, timedelta
from struct import unpack
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from cassandra.metadata import cql_keywords_reserved
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, structs

from penstock.contract import cql
from penstock.contract.fields import fields, to_epoch_ms
from penstock.contract.quoting import RESERVED
from penstock.contract.record import KEY, Alias, Arrival, Record
from penstock.contract.table import build_table
from penstock.pipelines.users import User
from tests.unit.framed import TYPES, values_in
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything, users

HALF_MS = timedelta(microseconds=500)


def driver_reads(cql_name: str, encoded: bytes | None):
    """What the driver reads from a cell; timestamps to the ms, as the driver computes in floating point."""
    if encoded is None:
        return None
    value = TYPES[cql_name].deserialize(encoded, 5)
    if cql_name != "timestamp":
        return value
    return to_epoch_ms(min(value, datetime.max - HALF_MS).replace(tzinfo=UTC) + HALF_MS)


def expected(value):
    return to_epoch_ms(value) if isinstance(value, datetime) else value


def encoded(record, timestamp_ms: int = 1, partition: int = 2, offset: int = 3, epoch_us: int = 4):
    """The bound values of one row."""
    (framed,) = cql.build_encoder(build_table("ks", "t", type(record)))(
        [(record, timestamp_ms, partition, offset)], [epoch_us + offset]
    )
    return values_in(framed)


def cells_of(record) -> dict[str, bytes | None]:
    """The cells of a record by its fields' names."""
    return dict(zip((field.name for field in fields(type(record))), encoded(record), strict=False))


def assert_driver_reads(record):
    cells = cells_of(record)
    for field in fields(type(record)):
        cell = cells[field.name]
        assert driver_reads(field.kind.cql, cell) == expected(getattr(record, field.name)), field.name


@given(users())
def test_the_driver_reads_every_user_unchanged(user):
    """cassandra-driver decodes the bytes bound for a user to its values."""
    assert_driver_reads(user)


@given(everything())
def test_the_driver_reads_every_type_unchanged(record):
    """cassandra-driver decodes the bytes bound for each type, including None, to its value."""
    assert_driver_reads(record)


@given(everything())
def test_timestamps_are_bound_in_milliseconds(record):
    """A timestamp cell contains the whole milliseconds of the timestamp in its own zone, exactly."""
    assert unpack(">q", cells_of(record)["moment"])[0] == to_epoch_ms(record.moment)


@given(st.integers(0, 2**41), st.integers(0, 2**31 - 1), st.integers(0, 2**62), st.integers(0, 2**61))
def test_arrival_and_write_timestamp_follow_the_record(timestamp_ms, partition, offset, epoch_us):
    """The record's cells are followed by arrival time, partition, offset, and the timestamp base plus the offset."""
    cells = encoded(Reading(sensor=7, celsius=1.5), timestamp_ms, partition, offset, epoch_us)
    values = [unpack(kind, cell)[0] for kind, cell in zip((">i", ">d", ">q", ">i", ">q", ">q"), cells, strict=True)]
    assert values == [7, 1.5, timestamp_ms, partition, offset, epoch_us + offset]


def test_the_column_of_a_renamed_field_may_be_null():
    """Rows that were stored before have no write time in it, and are complete nevertheless."""
    hints = {"sensor": Annotated[int, Meta(extra=KEY)], "degrees": Annotated[float, Alias("celsius")], "place": str}
    record = msgspec.defstruct("One", list(hints.items()), bases=(Record,), frozen=True, kw_only=True)
    sum_of_times, required, others = cql.render_write_times(build_table("ks", "t", record))
    assert (others, required) == (["degrees"], 4)
    assert "WRITETIME(place)" in sum_of_times
    assert "degrees" not in sum_of_times


@given(st.lists(everything(), max_size=6))
def test_rows_are_encoded_together_like_one_by_one(records):
    """No value of one row gets into another, wherever they have None; no rows give no output."""
    rows = [(item, at, at % 3, 10 * at) for at, item in enumerate(records)]
    encode = cql.build_encoder(build_table("ks", "t", Everything))
    together = list(encode(rows, range(len(rows))))
    assert together == [framed for at, row in enumerate(rows) for framed in encode([row], [at])]
    assert len(together) == len(records)


ONE = Everything(
    id=UUID(int=5),
    text="",
    other_id=UUID(int=6),
    moment=datetime(2020, 1, 1, tzinfo=UTC),
    small=1,
    big=2,
    ratio=3.0,
    flag=True,
)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 1023, 1024, 1025, 65_536, 100_000])
def test_a_text_of_any_length_has_its_length_first(length):
    """Long texts too, in an optional and in a required column."""
    cells = cells_of(structs.replace(ONE, text="x" * length, maybe_text="y" * length))
    assert (cells["text"], cells["maybe_text"]) == (b"x" * length, b"y" * length)


def test_an_empty_text_is_not_null():
    """They are distinguished, also within one column."""
    rows = [(structs.replace(ONE, maybe_text=text), 0, 0, at) for at, text in enumerate(("", None, "a"))]
    at = [field.name for field in fields(Everything)].index("maybe_text")
    assert [
        values_in(framed)[at]
        for framed in cql.build_encoder(build_table("ks", "t", Everything))(rows, [row[3] for row in rows])
    ] == [
        b"",
        None,
        b"a",
    ]


@given(everything(), users(), st.integers(0, 1_000_000))
def test_the_key_of_a_record_is_its_cell(record, user, sensor):
    """The bytes that determine a row's replicas are those that are stored, for a key of each kind."""
    for first, name in ((record, "id"), (user, "id"), (Reading(sensor=sensor, celsius=1.0), "sensor")):
        assert cql.build_key_encoder(build_table("ks", "t", type(first)))(first) == cells_of(first)[name]


def test_table_of_each_type():
    """The table has a column for each field, then the arrival, and the key as primary key."""
    assert cql.render_create_table(build_table("ks", "t", Everything)) == "\n".join(
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


def test_the_keyspace_statement_has_the_replication():
    """The keyspace is created with the given replication if it does not exist."""
    assert cql.render_create_keyspace("ks", "{'class': 'X'}") == (
        "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = {'class': 'X'}"
    )


def test_the_insert_names_the_columns_that_the_encoder_fills():
    """The INSERT has one bind marker for each encoded value; the last is the write timestamp."""
    text = cql.render_insert(build_table("ks", "t", Reading))
    assert text == (
        "INSERT INTO ks.t (sensor, celsius, ingested_at, kafka_partition, kafka_offset) "
        "VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
    )
    assert text.count("?") == len(encoded(Reading(sensor=1, celsius=1.0)))


def test_every_column_of_a_user_is_in_table_and_insert():
    """Table and INSERT hold the same columns: the user's and the arrival's."""
    names = [item.name for item in (*fields(User), *fields(Arrival))]
    insert = cql.render_insert(build_table("ks", "t", User))
    table = cql.render_create_table(build_table("ks", "t", User))
    assert all(name in insert and f"  {name} " in table for name in names)


@pytest.mark.parametrize("strange", ["", "1a", "Upper", "orderId", "a-b", "a;DROP", "a b", "ä", "a\n", "_a", *RESERVED])
def test_a_name_that_needs_quotes_is_quoted(strange):
    """Reserved words, capitals and any other name that is not plain are quoted in each statement."""
    assert cql.quote_name(strange) == f'"{strange}"'


@pytest.mark.parametrize("name", ["a" * 48, "a_1", "orders", "tables", "text", "timestamp", "key", "ttl"])
def test_a_plain_name_is_not_quoted(name):
    """Lower-case letters, digits and _ need no quotes, nor does a word that CQL accepts as a name."""
    assert cql.quote_name(name) == name


def test_a_name_cannot_inject_cql():
    """A quote within a name is doubled, so that it does not end the name."""
    assert cql.quote_name('a" int; DROP TABLE x; --') == '"a"" int; DROP TABLE x; --"'


def test_every_reserved_word_of_cassandra_is_known():
    """The words that Cassandra's parser rejects as names: those of the driver, without DataStax's own, and two
    values.
    """
    enterprise = {
        *("active", "any", "application", "applications", "authentication", "call", "calls", "cluster", "columns"),
        *(
            "commit",
            "config",
            "delegation",
            "executor",
            "executors",
            "field",
            "indices",
            "internal",
            "java",
            "kerberos",
        ),
        *(
            "ldap",
            "lowercasestring",
            "method",
            "no",
            "node",
            "nodes",
            "object",
            "plan",
            "profiles",
            "rebuild",
            "redact",
        ),
        *("reload", "remote", "renew", "restrict", "rows", "scheme", "schemes", "search", "std_err", "std_out"),
        *("submission", "unrestrict", "workpool"),
    }
    assert (cql_keywords_reserved - enterprise) | {"true", "false"} == RESERVED


class Item(Record, frozen=True, kw_only=True):
    """Reserved words and capitals, as in real APIs."""

    order: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    unitPrice: float  # noqa: N815


def test_names_are_quoted_in_every_statement():
    """Keyspace, table, columns and key: in the statements that create, alter and fill a table."""
    assert cql.render_create_keyspace("Lab", "{}") == 'CREATE KEYSPACE IF NOT EXISTS "Lab" WITH replication = {}'
    assert cql.render_create_table(build_table("Lab", "table", Item)) == "\n".join(
        [
            'CREATE TABLE IF NOT EXISTS "Lab"."table" (',
            '  "order" text,',
            '  "unitPrice" double,',
            "  ingested_at timestamp,",
            "  kafka_partition int,",
            "  kafka_offset bigint,",
            '  PRIMARY KEY ("order")',
            ")",
        ]
    )
    assert cql.render_add_column("Lab", "table", "limit", "int") == 'ALTER TABLE "Lab"."table" ADD "limit" int'
    names = '"order", "unitPrice", ingested_at, kafka_partition, kafka_offset'
    insert = f'INSERT INTO "Lab"."table" ({names}) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?'
    assert cql.render_insert(build_table("Lab", "table", Item)) == insert
    assert (
        cql.render_delete(build_table("Lab", "table", Item))
        == 'DELETE FROM "Lab"."table" USING TIMESTAMP ? WHERE "order" = ?'
    )


def test_columns_are_those_of_the_table():
    """The columns are in the order in which the table is created."""
    lines = cql.render_create_table(build_table("ks", "t", Everything)).splitlines()[1:-2]
    assert [f"  {name} {kind}," for name, kind in build_table("ks", "t", Everything).columns.items()] == lines


def test_a_column_is_added():
    """The statement names table, column and type."""
    assert cql.render_add_column("ks", "t", "age", "int") == "ALTER TABLE ks.t ADD age int"
