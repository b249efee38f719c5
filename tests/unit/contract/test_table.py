"""A table as a pipeline declares it: what its primary key may be, and the values of the key's columns."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Any
from uuid import UUID
from zlib import crc32

import msgspec
import pytest
from cassandra.protocol import ColumnMetadata
from cassandra.query import BoundStatement, PreparedStatement
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract import cql
from penstock.contract.fields import to_epoch_ms
from penstock.contract.identity import identity_of
from penstock.contract.primary_key import PrimaryKey, bucket, day_of, hour_of, list_key_problems, month_of
from penstock.contract.record import KEY, Record
from penstock.contract.table import Table, build_table
from penstock.pipelines.users import PIPELINE
from tests.unit.framed import TYPES, values_in
from tests.unit.keyed import KEY_TYPES, SAMPLES, Sample, build_record, key_moments, keyed_records
from tests.unit.records import Reading, Side
from tests.unit.strategies import zones

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SERIES = SAMPLES.build_table("lab")
ID = UUID("0a1b2c3d-0000-4000-8000-00000000abcd")


def names_of(table: Table) -> tuple[list[str], list[str]]:
    return [column.column for column in table.partition], [column.column for column in table.clustering]


# The primary key


def test_without_a_primary_key_the_first_key_field_is_the_partition():
    """And the others are clustering columns, as `PRIMARY KEY (sensor, at)` means in CQL."""
    assert names_of(build_table("ks", "t", Sample)) == (["sensor"], ["at"])
    assert names_of(build_table("ks", "t", Reading)) == (["sensor"], [])
    assert names_of(PIPELINE.build_table("ks")) == (["id"], [])


def test_a_table_has_the_columns_of_the_row_then_the_derived_then_the_arrival():
    """Each with its CQL type."""
    assert SERIES.columns == {
        "sensor": "text",
        "at": "timestamp",
        "celsius": "double",
        "at_day": "date",
        "ingested_at": "timestamp",
        "kafka_partition": "int",
        "kafka_offset": "bigint",
    }
    assert names_of(SERIES) == (["sensor", "at_day"], ["at"])


def test_derived_columns_have_their_types():
    """Their names are those of the field and the unit, or as given."""
    key = PrimaryKey(
        (bucket("sensor", 16), hour_of("at"), month_of("at", column="month"), day_of("at")), ("at", "sensor asc")
    )
    columns = build_table("ks", "t", Sample, key).columns
    assert {name: columns[name] for name in ("sensor_bucket", "at_hour", "month", "at_day")} == {
        "sensor_bucket": "int",
        "at_hour": "timestamp",
        "month": "date",
        "at_day": "date",
    }


def problem_of(primary_key: Any, row: type[Record] = Sample) -> str:
    """The one problem of a primary key."""
    (problem,) = list_key_problems(primary_key, row)
    with pytest.raises(TypeError, match=re.escape(problem)):
        build_table("ks", "t", row, primary_key)
    return problem


@pytest.mark.parametrize(
    ("primary_key", "problem"),
    [
        (("sensor",), 'is not a PrimaryKey; write `PrimaryKey(partition=("id",))`'),
        (PrimaryKey("sensor", ("at",)), "partition 'sensor' is not a tuple; write `partition=(\"sensor\",)`"),
        (PrimaryKey(day_of("at"), ("at",)), 'is not a tuple; write `partition=(day_of("at"),)`'),
        (PrimaryKey([], ["sensor", "at"]), "the partition is empty"),
        (PrimaryKey((), ("sensor", "at")), 'the partition is empty; write `partition=("id",)` with a KEY field'),
        (PrimaryKey(("sensor",), (day_of("at"),)), 'clustering day_of("at"): move it to partition'),
        (PrimaryKey((7,), ("at",)), 'partition 7: write a field\'s name, such as "id"'),
        (PrimaryKey(("",), ("at",)), "partition '': write a field's name"),
        (PrimaryKey(("sensor",), (" ",)), "clustering ' ': write a field's name"),
        (
            PrimaryKey(("sensor",), ("at DOWN",)),
            "clustering 'at DOWN': expected a field and its order, such as \"at DESC\"",
        ),
        (PrimaryKey(("sensor",), ("at DESC ASC",)), "expected a field and its order"),
        (
            PrimaryKey(("sensor", "at", "celsius")),
            "celsius is not marked KEY, so a deletion could not find its row: mark it KEY, or remove it",
        ),
        (PrimaryKey(("sensor", "at", "on")), "Sample has no field 'on': write one of its KEY fields, sensor, at"),
        (PrimaryKey(("sensor", day_of("on")), ("at",)), "Sample has no field 'on': write one of its KEY fields"),
        (PrimaryKey(("sensor",), ("at", "at DESC")), "at occurs more than once: remove one"),
        (PrimaryKey(("sensor", "at"), ("at",)), "at occurs more than once: remove one"),
        (PrimaryKey(("sensor", day_of("at"), day_of("at")), ("at",)), "at_day occurs more than once: remove one"),
        (
            PrimaryKey(("sensor",)),
            "at is marked KEY, but is no column of the primary key: add it to clustering, or to partition",
        ),
        (PrimaryKey(("sensor", day_of("at"))), "at is marked KEY, but is no column of the primary key"),
        (
            PrimaryKey(("sensor", day_of("sensor")), ("at",)),
            'day_of("sensor"): sensor is a text; write the name of a datetime field, or bucket("sensor", 16)',
        ),
        (PrimaryKey((bucket("sensor", 1),), ("sensor", "at")), 'bucket("sensor", 1): expected 2 to 65,536 buckets'),
        (PrimaryKey((bucket("sensor", 65_537),), ("sensor", "at")), "expected 2 to 65,536 buckets"),
        (PrimaryKey((bucket("sensor", True),), ("sensor", "at")), "expected 2 to 65,536 buckets"),
        (PrimaryKey((bucket("sensor", "16"),), ("sensor", "at")), "expected 2 to 65,536 buckets"),
        (
            PrimaryKey(("sensor", day_of("at", column="celsius")), ("at",)),
            'day_of("at"): there is a column \'celsius\' already; write day_of("at", column="at_day_key")',
        ),
        (PrimaryKey(("sensor", day_of("at", column="Kafka_Offset")), ("at",)), "there is a column 'Kafka_Offset'"),
        (PrimaryKey(("sensor", day_of("at", column="the day")), ("at",)), "invalid name 'the day'"),
        (PrimaryKey(("sensor", day_of("at", column=7)), ("at",)), "the column 7 is not a text"),
    ],
)
def test_a_primary_key_that_no_table_can_have_is_rejected(primary_key, problem):
    """The error names the part of it, and says what to write."""
    assert problem in problem_of(primary_key)


def test_every_problem_of_a_primary_key_is_named():
    """Not only the first."""
    key = PrimaryKey(("nope", day_of("celsius")), ("sensor UP",))
    assert len(list_key_problems(key, Sample)) == 1, "what is not of the declared form comes first"
    key = PrimaryKey(("nope", day_of("celsius")), ("sensor",))
    assert [problem.split()[0] for problem in list_key_problems(key, Sample)] == ["Sample", "celsius", "at"]


def test_a_day_of_a_date_is_rejected():
    """It would be the date itself; its month is another value."""
    record = build_record("text", "day")
    assert 'day is a date already; write "day"' in problem_of(PrimaryKey((day_of("day"),), ("day", "text")), record)
    assert names_of(build_table("ks", "t", record, PrimaryKey((month_of("day"),), ("day", "text")))) == (
        ["day_month"],
        ["day", "text"],
    )


def test_a_partition_that_may_be_too_large_is_rejected():
    """Cassandra allows 65,535 bytes in all; clustering columns have a limit of their own."""
    text = Annotated[str, Meta(min_length=1, max_length=16_383, extra=KEY)]
    record = msgspec.defstruct("Wide", [("a", text), ("b", text)], bases=(Record,), frozen=True, kw_only=True)
    assert problem_of(PrimaryKey(("a", "b")), record) == (
        "the partition (a, b) may have 131,070 bytes, more than Cassandra's 65,535: "
        "lower max_length of a, or move it to clustering"
    )
    assert "65,546" in problem_of(PrimaryKey((bucket("b", 9), "a"), ("b",)), record)
    assert names_of(build_table("ks", "t", record)) == (["a"], ["b"])


# Statements


def test_the_statement_of_a_time_series():
    """The partition in parentheses, the order of the clustering columns, and how columns are derived."""
    assert cql.render_create_table(SERIES) == "\n".join(
        [
            "CREATE TABLE IF NOT EXISTS lab.samples (",
            "  sensor text,",
            "  at timestamp,",
            "  celsius double,",
            "  at_day date,",
            "  ingested_at timestamp,",
            "  kafka_partition int,",
            "  kafka_offset bigint,",
            "  PRIMARY KEY ((sensor, at_day), at)",
            ") WITH CLUSTERING ORDER BY (at DESC) AND comment = 'penstock derives at_day = day_of(\"at\")'",
        ]
    )


@pytest.mark.parametrize(
    ("primary_key", "key", "options"),
    [
        (None, "small, text, day", ""),
        (PrimaryKey(("small", "text", "day")), "(small, text, day)", ""),
        (PrimaryKey(("text", "small"), ("day",)), "(text, small), day", ""),
        (PrimaryKey(("text",), ("small ASC", "day")), "text, small, day", ""),
        (PrimaryKey(("text",), ("small", "day desc")), "text, small, day", "CLUSTERING ORDER BY (small ASC, day DESC)"),
        (
            PrimaryKey((bucket("text", 8, column="Shard"),), ("text", "small", "day")),
            '"Shard", text, small, day',
            "comment = 'penstock derives Shard = bucket(\"text\", 8)'",
        ),
    ],
)
def test_the_statement_of_each_primary_key(primary_key, key, options):
    """As CQL writes it; ascending order is not written, being the default."""
    statement = cql.render_create_table(build_table("ks", "t", build_record("small", "text", "day"), primary_key))
    assert statement.endswith(f"  PRIMARY KEY ({key})\n)" + (f" WITH {options}" if options else ""))


def test_a_row_is_deleted_and_selected_by_its_whole_key():
    """And its token is that of the partition."""
    assert cql.render_delete(SERIES) == (
        "DELETE FROM lab.samples USING TIMESTAMP ? WHERE sensor = ? AND at_day = ? AND at = ?"
    )
    assert cql.render_key_condition(SERIES, "%s") == "sensor = %s AND at_day = %s AND at = %s"
    assert cql.render_token(SERIES) == "token(sensor, at_day)"


def test_no_key_column_has_a_write_time():
    """Neither the fields of the identity nor what is derived from them."""
    every, count, nullable = cql.render_write_times(SERIES)
    assert every == (
        "WRITETIME(celsius) + WRITETIME(ingested_at) + WRITETIME(kafka_partition) + WRITETIME(kafka_offset)"
    )
    assert (count, nullable) == (4, [])


# Values


@pytest.mark.parametrize(
    ("moment", "day", "hour", "month"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, 999_000, UTC), date(2026, 1, 31), 23, date(2026, 1, 1)),
        (datetime(2026, 2, 1, 0, 0, 0, 0, UTC), date(2026, 2, 1), 0, date(2026, 2, 1)),
        (datetime(2026, 2, 1, 1, 30, tzinfo=timezone(timedelta(hours=2))), date(2026, 1, 31), 23, date(2026, 1, 1)),
        (datetime(2026, 1, 31, 23, tzinfo=timezone(timedelta(hours=-3))), date(2026, 2, 1), 2, date(2026, 2, 1)),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC), date(1969, 12, 31), 23, date(1969, 12, 1)),
        (datetime(1, 1, 1, tzinfo=UTC), date(1, 1, 1), 0, date(1, 1, 1)),
        (datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC), date(9999, 12, 31), 23, date(9999, 12, 1)),
    ],
)
def test_day_hour_and_month_are_those_of_utc(moment, day, hour, month):
    """Around midnight, in other zones, and before 1970."""
    key = PrimaryKey((day_of("at"), hour_of("at"), month_of("at")), ("sensor", "at"))
    values = build_table("ks", "t", Sample, key).key_values(("a", moment))
    assert values == (day, datetime(day.year, day.month, day.day, hour, tzinfo=UTC), month, "a", moment)


@given(key_moments)
def test_a_day_has_the_moments_of_24_hours(moment):
    """Day and hour are the whole days and hours since 1970, rounded down."""
    key = PrimaryKey((day_of("at"), hour_of("at")), ("sensor", "at"))
    day, hour, _, _ = build_table("ks", "t", Sample, key).key_values(("a", moment))
    ms = to_epoch_ms(moment)
    assert (day - date(1970, 1, 1)).days == ms // 86_400_000
    assert to_epoch_ms(hour) == ms // 3_600_000 * 3_600_000


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("text", "é", "é"),
        ("big", -12, "-12"),
        ("uuid", ID, str(ID)),
        ("side", Side.SELL, "sell-short"),
        ("day", date(2026, 1, 1), "2026-01-01"),
        ("at", NOON.astimezone(timezone(timedelta(hours=5))), "2026-01-31T12:00:00.000Z"),
    ],
)
def test_a_bucket_is_the_crc_32_of_the_text(name, value, text):
    """In UTF-8, of the value as a Kafka key has it: any language can compute it."""
    table = build_table("ks", "t", build_record(name), PrimaryKey((bucket(name, 100),), (name,)))
    assert table.key_values(value) == (crc32(text.encode()) % 100, value)


def test_a_bucket_is_that_of_other_languages():
    """CRC-32 of "123456789" is the check value of its catalog entry, 0xCBF43926."""
    table = build_table("ks", "t", build_record("text"), PrimaryKey((bucket("text", 65_536),), ("text",)))
    assert table.key_values("123456789")[0] == 0xCBF43926 % 65_536


@given(st.data())
def test_rows_deletions_and_replicas_agree_on_the_key(data):
    """A row's cells, a deletion's and the routing key are those that the driver itself makes of the key's values."""
    record = data.draw(keyed_records())
    table = build_table("ks", "t", type(record), data.draw(primary_keys(type(record))))
    record_id = table.identity.of(record)
    values = table.key_values(record_id)
    prepared = PreparedStatement(
        [ColumnMetadata("ks", "t", column.column, TYPES[column.kind.cql]) for column in table.key],
        *(b"id", list(range(len(table.partition))), "", "ks", 5, None, None),
    )
    bound = BoundStatement(prepared).bind(values)
    assert table.routing_key(record_id) == bound.routing_key
    assert cql.build_key_encoder(table)(record) == bound.routing_key
    assert values_in(cql.build_delete_encoder(table)(record_id, 5))[1:] == bound.values
    (framed,) = cql.build_encoder(table)([(record, 1, 2, 3)], [4])
    cells = dict(zip(table.columns, values_in(framed), strict=False))
    assert [cells[column.column] for column in table.key] == bound.values


