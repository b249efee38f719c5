from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, structs

from penstock.codec.records import Decoder
from penstock.contract.batch import Decoded, Deletion, Reject
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.identity import identity_of
from penstock.contract.order import Order, TopicLayout
from penstock.contract.order_by import order_by_of
from penstock.contract.proofs import ASSUMED
from penstock.contract.record import KEY, Record
from penstock.contract.table import build_table
from penstock.process.batches import decode_batches, decoded_ddl, from_columns, to_columns
from penstock.process.session import RAW_COLUMNS
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import FakeSchemas
from tests.unit.keyed import keyed_records
from tests.unit.records import Composites, Everything, Reading, Scalars, Side, Versioned
from tests.unit.strategies import composites, everything, scalars

RAW_DDL = "key BINARY, value BINARY, partition INT, offset BIGINT, timestamp_ms BIGINT, order_header BINARY"
RAW = arrow_schema(RAW_DDL)
READINGS = arrow_schema(decoded_ddl(Reading))
EVERYTHING = arrow_schema(decoded_ddl(Everything))
SCALARS = arrow_schema(decoded_ddl(Scalars))
COMPOSITES = arrow_schema(decoded_ddl(Composites))
ONE = Scalars(
    id=UUID(int=5),
    price=Decimal("12.5"),
    ratio=Decimal("0.1"),
    day=date(2024, 2, 29),
    born=date(1985, 12, 10),
    opens=time(8, 30),
    lasts=timedelta(hours=36),
    hash=b"x",
    size="M",
    side=Side.SELL,
    count=7,
)
GOOD = Reading(sensor=3, celsius=21.5)
DECODER = Decoder(Reading, FakeSchemas.of(Reading))


def raw(offset: int, value: bytes | None, **more) -> dict:
    plain = {"key": b"k", "partition": 1, "timestamp_ms": 1000 + offset, "order_header": None}
    return plain | {"offset": offset, "value": value} | more


def decode(*rows: dict) -> list[Decoded]:
    """Decode with every key parsed in the only format that it can have."""
    batch = pa.RecordBatch.from_pylist(list(rows), schema=RAW)
    return list(decode_batches([batch], DECODER, "t", proofs=ASSUMED))


def reject(offset: int = 5, schema_id: int | None = 7, **changes) -> Reject:
    fault = Fault(Reason.CONTRACT_BROKEN, "no", schema_id=schema_id)
    plain = {"key": b"k", "value": b"\x00"}
    return Reject(fault=fault, topic="t", partition=1, offset=offset, headers=[], **plain | changes)


def there_and_back(decoded: Decoded, schema: pa.Schema, record) -> Decoded:
    (back,) = [*from_columns(to_columns([decoded], record, schema), record, "t")] or [Decoded()]
    return back


def test_only_the_needed_columns_are_selected():
    """Spark returns what is decoded, and of the headers only the one that orders redriven records."""
    assert [column.split()[-1] for column in RAW_COLUMNS] == RAW.names


def test_valid_and_invalid_records_are_separated():
    """In a mixed batch valid records become rows with time and position, invalid ones dead letters with key and value
    unchanged.
    """
    good = msgspec.json.encode(GOOD)
    (result,) = decode(
        raw(5, good),
        raw(6, b"oops", key=None),
        raw(7, None),
        raw(8, good, partition=2),
    )
    assert result.rows == [(GOOD, 1005, 1, 5), (GOOD, 1008, 2, 8)]
    oops, missing = result.rejects
    assert (oops.key, oops.value, oops.headers) == (None, b"oops", [])
    assert (oops.topic, oops.partition, oops.offset, oops.fault.reason) == ("t", 1, 6, Reason.JSON_MALFORMED)
    assert (missing.key, missing.value, missing.headers) == (b"k", None, [])
    assert missing.fault.reason == Reason.VALUE_MISSING


