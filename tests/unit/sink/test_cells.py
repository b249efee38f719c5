"""Both sides of a reconciliation write an id alike: a record's of Kafka, and the cells of its row."""

import uuid
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from cassandra import util
from cassandra.cqltypes import DateType, Int32Type, LongType, SimpleDateType, UTF8Type, UUIDType
from hypothesis import given

from penstock.contract.fields import from_epoch_ms, to_epoch_ms
from penstock.contract.identity import identity_of
from penstock.contract.record import Record
from penstock.sink.cells import format_ids
from tests.unit.keyed import KEY_TYPES, build_record, keyed_records

_TYPES = {
    "text": UTF8Type,
    "uuid": UUIDType,
    "int": Int32Type,
    "bigint": LongType,
    "date": SimpleDateType,
    "timestamp": DateType,
}


def _read_back(value: Any, kind: Any) -> Any:
    """The value as the driver reads it from the bytes that we write."""
    return _TYPES[kind.cql].deserialize(kind.encode(value), 5)


@given(keyed_records())
def test_table_and_kafka_give_the_same_text_of_an_id(record):
    """Of each type that a KEY field can have, and any number of fields; in any time zone, far from 1970 too."""
    identity = identity_of(type(record))
    record_id = identity.of(record)
    text = identity.text_of(record_id)
    values = list(zip(identity.values_of(record_id), identity.fields, strict=True))
    cells = [[_read_back(value, field.kind)] for value, field in values]
    selected = [
        [to_epoch_ms(value) if field.kind.cql == "timestamp" else cell[0]]
        for (value, field), cell in zip(values, cells, strict=True)
    ]
    assert [text] == format_ids(cells, identity) == format_ids(selected, identity) == identity.texts_of([record_id])
    assert identity.text_of(identity.of_text(text)) == text


def test_no_rows_have_no_ids():
    """With ids of one field, and of several."""
    for names in (["uuid"], ["at", "text"]):
        identity = identity_of(build_record(*names))
        assert identity.texts_of([]) == format_ids([[] for _ in names], identity) == []


@pytest.mark.parametrize(
    ("name", "cell", "text"),
    [
        ("day", util.Date(2**31 - 1), "2147483647"),
        ("day", util.Date(-(2**31)), "-2147483648"),
        ("at", 2**62, f"{2**62} ms"),
        ("at", -(2**62), f"-{2**62} ms"),
        ("day", util.Date(0), "1970-01-01"),
        ("at", datetime(2026, 1, 31, 12), "2026-01-31T12:00:00.000Z"),
        ("uuid", str(uuid.UUID(int=1)), str(uuid.UUID(int=1))),
    ],
)
def test_cells_that_no_record_can_have_have_a_text_too(name, cell, text):
    """Other programs may write rows with them."""
    assert format_ids([[cell]], identity_of(build_record(name))) == [text]


def test_a_moment_far_from_1970_is_exact():
    """The driver computes it with floats, and would be off by a millisecond if its microseconds were cut."""
    ms = to_epoch_ms(datetime(9999, 12, 30, tzinfo=UTC)) + 1
    identity = identity_of(build_record("at"))
    for at in range(ms, ms + 2000):
        cell = DateType.deserialize(at.to_bytes(8, "big"), 5)
        assert format_ids([[cell]], identity) == [identity.text_of(from_epoch_ms(at))]


def test_texts_are_escaped_like_json():
    """In ids of several fields, names too."""
    members = [(name, KEY_TYPES[name]) for name in ("text", "day")]
    names = {"text": "te x%s", "day": "d%y"}
    identity = identity_of(msgspec.defstruct("Keyed", members, bases=(Record,), rename=names, kw_only=True))
    record_id = ('a"\\\n%s\N{LATIN SMALL LETTER E WITH ACUTE}', date(2026, 1, 31))
    assert identity.texts_of([record_id]) == [identity.text_of(record_id)]