_DERIVED = {"at": [day_of, hour_of, month_of], "day": [month_of]}


@st.composite
def primary_keys(draw: st.DrawFn, record: type[Record]) -> PrimaryKey | None:
    """Return a primary key for a record: none, or its KEY fields and some derived columns in any order."""
    names = draw(st.permutations(identity_of(record).columns))
    count = draw(st.integers(0, len(names)))
    derive = [bucket(name, 7) for name in names] + [
        derived(name) for name in names for derived in _DERIVED.get(name, ())
    ]
    derived = draw(st.lists(st.sampled_from(derive), unique=True, min_size=0 if count else 1))
    partition = draw(st.permutations([*names[:count], *derived]))
    clustering = tuple(name + draw(st.sampled_from(["", " ASC", " DESC"])) for name in names[count:])
    return draw(st.none() | st.just(PrimaryKey(tuple(partition), clustering)))


@given(key_moments, zones)
def test_the_key_of_a_row_does_not_depend_on_the_zone(moment, zone):
    """A moment has one day, and one row, wherever it was written."""
    ids = [("a", moment), ("a", moment.astimezone(zone))]
    assert SERIES.key_values(ids[0]) == SERIES.key_values(ids[1])
    assert SERIES.routing_key(ids[0]) == SERIES.routing_key(ids[1])
    encode = cql.build_delete_encoder(SERIES)
    assert encode(ids[0], 5) == encode(ids[1], 5)


def test_every_type_of_key_has_a_size():
    """The bound of a partition is known for each."""
    assert set(identity_of(build_record(*KEY_TYPES)).max_bytes) == set(KEY_TYPES)
    assert identity_of(build_record("text", "side", "at")).max_bytes == {"text": 200, "side": 10, "at": 8}