def test_each_batch_is_decoded_by_itself():
    """Batches are returned one by one, an empty one too."""
    batches = [pa.RecordBatch.from_pylist([raw(at, msgspec.json.encode(GOOD))] * at, schema=RAW) for at in range(3)]
    assert [len(batch.rows) for batch in decode_batches(batches, DECODER, "t")] == [0, 1, 2]


def test_a_null_value_is_a_deletion_of_its_key_or_a_dead_letter():
    """With an id as key it deletes, with time and position; with any other key, or none, it is dead-lettered
    unchanged.
    """
    (result,) = decode(
        raw(5, None, key=b"7"),
        raw(6, None, key=b"seven"),
        raw(7, None, key=None),
        raw(8, b"", key=b"7"),
        raw(9, None, key=b""),
    )
    assert result.deletions == [Deletion(7, 1005, 1, 5)]
    assert result.rows == []
    assert [(reject.offset, reject.key, reject.value) for reject in result.rejects] == [
        (8, b"7", b""),
        (6, b"seven", None),
        (7, None, None),
        (9, b"", None),
    ]
    assert {reject.fault.reason for reject in result.rejects} == {Reason.VALUE_MISSING}


keys = st.none() | st.binary(max_size=5) | st.integers(-5, 2_000_000).map(lambda item: str(item).encode())
values = st.none() | st.binary(max_size=30) | st.just(msgspec.json.encode(GOOD))


@given(st.lists(st.tuples(keys, values), max_size=20))
def test_no_record_is_lost_or_duplicated(records):
    """Each record of a batch is a row, a deletion or a dead letter, whatever its bytes."""
    (result,) = decode(*[raw(offset, value, key=key) for offset, (key, value) in enumerate(records)])
    deleted = [deletion.offset for deletion in result.deletions]
    places = [row[3] for row in result.rows] + deleted + [reject.offset for reject in result.rejects]
    assert sorted(places) == list(range(len(records)))
    assert all((reject.key, reject.value) == records[reject.offset] for reject in result.rejects)
    assert all(records[at][1] is None and records[at][0].isascii() for at in deleted)


def test_decoded_records_have_the_columns_of_a_dataframe():
    """The record's columns, its arrival, and marks; all are nullable."""
    assert READINGS.names == [
        "sensor",
        "celsius",
        "ingested_at",
        "kafka_partition",
        "kafka_offset",
        "_rejected",
        "_deleted",
        "_shift_us",
    ]
    assert "NOT NULL" not in decoded_ddl(Reading)


def test_rows_become_columns():
    """A transform sees a record's fields, its time and its position, and neither dead letters nor deletions."""
    (batch,) = to_columns([Decoded([(GOOD, 1234, 1, 5)])], Reading, READINGS)
    assert batch.to_pylist() == [
        {
            "sensor": 3,
            "celsius": 21.5,
            "ingested_at": datetime(1970, 1, 1, 0, 0, 1, 234_000, tzinfo=UTC),
            "kafka_partition": 1,
            "kafka_offset": 5,
            "_rejected": None,
            "_deleted": None,
            "_shift_us": 0,
        }
    ]


def test_dead_letters_become_columns():
    """A dead letter bypasses the transform: only its position and itself are set."""
    (batch,) = to_columns([Decoded(rejects=[reject()])], Reading, READINGS)
    (row,) = batch.to_pylist()
    rejected = row.pop("_rejected")
    marked = {name for name, value in row.items() if value is not None}
    assert marked == {"kafka_partition", "kafka_offset", "_shift_us"}
    assert (rejected["reason"], rejected["message"], rejected["schema_id"]) == ("contract_broken", "no", 7)


@given(st.lists(everything(), max_size=4), st.integers(0, 2**41), st.integers(0, 2**62))
def test_rows_round_trip_through_columns(records, timestamp_ms, offset):
    """What no transform changes is stored as it was decoded, each type and None, whichever field is the key."""
    decoded = Decoded([(item, timestamp_ms, 1, offset + at) for at, item in enumerate(records)])
    assert there_and_back(decoded, EVERYTHING, Everything) == decoded


