"""Whatever the bytes are, decode returns a record that can be stored, or says what is wrong."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.broker.registry import WriterSchema
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.expansion import MAX_EXCESS, MAX_VALUES_PER_BYTE
from penstock.codec.records import Decoder
from penstock.codec.values import ContentReader, read_fields
from penstock.codec.wire_format import HEADER_BYTES, encode_header
from penstock.contract import cql
from penstock.contract.batch import Decoded
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.fields import fields
from penstock.contract.record import KEY, Record
from penstock.contract.rules import MAX_VALUES, build_date_check, build_text_check, find_violations, latest_past
from penstock.contract.schemas import avro_schema
from penstock.contract.table import build_table
from penstock.pipelines.users import User
from penstock.process.batches import decode_batches, decoded_ddl, from_columns, to_columns
from tests.corpus.avro import number
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas
from tests.unit.framed import values_in
from tests.unit.records import Everything, Reading
from tests.unit.strategies import changed_bytes, everything, json_texts, json_values, users

RAW = arrow_schema("key BINARY, value BINARY, partition INT, offset BIGINT, timestamp_ms BIGINT, order_header BINARY")
DECODERS = {record: Decoder(record, FakeSchemas.of(record)) for record in (User, Everything)}
REASONS = set(Reason)
_CODE = re.compile(r"\w*:[a-z]+")


def written(records: st.SearchStrategy[Any], record: type[Record]) -> st.SearchStrategy[bytes]:
    """Records as their producer writes them, in each format."""
    ways = [build_serializer(record, "json", JSON_ID), build_serializer(record, "avro", AVRO_ID), msgspec.json.encode]
    return st.builds(lambda write, item: write(item), st.sampled_from(ways), records)


_USERS, _EVERYTHING = written(users(), User), written(everything(), Everything)
frames = st.sampled_from([b"", b"\0", encode_header(JSON_ID), encode_header(AVRO_ID), encode_header(9)])
garbage = st.builds(bytes.__add__, frames, st.binary(max_size=200))
texts = st.builds(
    bytes.__add__,
    frames,
    (json_texts | json_values.map(lambda item: msgspec.json.encode(item).decode())).map(str.encode),
)
_NAMES = st.sampled_from([*User.__struct_fields__, *Everything.__struct_fields__, "x"])
_LIKELY = json_values | st.sampled_from(
    [
        str(UUID(int=5)),
        "2000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+05:00",
        "a@b",
        "https://a",
        "female",
        "GB",
        "a\0",
        "GB\n",
    ]
)
objects = st.dictionaries(_NAMES, _LIKELY, max_size=30).map(msgspec.json.encode)
anything = garbage | texts | objects | changed_bytes(_USERS) | changed_bytes(_EVERYTHING) | _USERS | _EVERYTHING


def assert_can_be_stored(record: Record) -> None:
    """It satisfies every rule, and each of its cells can be encoded."""
    values = msgspec.structs.asdict(record)
    assert msgspec.convert(values, type(record)) is not None
    assert find_violations(values, type(record)) == []
    assert build_date_check(type(record))(record, latest_past()) == build_text_check(type(record))(record) == []
    (framed,) = cql.build_encoder(build_table("ks", "t", type(record)))([(record, 1, 2, 3)], [7])
    assert len(values_in(framed)) == len(fields(type(record))) + 4


def assert_can_be_dead_lettered(fault: Fault) -> None:
    """Reason and rules are known, and the message fits in a header."""
    assert fault.reason in REASONS
    assert fault.stage == Stage.DECODE
    assert fault.message.encode()
    assert all(_CODE.fullmatch(rule) for rule in fault.rules)
    assert bool(fault.rules) is (fault.reason in (Reason.CONTRACT_BROKEN, Reason.VALUE_TOO_LARGE))


@pytest.mark.parametrize("record", [User, Everything])
@given(value=anything)
@example(value=encode_header(AVRO_ID) + b"\x02" + b"\xff" * 9 + b"\x7f")
@example(value=b"\xff\xfe{\x00")
@example(value=b'{"maybe_ratio":' + b"1" * 400 + b"}")
def test_decode_never_raises(record, value):
    """Whatever the bytes are, the result is a record that can be stored, or a fault that can be dead-lettered."""
    result = DECODERS[record].decode(value)
    if isinstance(result, Fault):
        assert_can_be_dead_lettered(result)
    else:
        assert_can_be_stored(result)


@given(users())
def test_what_satisfies_the_contract_is_stored(user):
    """A valid record is never rejected, in whatever format it is written."""
    for write in (
        build_serializer(User, "json", JSON_ID),
        build_serializer(User, "avro", AVRO_ID),
        msgspec.json.encode,
    ):
        result = DECODERS[User].decode(write(user))
        assert result.id == user.id
        assert_can_be_stored(result)


def keyed(kind: Any) -> type[Record]:
    """A record whose key is of that kind."""
    return msgspec.defstruct("Keyed", [("id", kind)], bases=(Record,), frozen=True, kw_only=True)


KEYED = {
    name: keyed(Annotated[kind, meta, Meta(extra=KEY)])
    for name, (kind, meta) in {
        "uuid": (UUID, Meta()),
        "text": (str, Meta(min_length=1, max_length=50)),
        "int": (int, Meta(ge=0, le=9)),
        "bigint": (int, Meta(ge=-(2**63), le=2**63 - 1)),
        "timestamp": (datetime, Meta(tz=True)),
        "date": (date, Meta()),
        "symbol": (Literal["a", "b"], Meta()),
    }.items()
}
_KEY_TEXTS = st.sampled_from(
    [
        str(UUID(int=5)),
        "5",
        "-5",
        "5.0",
        "1e5",
        "1e999",
        "nan",
        "inf",
        "true",
        "2000-01-01T00:00:00Z",
        "9" * 5000,
        "a\0",
    ]
)
keys = (
    st.none()
    | st.binary(max_size=40)
    | st.text(max_size=10).map(str.encode)
    | changed_bytes(_KEY_TEXTS.map(str.encode))
)


@pytest.mark.parametrize("record", KEYED.values(), ids=KEYED)
@given(key=keys)
def test_decoding_a_key_never_raises(record, key):
    """Whatever the key, it is an id of the record's kind, which can be encoded, or a fault."""
    result = Decoder(record, FakeSchemas()).deleted(key, None)
    if isinstance(result, Fault):
        assert result.reason in (Reason.VALUE_MISSING, Reason.KEY_AMBIGUOUS)
        assert_can_be_dead_lettered(result)
    else:
        write_us, cell = values_in(cql.build_delete_encoder(build_table("ks", "t", record))(result, 5))
        assert None not in (write_us, cell)


