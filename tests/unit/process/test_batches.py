from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.contract.batch import Decoded
from penstock.contract.reject import Fault, Reason, Reject, Stage
from penstock.process.batches import decode_batches, decoded_ddl, from_columns, to_columns
from penstock.process.decode import Decoder
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import FakeSchemas
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything

RAW = arrow_schema(
    "key BINARY, value BINARY, partition INT, offset BIGINT, timestamp_ms BIGINT, "
    "headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
)
READINGS = arrow_schema(decoded_ddl(Reading))
EVERYTHING = arrow_schema(decoded_ddl(Everything))
GOOD = Reading(sensor=3, celsius=21.5)
DECODER = Decoder(Reading, FakeSchemas.of(Reading))


def raw(offset: int, value: bytes | None, **more) -> dict:
    plain = {"key": b"k", "partition": 1, "timestamp_ms": 1000 + offset, "headers": None}
    return plain | {"offset": offset, "value": value} | more


def decode(*rows: dict) -> list[Decoded]:
    return list(decode_batches([pa.RecordBatch.from_pylist(list(rows), schema=RAW)], DECODER, "t"))


def reject(offset: int = 5, schema_id: int | None = 7, **changes) -> Reject:
    fault = Fault(Reason.CONTRACT_BROKEN, "no", schema_id=schema_id)
    plain = {"key": b"k", "value": b"\x00", "headers": [("h", b"v"), ("h", None)]}
    return Reject(fault=fault, topic="t", partition=1, offset=offset, **plain | changes)


def there_and_back(decoded: Decoded, schema: pa.Schema, record) -> Decoded:
    (back,) = from_columns(to_columns([decoded], schema), record, "t")
    return back


def test_good_and_bad_records_are_told_apart():
    """Of a mixed batch the good become rows with time and place, the bad rejects as they came."""
    good = msgspec.json.encode(GOOD)
    (found,) = decode(
        raw(5, good),
        raw(6, b"oops", key=None, headers=[{"key": "a", "value": b"1"}, {"key": "a", "value": None}]),
        raw(7, None),
        raw(8, good, partition=2),
    )
    assert found.rows == [(GOOD, 1005, 1, 5), (GOOD, 1008, 2, 8)]
    oops, missing = found.rejects
    assert (oops.key, oops.value, oops.headers) == (None, b"oops", [("a", b"1"), ("a", None)])
    assert (oops.topic, oops.partition, oops.offset, oops.fault.reason) == ("t", 1, 6, Reason.JSON_MALFORMED)
    assert (missing.key, missing.value, missing.headers) == (b"k", None, [])
    assert missing.fault.reason == Reason.VALUE_MISSING


def test_each_batch_is_decoded_by_itself():
    """Batches come out one by one, an empty one too."""
    batches = [pa.RecordBatch.from_pylist([raw(at, msgspec.json.encode(GOOD))] * at, schema=RAW) for at in range(3)]
    assert [len(one.rows) for one in decode_batches(batches, DECODER, "t")] == [0, 1, 2]


@given(st.lists(st.binary(max_size=30) | st.just(msgspec.json.encode(GOOD)), max_size=20))
def test_no_record_is_lost_or_doubled(values):
    """Each record of a batch is either a row or a reject, whatever its bytes."""
    (found,) = decode(*[raw(offset, value) for offset, value in enumerate(values)])
    places = [row[3] for row in found.rows] + [one.offset for one in found.rejects]
    assert sorted(places) == list(range(len(values)))
    assert all(one.value == values[one.offset] for one in found.rejects)


def test_decoded_columns():
    """A DataFrame of decoded records has the record's columns, its arrival, and the reject; all may be null."""
    assert READINGS.names == ["sensor", "celsius", "ingested_at", "kafka_partition", "kafka_offset", "_rejected"]
    assert "NOT NULL" not in decoded_ddl(Reading)


def test_rows_become_columns():
    """A transform sees a record's fields, its time and its place, and no reject."""
    (batch,) = to_columns([Decoded([(GOOD, 1234, 1, 5)], [])], READINGS)
    assert batch.to_pylist() == [
        {
            "sensor": 3,
            "celsius": 21.5,
            "ingested_at": datetime(1970, 1, 1, 0, 0, 1, 234_000, tzinfo=UTC),
            "kafka_partition": 1,
            "kafka_offset": 5,
            "_rejected": None,
        }
    ]