@given(st.lists(scalars(), max_size=4))
def test_rows_of_the_other_types_go_through_columns_unchanged(records):
    """Decimals, dates, times, durations, bytes and texts of a set too."""
    decoded = Decoded([(record, 1000, 1, at) for at, record in enumerate(records)])
    assert there_and_back(decoded, SCALARS, Scalars) == decoded


@given(st.lists(composites(), max_size=2))
def test_rows_of_composite_types_go_through_columns_unchanged(records):
    """Arrays, maps and structs, at every level, and JSON texts."""
    decoded = Decoded([(record, 1000, 1, at) for at, record in enumerate(records)])
    assert there_and_back(decoded, COMPOSITES, Composites) == decoded


@given(scalars())
def test_a_transform_sees_the_types_of_spark(record):
    """A decimal with exactly as many decimals as it is declared with, a time as text, a duration as an interval."""
    (batch,) = to_columns([Decoded([(record, 1000, 1, 5)])], Scalars, SCALARS)
    row = batch.to_pylist()[0]
    assert (row["price"], row["price"].as_tuple().exponent) == (record.price, -2)
    assert (row["day"], row["lasts"], row["hash"]) == (record.day, record.lasts, record.hash)
    assert (row["opens"], row["size"], row["side"]) == (record.opens.isoformat(), record.size, str(record.side))


@pytest.mark.parametrize(
    ("name", "kind", "value", "rule"),
    [
        ("price", pa.decimal128(12, 4), Decimal("1.0010"), "range"),
        ("price", pa.decimal128(12, 2), Decimal("1234567890.00"), "range"),
        ("price", pa.float64(), 0.1 + 0.2, "format"),
        ("price", pa.decimal128(10, 2), None, "required"),
        ("price", pa.string(), "1_0", "format"),
        ("day", pa.timestamp("us", "UTC"), datetime(2020, 1, 1, tzinfo=UTC), "type"),
        ("opens", pa.string(), "08:30:00Z", "format"),
        ("lasts", pa.int64(), 5, "type"),
        ("size", pa.string(), "XL", "enum"),
        ("hash", pa.binary(), bytes(65), "length"),
        ("count", pa.float64(), 1.5, "type"),
    ],
)
def test_what_a_transform_makes_of_a_column_is_checked(name, kind, value, rule):
    """Spark rounds decimals and makes NaN null by itself; what does not fit the row is dead-lettered, never rounded."""
    (batch,) = to_columns([Decoded([(ONE, 1000, 1, 5)])], Scalars, SCALARS)
    at = batch.schema.get_field_index(name)
    changed = batch.set_column(at, pa.field(name, kind), pa.array([value], kind))
    (found,) = from_columns([changed], Scalars, "t")
    assert found.rows == []
    assert [(one.fault.stage, one.fault.rules) for one in found.rejects] == [(Stage.TRANSFORM, (f"{name}:{rule}",))]


def test_a_wider_decimal_of_a_transform_is_stored_if_it_fits():
    """A product has more decimals in Spark; zeros at its end are none."""
    (batch,) = to_columns([Decoded([(ONE, 1000, 1, 5)])], Scalars, SCALARS)
    wide = pa.decimal128(20, 6)
    at = batch.schema.get_field_index("price")
    changed = batch.set_column(at, pa.field("price", wide), pa.array([Decimal("25.5")], wide))
    (found,) = from_columns([changed], Scalars, "t")
    assert found.rows == [(structs.replace(ONE, price=Decimal("25.5")), 1000, 1, 5)]