def raw(at: int, key: bytes | None, value: bytes | None) -> dict[str, Any]:
    return {"key": key, "value": value, "partition": at % 3, "offset": at, "timestamp_ms": at, "order_header": None}


def facts(decoded: Decoded, record: type[Record]) -> tuple[Any, ...]:
    """The comparable content of a batch: NaN equals nothing, but its cell equals itself."""
    return (
        list(cql.build_encoder(build_table("ks", "t", record))(decoded.rows, [row[3] for row in decoded.rows])),
        decoded.deletions,
        decoded.rejects,
    )


@pytest.mark.parametrize("record", [User, Everything])
@given(records=st.lists(st.tuples(keys, st.none() | anything), max_size=6))
def test_a_batch_goes_through_columns_unchanged(record, records):
    """Rows, deletions and dead letters are the same for a pipeline with a transform, and none is lost."""
    batch = pa.RecordBatch.from_pylist([raw(at, *item) for at, item in enumerate(records)], schema=RAW)
    (result,) = decode_batches([batch], DECODERS[record], "t")
    columns = to_columns([result], record, arrow_schema(decoded_ddl(record)))
    (back,) = [*from_columns(columns, record, "t")] or [Decoded()]
    assert facts(back, record) == facts(result, record)
    assert len(result.rows) + len(result.deletions) + len(result.rejects) == len(records)


