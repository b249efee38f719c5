"""Tombstones whose key is an identity of several fields."""

from datetime import UTC, date, datetime
from io import BytesIO
from typing import Any
from uuid import UUID

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.registry import WriterSchema
from penstock.codec.records import Decoder
from penstock.codec.wire_format import encode_header
from penstock.contract.batch import Decoded
from penstock.contract.fault import Fault, Reason
from penstock.contract.identity import identity_of
from penstock.contract.keys import KEY_FORMATS, KeyFormat
from penstock.contract.proofs import KEY_SHAPES, NOTHING_PROVEN, KeyEvidence
from penstock.process.batches import decode_batches
from tests.unit.fakes import FakeSchemas
from tests.unit.keyed import Sample, build_record, keyed_records
from tests.unit.process.test_key_evidence import batch_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SAMPLE = Sample(sensor="a", at=NOON, celsius=1.5)
ID = ("a", NOON)
KEY = b'{"at":"2026-01-31T12:00:00.000Z","sensor":"a"}'


def key_schema(**types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Key", "fields": [{"name": name, "type": kind} for name, kind in types.items()]}


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
SECRET_ID = UUID(int=5)
AVRO = {
    1: key_schema(sensor="string", at=MILLIS),
    2: key_schema(at="string", sensor="string"),
    3: key_schema(at=MICROS, sensor="string"),
    4: key_schema(sensor="string"),
    5: key_schema(sensor="string", at=MILLIS, region="string"),
    6: key_schema(
        uuid={"type": "string", "logicalType": "uuid"}, day={"type": "int", "logicalType": "date"}, big="long"
    ),
    7: key_schema(sensor="string", at="long"),
}
JSON_SCHEMA = 9
SCHEMAS = FakeSchemas(
    {number: WriterSchema("avro", schema) for number, schema in AVRO.items()} | {JSON_SCHEMA: WriterSchema("json", {})}
)


def avro(schema_id: int, **value: Any) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(AVRO[schema_id]), value)
    return encode_header(schema_id) + body.getvalue()


def connect(payload: bytes) -> bytes:
    return b'{"schema":{"type":"struct","name":"server.lab.samples.Key"},"payload":%b}' % payload


def deleted(key: bytes, key_format: KeyFormat | None = None, proven=None, record=Sample) -> Any:
    return Decoder(record, SCHEMAS, key_format).deleted(key, proven)


SPELLINGS: list[tuple[KeyFormat, bytes]] = [
    ("json", KEY),
    ("json", b' { "sensor": "a", "at": "2026-01-31T13:00:00+01:00" }'),
    ("connect", KEY),
    ("connect", connect(KEY)),
    ("connect", b'{"schema":null,"payload":{"sensor":"a","at":"2026-01-31T12:00:00Z"}}'),
    ("registry", avro(1, sensor="a", at=NOON)),
    ("registry", avro(2, sensor="a", at="2026-01-31T12:00:00Z")),
    ("registry", avro(3, sensor="a", at=NOON)),
    ("registry", encode_header(JSON_SCHEMA) + KEY),
]


@pytest.mark.parametrize(("key_format", "key"), SPELLINGS)
def test_a_key_of_the_declared_format_names_its_row(key_format, key):
    """JSON, Connect's structs, and keys with a header, Avro's own moments among them."""
    assert deleted(key, key_format) == ID


@pytest.mark.parametrize(("key_format", "key"), SPELLINGS)
def test_a_key_of_several_fields_needs_no_declaration(key_format, key):
    """No text is such a key, so each is read in the only format that it can have."""
    assert deleted(key) == ID


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (b"", "expected a JSON object with exactly the fields sensor, at"),
        (b"a", "expected a JSON object with exactly the fields sensor, at"),
        (b'"a"', "expected a JSON object with exactly the fields sensor, at"),
        (b"7", "expected a JSON object with exactly the fields sensor, at"),
        (b'["a","2026-01-31T12:00:00Z"]', "expected a JSON object with exactly the fields sensor, at"),
        (b'{"sensor":"a"}', "expected a JSON object with exactly the fields sensor, at"),
        (KEY[:-1], "invalid JSON: Expecting"),
        (KEY[:-1] + b',"region":"eu"}', "expected a JSON object with exactly the fields sensor, at"),
        (b'{"sensor":"a","at":"noon"}', "at: Invalid RFC3339"),
        (b'{"sensor":"a","at":1769860800000}', "at: Expected `datetime`, got `int`"),
        (b'{"sensor":"a","at":"2026-01-31T12:00:00.0001Z"}', "at: is finer than milliseconds"),
        (avro(3, sensor="a", at=NOON.replace(microsecond=1)), "at: is finer than milliseconds"),
        (avro(4, sensor="a"), "expected a JSON object with exactly the fields sensor, at"),
        (avro(5, sensor="a", at=NOON, region="eu"), "expected a JSON object with exactly the fields sensor, at"),
        (avro(7, sensor="a", at=5), "at: Expected `datetime`, got `int`"),
        (connect(b'"a"'), "expected a JSON object with exactly the fields sensor, at"),
    ],
)
@pytest.mark.parametrize("proven", [None, frozenset(KEY_SHAPES)])
def test_a_key_that_is_no_identity_deletes_nothing(key, why, proven):
    """The dead letter says what the key must be."""
    fault = deleted(key, proven=proven)
    assert isinstance(fault, Fault)
    assert fault.reason == Reason.VALUE_MISSING
    assert why in fault.message