def test_deletions_become_columns():
    """A deletion bypasses the transform: its id, its time and its position are set, and its mark."""
    (batch,) = to_columns([Decoded(deletions=[Deletion(7, 1234, 1, 5)])], Reading, READINGS)
    (row,) = batch.to_pylist()
    assert {name: value for name, value in row.items() if value is not None} == {
        "sensor": 7,
        "ingested_at": datetime(1970, 1, 1, 0, 0, 1, 234_000, tzinfo=UTC),
        "kafka_partition": 1,
        "kafka_offset": 5,
        "_deleted": True,
        "_shift_us": 0,
    }


class Named(Record, frozen=True, kw_only=True):
    """A record with a text key."""

    name: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    size: float | None = None


@pytest.mark.parametrize(
    ("record", "key"),
    [(Everything, UUID(int=5)), (Reading, 0), (Reading, 7), (Named, "Zoë"), (Named, str(UUID(int=5)))],
    ids=repr,
)
def test_deletions_round_trip_through_columns(record, key):
    """A deletion keeps its id, whatever the kind of the id."""
    decoded = Decoded(deletions=[Deletion(key, 1234, 1, 5), Deletion(key, 1235, 2, 6)])
    assert there_and_back(decoded, arrow_schema(decoded_ddl(record)), record) == decoded


@given(keyed_records(), st.lists(st.integers(0, 9), max_size=3))
def test_deletions_of_several_fields_round_trip_through_columns(record, offsets):
    """An identity keeps each of its values, whatever their types."""
    kind = type(record)
    record_id = identity_of(kind).of(record)
    decoded = Decoded([(record, 1, 0, 0)], [Deletion(record_id, 1234, 1, offset) for offset in offsets])
    back = there_and_back(decoded, arrow_schema(decoded_ddl(kind)), kind)
    assert back == decoded
    table = build_table("ks", "t", kind)
    assert {table.routing_key(deletion.key) for deletion in back.deletions} <= {table.routing_key(record_id)}


def test_rows_deletions_and_dead_letters_of_one_batch_are_separated_again():
    """The columns give each back as what it was, with its position."""
    decoded = Decoded([(GOOD, 1, 1, 5)], [Deletion(3, 2, 1, 6)], [reject(7)])
    assert there_and_back(decoded, READINGS, Reading) == decoded


@pytest.mark.parametrize("schema_id", [None, 0, 2**31, 2**32 - 1])
def test_dead_letters_round_trip_through_columns(schema_id):
    """A dead letter keeps its key and value, whatever id its header has."""
    bare = replace(reject(6, schema_id), key=None, value=None)
    decoded = Decoded(rejects=[reject(5, schema_id), bare])
    assert there_and_back(decoded, READINGS, Reading) == decoded


@given(st.lists(st.binary(max_size=30).map(lambda body: b"\x00" + body), max_size=10))
def test_garbage_goes_through_columns(values):
    """A pipeline with a transform dead-letters garbage like one without."""
    (result,) = decode(*[raw(offset, value) for offset, value in enumerate(values)])
    back = there_and_back(result, READINGS, Reading)
    assert back == result


GROWN = Order((TopicLayout(1), TopicLayout(2, 1000, {0: 10})))
"""A topic of one partition that was given a second one when its first ten records had been read."""


def test_each_record_has_the_shift_of_its_layout():
    """What was read before the topic grew, records in the partition that the new number of partitions assigns, and
    others.
    """
    keys = {number: str(number).encode() for number in range(40)}
    in_new = {number: GROWN.rank(0, 50, keys[number]).layout for number in keys}
    assert set(in_new.values()) == {0, 1}
    moved = next(number for number, layout in in_new.items() if layout == 0)
    stays = next(number for number, layout in in_new.items() if layout == 1)
    records = [raw(9, None, key=b"1"), raw(10, None, key=keys[moved]), raw(11, None, key=keys[stays])]
    batch = pa.RecordBatch.from_pylist([record | {"partition": 0} for record in records], schema=RAW)
    (result,) = decode_batches([batch], DECODER, "t", GROWN, proofs=ASSUMED)
    assert result.write_times_us(result.deletions, 5_000) == [5_009, 5_010, 6_011]
    (back,) = from_columns(to_columns([result], Reading, READINGS), Reading, "t")
    assert back.write_times_us(back.deletions, 5_000) == [5_009, 5_010, 6_011]