def test_rejects_become_columns():
    """A reject goes past the transform: only its place and itself are set."""
    (batch,) = to_columns([Decoded([], [reject()])], READINGS)
    (row,) = batch.to_pylist()
    rejected = row.pop("_rejected")
    assert {name for name, value in row.items() if value is not None} == {"kafka_partition", "kafka_offset"}
    assert (rejected["reason"], rejected["message"], rejected["schema_id"]) == ("contract_broken", "no", 7)


@given(st.lists(everything(), max_size=4), st.integers(0, 2**41), st.integers(0, 2**62))
def test_rows_go_through_columns_unchanged(records, timestamp_ms, offset):
    """What no transform changes is stored as it was decoded, each type and None, whichever field is the key."""
    decoded = Decoded([(one, timestamp_ms, 1, offset + at) for at, one in enumerate(records)], [])
    assert there_and_back(decoded, EVERYTHING, Everything) == decoded


@pytest.mark.parametrize("schema_id", [None, 0, 2**31, 2**32 - 1])
def test_rejects_go_through_columns_unchanged(schema_id):
    """A reject is set aside with the bytes it came with, whatever id its frame holds."""
    bare = replace(reject(6, schema_id), key=None, value=None, headers=[])
    decoded = Decoded([], [reject(5, schema_id), bare])
    assert there_and_back(decoded, READINGS, Reading) == decoded


@given(st.lists(st.binary(max_size=30).map(lambda body: b"\x00" + body), max_size=10))
def test_garbage_goes_through_columns(values):
    """A pipeline with a transform sets garbage aside as one without does."""
    (found,) = decode(*[raw(offset, value) for offset, value in enumerate(values)])
    back = there_and_back(found, READINGS, Reading)
    assert back == found


def test_a_row_that_a_transform_broke_is_set_aside():
    """A row that breaks the row's rules becomes a reject of stage transform, named by field, with its place."""
    (batch,) = to_columns([Decoded([(GOOD, 1, 1, 5), (GOOD, 1, 1, 6)], [])], READINGS)
    columns = batch.to_pylist()
    columns[1]["sensor"] = -3
    changed = pa.RecordBatch.from_pylist(columns, schema=READINGS)
    (found,) = from_columns([changed], Reading, "t")
    assert found.rows == [(GOOD, 1, 1, 5)]
    (bad,) = found.rejects
    assert (bad.fault.reason, bad.fault.stage) == (Reason.CONTRACT_BROKEN, Stage.TRANSFORM)
    assert bad.fault.rules == ("sensor:range",)
    assert (bad.topic, bad.partition, bad.offset, bad.key, bad.value) == ("t", 1, 6, None, None)


def test_a_row_may_have_other_fields_than_the_record():
    """A transform may add columns; the row takes those it has and leaves the rest."""

    class Warm(Reading, frozen=True, kw_only=True):
        fahrenheit: float

    (batch,) = to_columns([Decoded([(GOOD, 1, 1, 5)], [])], READINGS)
    columns = {**batch.to_pylist()[0], "fahrenheit": 70.7, "note": "warm"}
    (found,) = from_columns([pa.RecordBatch.from_pylist([columns])], Warm, "t")
    assert found.rows == [(Warm(**structs.asdict(GOOD), fahrenheit=70.7), 1, 1, 5)]


def test_an_id_is_text_for_a_transform():
    """Spark has no UUID: a transform sees an id as its 36 characters."""
    kind = EVERYTHING.field("id").type
    assert kind == pa.string()
    one = UUID(int=5)
    record = Everything(
        id=one,
        text="",
        other_id=one,
        moment=datetime(2020, 1, 1, tzinfo=UTC),
        small=1,
        big=1,
        ratio=1.0,
        flag=True,
    )
    (batch,) = to_columns([Decoded([(record, 1, 1, 5)], [])], EVERYTHING)
    row = batch.to_pylist()[0]
    assert (row["id"], row["other_id"], row["maybe_id"]) == (str(one), str(one), None)