@given(value=changed_bytes(written(st.builds(Reading, sensor=st.integers(0, 9), celsius=st.floats()), Reading)))
def test_a_changed_reading_is_a_reading_or_a_fault(value):
    """A small record, in which a changed byte is likely to matter."""
    result = Decoder(Reading, FakeSchemas.of(Reading)).decode(value)
    if isinstance(result, Fault):
        assert_can_be_dead_lettered(result)
    else:
        assert_can_be_stored(result)


_AVRO_NAMES = st.sampled_from(["A", "B", "n.C"])
_LOGICAL = st.sampled_from(["decimal", "uuid", "date", "timestamp-millis", "time-micros", "penstock-decimal", "x"])
_SIMPLE = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])


def _logical(kind: str, name: str, scale: Any) -> Any:
    return {"type": kind, "logicalType": name, "precision": 9, "scale": scale}


def _avro_record(name: str, kinds: list[Any], times: int) -> Any:
    """A record whose last field occurs more than once: by name, if it has one."""
    fields = [*kinds, *[last.get("name", "null") if isinstance(last := kinds[-1], dict) else last] * times]
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{at}", "type": kind} for at, kind in enumerate(fields)],
    }


_AVRO = st.recursive(
    _SIMPLE
    | _AVRO_NAMES
    | st.builds(_logical, _SIMPLE, _LOGICAL, st.sampled_from([0, 2, -1, 10**30, "x"]))
    | st.builds(
        lambda name, size: {"type": "fixed", "name": name, "size": size}, _AVRO_NAMES, st.sampled_from([0, 1, 9])
    ),
    lambda inner: (
        inner.map(lambda kind: {"type": "array", "items": kind})
        | inner.map(lambda kind: {"type": "map", "values": kind})
        | st.lists(inner, max_size=3)
        | st.builds(
            _avro_record, _AVRO_NAMES, st.lists(inner, min_size=1, max_size=3), st.sampled_from([0, 1, 30, 900])
        )
    ),
    max_leaves=6,
)
_AVRO_BYTES = st.lists(
    st.sampled_from([number(2**62), number(-(2**62)), number(90_000), number(3)])
    | st.binary(max_size=8)
    | st.builds(lambda byte, times: bytes([byte]) * times, st.integers(0, 255), st.sampled_from([9, 999])),
    max_size=8,
).map(b"".join)


def _values_in(result: Any) -> int:
    inner = result.values() if isinstance(result, dict) else result if isinstance(result, list) else ()
    return 1 + sum(map(_values_in, inner))


@given(kind=_AVRO, name=st.sampled_from(["x", "sensor", "celsius"]), body=_AVRO_BYTES, good=st.booleans())
@example(kind={"type": "array", "items": "double"}, name="x", body=number(2**62), good=True)
@example(kind=_avro_record("A", ["null"], 900), name="x", body=b"", good=True)
@example(
    kind={"type": "array", "items": _avro_record("A", ["int", "null"], 900)}, name="x", body=b"\2" * 999, good=True
)
@example(kind=_logical("bytes", "decimal", 0), name="celsius", body=b"\xf8\x0f" + b"\1" * 999, good=False)
def test_no_schema_and_value_harm_their_reader(kind, name, body, good):
    """Stream, pages and repair get a record or a fault, and never more values than the bytes account for."""
    fields = {field["name"]: field["type"] for field in avro_schema(Reading)["fields"]} | {name: kind}
    schema = avro_schema(Reading) | {"fields": [{"name": key, "type": of} for key, of in fields.items()]}
    schemas = FakeSchemas({5: WriterSchema("avro", schema)})
    start = build_serializer(Reading, "avro", 5)(Reading(sensor=3, celsius=1.5)) if good else encode_header(5)
    result = Decoder(Reading, schemas).decode(start + body)
    if isinstance(result, Fault):
        assert_can_be_dead_lettered(result)
    else:
        assert_can_be_stored(result)
    shown = ContentReader(schemas).read(start + body).value
    most = min(MAX_EXCESS + MAX_VALUES_PER_BYTE * (len(start + body) - HEADER_BYTES), MAX_VALUES)
    assert _values_in(shown) <= most
    assert _values_in(read_fields(start + body, AvroReaders(schemas), Everything)) <= most