@pytest.mark.parametrize("order", [Order((TopicLayout(1),)), GROWN])
def test_a_redriven_record_is_written_at_its_earlier_position(order):
    """Upserts and deletions alike, through a transform too; a header that is later or not a number changes nothing."""
    good = msgspec.json.encode(GOOD)
    headers = [b"5003", b"5004", b"9999999", b"x", b"-7", None]
    values = [good, None, good, good, good, good]
    records = [
        raw(20 + at, value, key=b"3", partition=0, order_header=header)
        for at, (value, header) in enumerate(zip(values, headers, strict=True))
    ]
    plain = [record | {"order_header": None} for record in records]
    batches = [pa.RecordBatch.from_pylist(some, schema=RAW) for some in (records, plain)]
    for through_columns in (False, True):
        decoded = decode_batches(batches, DECODER, "t", order, 5_000, ASSUMED)
        if through_columns:
            decoded = from_columns(to_columns(decoded, Reading, READINGS), Reading, "t")
        result, own = decoded
        assert result.write_times_us(result.deletions, 5_000) == [5_004]
        assert result.write_times_us(result.rows, 5_000) == [5_003, *own.write_times_us(own.rows, 5_000)[1:]]


def test_a_batch_without_a_redriven_record_has_no_extra_cost():
    """No record is examined on its own unless the topic grew."""
    (result,) = decode_batches([pa.RecordBatch.from_pylist([raw(1, b"")], schema=RAW)], DECODER, "t", epoch_us=9)
    assert result.shifts == {}


def test_an_invalid_row_of_a_transform_is_dead_lettered():
    """A row that breaks the row's rules becomes a dead letter of stage transform, named by field, with its position."""
    (batch,) = to_columns([Decoded([(GOOD, 1, 1, 5), (GOOD, 1, 1, 6)])], Reading, READINGS)
    columns = batch.to_pylist()
    columns[1]["sensor"] = -3
    changed = pa.RecordBatch.from_pylist(columns, schema=READINGS)
    (result,) = from_columns([changed], Reading, "t")
    assert result.rows == [(GOOD, 1, 1, 5)]
    (bad,) = result.rejects
    assert (bad.fault.reason, bad.fault.stage) == (Reason.CONTRACT_BROKEN, Stage.TRANSFORM)
    assert bad.fault.rules == ("sensor:range",)
    assert (bad.topic, bad.partition, bad.offset, bad.key, bad.value) == ("t", 1, 6, None, None)


def test_a_row_may_have_other_fields_than_the_record():
    """A transform may add columns; the row takes those it has and ignores the rest."""

    class Warm(Reading, frozen=True, kw_only=True):
        fahrenheit: float

    (batch,) = to_columns([Decoded([(GOOD, 1, 1, 5)])], Reading, READINGS)
    columns = {**batch.to_pylist()[0], "fahrenheit": 70.7, "note": "warm"}
    (result,) = from_columns([pa.RecordBatch.from_pylist([columns])], Warm, "t")
    assert result.rows == [(Warm(**structs.asdict(GOOD), fahrenheit=70.7), 1, 1, 5)]


def test_an_id_is_text_for_a_transform():
    """Spark has no UUID: a transform sees an id as its 36 characters."""
    kind = EVERYTHING.field("id").type
    assert kind == pa.string()
    first = UUID(int=5)
    record = Everything(
        id=first,
        text="",
        other_id=first,
        moment=datetime(2020, 1, 1, tzinfo=UTC),
        small=1,
        big=1,
        ratio=1.0,
        flag=True,
    )
    (batch,) = to_columns([Decoded([(record, 1, 1, 5)])], Everything, EVERYTHING)
    row = batch.to_pylist()[0]
    assert (row["id"], row["other_id"], row["maybe_id"]) == (str(first), str(first), None)