def test_every_type_of_avro_is_read():
    """UUIDs and dates as Python has them, whole numbers."""
    record = build_record("uuid", "day", "big")
    key = avro(6, uuid=SECRET_ID, day=date(2026, 1, 1), big=7)
    assert deleted(key, "registry", record=record) == (SECRET_ID, date(2026, 1, 1), 7)


def test_fields_called_schema_and_payload_are_an_identity_and_no_envelope():
    """The record's own names take precedence; Connect's envelope around them is still recognized."""
    kinds = build_record("text", "small").__annotations__
    record = msgspec.defstruct(
        "Named",
        [("payload", kinds["text"]), ("schema", kinds["small"])],
        bases=build_record("text").__bases__,
        frozen=True,
    )
    key = b'{"payload":"a","schema":1}'
    assert deleted(key, record=record) == deleted(key, "json", record=record) == ("a", 1)


@pytest.mark.parametrize("key_format", [None, *KEY_FORMATS])
@given(key=st.binary(max_size=60) | st.sampled_from([key for _, key in SPELLINGS]))
def test_parsing_a_key_never_raises_and_has_no_state(key_format, key):
    """The same bytes give the same identity or dead letter in any process, in any order."""
    decoder = Decoder(Sample, SCHEMAS, key_format)
    for proven in (None, frozenset(), frozenset(KEY_SHAPES)):
        first = decoder.deleted(key, proven)
        decoder.deleted(KEY, proven)
        assert decoder.deleted(key, proven) == first == deleted(key, key_format, proven)
        assert isinstance(first, Fault) or first == ID


@given(keyed_records(min_size=2))
def test_every_identity_round_trips_through_the_key_of_our_producer(instance):
    """Whatever its types and their order."""
    identity = identity_of(type(instance))
    key = identity.key_of(instance)
    assert deleted(key, record=type(instance)) == deleted(key, "json", record=type(instance)) == identity.of(instance)


def decode(*records: tuple[bytes, bytes | None], evidence: KeyEvidence) -> Decoded:
    (result,) = decode_batches([batch_of(records)], Decoder(Sample, SCHEMAS), "t", proofs=evidence)
    return result


WRITTEN = {
    "json_object": KEY,
    "connect": connect(KEY),
    "registry": avro(1, sensor="a", at=NOON),
}
"""Keys of the sample in each shape that it can have."""


@pytest.mark.parametrize("shape", WRITTEN)
def test_records_with_a_value_prove_the_format_of_their_keys(shape):
    """A tombstone of that format deletes its row; one of another is ambiguous. Our own producer's is a JSON object."""
    evidence = KeyEvidence(NOTHING_PROVEN)
    tombstones = [(key, None) for key in WRITTEN.values()]
    result = decode((WRITTEN[shape], msgspec.json.encode(SAMPLE)), *tombstones, evidence=evidence)
    assert [deletion.key for deletion in result.deletions] == [ID]
    assert [reject.key for reject in result.rejects] == [key for other, key in WRITTEN.items() if other != shape]
    assert {reject.fault.reason for reject in result.rejects} == {Reason.KEY_AMBIGUOUS}
    assert evidence.found == {shape: {0: 0}}


@pytest.mark.parametrize("key", [b'{"sensor":"a","at":"2026-01-31T12:00:00Z"}', KEY])
def test_an_object_of_any_order_proves_the_format(key):
    """The spelling is not part of the format."""
    evidence = KeyEvidence(NOTHING_PROVEN)
    result = decode((key, msgspec.json.encode(SAMPLE)), (KEY, None), evidence=evidence)
    assert ([deletion.key for deletion in result.deletions], result.rejects) == ([ID], [])


def test_keys_of_other_rows_prove_nothing():
    """An object with the identity of another row is some other key."""
    evidence = KeyEvidence(NOTHING_PROVEN)
    other = b'{"at":"2026-01-31T12:00:01.000Z","sensor":"a"}'
    result = decode(
        (other, msgspec.json.encode(SAMPLE)), (b"a", msgspec.json.encode(SAMPLE)), (KEY, None), evidence=evidence
    )
    assert evidence.found == {}
    assert [reject.fault.reason for reject in result.rejects] == [Reason.KEY_AMBIGUOUS]