class Worded(Record, frozen=True, kw_only=True):
    """A text whose type alone does not guarantee that it can be a column, and a number."""

    id: Annotated[int, Meta(ge=0, le=9, extra=KEY)]
    note: str


WORDED = arrow_schema(decoded_ddl(Worded))


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ((Worded(id=2, note="\ud800"), 1000, 1, 6), "UnicodeEncodeError"),
        ((Worded(id=2**40, note=""), 1000, 1, 6), "ArrowInvalid"),
        ((Worded(id=2, note=5), 1000, 1, 6), "ArrowTypeError"),
        ((Worded(id=2, note=""), 10**18, 1, 6), "OverflowError"),
    ],
)
def test_a_row_that_cannot_be_a_column_is_a_dead_letter(row, error):
    """The rest of its batch goes to the transform; the row bypasses it, with its position and its error."""
    good = [(Worded(id=1, note="a"), 1000, 1, 5), (Worded(id=3, note="c"), 1000, 1, 7)]
    decoded = Decoded([good[0], row, good[1]], [Deletion(4, 1000, 1, 8)], [reject(9)])
    back = there_and_back(decoded, WORDED, Worded)
    assert (back.rows, back.deletions) == (good, decoded.deletions)
    (old, new) = back.rejects
    assert old == reject(9)
    assert (new.partition, new.offset, new.fault.reason) == (1, 6, Reason.PROCESSING_ERROR)
    assert error in new.fault.message
    assert not new.has_bytes


def test_a_row_without_a_time_after_a_transform_is_a_dead_letter():
    """A null in a required column is the fault of only that row: the rows next to it are stored."""
    (batch,) = to_columns([Decoded([(GOOD, 1000, 1, offset) for offset in (5, 6)])], Reading, READINGS)
    columns = batch.to_pylist()
    columns[1]["ingested_at"] = None
    (result,) = from_columns([pa.RecordBatch.from_pylist(columns, schema=READINGS)], Reading, "t")
    assert [row[3] for row in result.rows] == [5]
    (rejected,) = result.rejects
    assert (rejected.partition, rejected.offset, rejected.fault.stage) == (1, 6, Stage.TRANSFORM)
    assert rejected.fault.reason == Reason.PROCESSING_ERROR


def test_a_row_that_python_cannot_represent_is_a_dead_letter():
    """Spark knows later years than Python: the rows next to it are stored."""
    (batch,) = to_columns([Decoded([(GOOD, 1000, 1, offset) for offset in (5, 6)])], Reading, READINGS)
    at = batch.schema.get_field_index("ingested_at")
    late = pa.array([1000, 2**62], pa.int64()).cast(READINGS.field("ingested_at").type)
    (result,) = from_columns([batch.set_column(at, batch.schema.field(at), late)], Reading, "t")
    assert [row[3] for row in result.rows] == [5]
    (rejected,) = result.rejects
    assert (rejected.partition, rejected.offset, rejected.fault.stage) == (1, 6, Stage.TRANSFORM)
    assert rejected.fault.reason == Reason.PROCESSING_ERROR


class Picky(Record, frozen=True, kw_only=True):
    """A row whose own code raises an unexpected error."""

    sensor: Annotated[int, Meta(ge=0, le=1_000_000, extra=KEY)]
    celsius: float

    def __post_init__(self):
        if self.celsius > 100:
            raise MemoryError if self.celsius > 1000 else KeyError("boiling")


def test_a_row_whose_own_code_raises_is_a_dead_letter():
    """The rows next to it are stored; lack of memory is no row's fault."""
    hot = Reading(sensor=4, celsius=101.0)
    (batch,) = to_columns([Decoded([(GOOD, 1000, 1, 5), (hot, 1000, 1, 6)])], Reading, READINGS)
    (result,) = from_columns([batch], Picky, "t")
    assert [row[3] for row in result.rows] == [5]
    (rejected,) = result.rejects
    assert (rejected.offset, rejected.fault.stage, rejected.fault.message) == (
        6,
        Stage.TRANSFORM,
        "KeyError: 'boiling'",
    )
    (batch,) = to_columns([Decoded([(Reading(sensor=4, celsius=1001.0), 1000, 1, 5)])], Reading, READINGS)
    with pytest.raises(MemoryError):
        list(from_columns([batch], Picky, "t"))


VERSIONED = arrow_schema(decoded_ddl(Versioned))
EPOCH_US = 1_000_000


def decode_ordered(order_by: str, *rows: dict, of_tombstone=None, more: str = "") -> Decoded:
    """Decode records for which `order_by` says which is the newest."""
    schema = arrow_schema(f"{RAW_DDL}{more}")
    batch = pa.RecordBatch.from_pylist(list(rows), schema=schema)
    decoder = Decoder(Versioned, FakeSchemas.of(Versioned))
    declared = order_by_of(Versioned, order_by, of_tombstone)
    (result,) = decode_batches([batch], decoder, "t", GROWN, EPOCH_US, ASSUMED, declared)
    return result


def versioned(offset: int, number: int, **more) -> dict:
    return raw(offset, msgspec.json.encode(Versioned(id=1, number=number)), **more)


def test_a_field_orders_records_wherever_they_are():
    """Offset, partition, layout and headers do not matter then; a negative value is a dead letter with its bytes."""
    batch = decode_ordered(
        "number", versioned(9, 5), versioned(3, 7, partition=0, order_header=b"t5"), versioned(4, -1)
    )
    assert batch.write_times_us(batch.rows, EPOCH_US) == [5, 7]
    (broken,) = batch.rejects
    assert (broken.offset, broken.key, broken.fault.rules) == (4, b"k", ("number:range",))
    assert msgspec.json.decode(broken.value)["number"] == -1
    assert there_and_back(batch, VERSIONED, Versioned).write_times_us(batch.rows, EPOCH_US) == [5, 7]


def test_kafkas_timestamp_orders_records():
    """In ms, with the offset within one; a header keeps a redriven record's first time."""
    rows = versioned(2001, 0), versioned(2002, 0, order_header=b"t5"), versioned(3, 0, timestamp_ms=-1)
    batch = decode_ordered("timestamp", *rows, raw(2004, None, key=b"1"))
    assert batch.write_times_us(batch.rows, EPOCH_US) == [3_001_001, 5]
    assert batch.write_times_us(batch.deletions, EPOCH_US) == [3_004_004]
    assert [(reject.offset, reject.fault.reason) for reject in batch.rejects] == [(3, Reason.ORDER_UNKNOWN)]
    back = there_and_back(batch, VERSIONED, Versioned)
    assert back.write_times_us([*back.rows, *back.deletions], EPOCH_US) == [3_001_001, 5, 3_004_004]


def test_a_tombstone_is_ordered_by_the_pipelines_function():
    """It gets the headers, which are among the columns then; without it the tombstone is a dead letter."""
    more = ", tombstone_headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
    rows = (
        versioned(0, 1),
        raw(1, None, key=b"1", tombstone_headers=[{"key": "v", "value": b"12"}]),
        raw(2, None, key=b"1"),
    )
    batch = decode_ordered("number", *rows, more=more, of_tombstone=lambda item: int(dict(item.headers)["v"]))
    assert batch.write_times_us(batch.deletions, EPOCH_US) == [12]
    assert [(reject.offset, reject.fault.reason) for reject in batch.rejects] == [(2, Reason.PROCESSING_ERROR)]
    batch = decode_ordered("number", *rows[1:])
    assert batch.deletions == []
    assert {reject.fault.reason for reject in batch.rejects} == {Reason.ORDER_UNKNOWN}
    assert [(reject.key, reject.value) for reject in batch.rejects] == [(b"1", None)] * 2
