"""The write timestamps of records that Kafka's timestamp or a field orders."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.fault import Fault, Reason
from penstock.contract.order_by import (
    BY_TIMESTAMP,
    OrderBy,
    Source,
    Tombstone,
    check_order_by,
    declared_rank,
    order_by_of,
)
from penstock.contract.record import KEY, Int64, Record
from penstock.contract.rules import FUTURE_SLACK
from penstock.errors import RegistryUnreachable

Moment = Annotated[datetime, Meta(tz=True)]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LATEST = NOW + FUTURE_SLACK
NOW_MS = round(NOW.timestamp() * 1000)


class Version(Record, frozen=True, kw_only=True):
    """A record with each kind of field that can order it, and some that cannot."""

    id: Annotated[UUID, Meta(extra=KEY)]
    number: Int64
    small: Annotated[int, Meta(ge=-5, le=5)]
    at: Moment
    name: str
    ratio: float
    maybe: Int64 | None = None


class Clashing(Record, frozen=True, kw_only=True):
    """A record with a field that has the name of a Kafka property."""

    id: Annotated[UUID, Meta(extra=KEY)]
    timestamp: Moment
    offset: Int64


class Fit(Record, frozen=True, kw_only=True):
    """A record with an integer and a datetime."""

    id: Annotated[int, Meta(ge=0, le=99, extra=KEY)]
    number: Int64
    at: Moment


BY_TIME = order_by_of(Fit, BY_TIMESTAMP, None)
BY_NUMBER = order_by_of(Fit, "number", None)
BY_AT = order_by_of(Fit, "at", None)


def fit(number: int = 1, at: datetime = NOW) -> Fit:
    return Fit(id=1, number=number, at=at)


def place(order_by: OrderBy, record: Fit, timestamp_ms: int = NOW_MS, offset: int = 0, header: bytes | None = None):
    return order_by.compute_timestamp(record, Source(timestamp_ms, offset, header), LATEST)


def test_without_a_declaration_offsets_order():
    """The default needs nothing from this module."""
    assert order_by_of(Fit, "offset", None) is None


@given(st.lists(st.tuples(st.integers(0, NOW_MS), st.integers(0, 2**40)), min_size=2, max_size=2))
def test_the_later_timestamp_is_the_later_write(sources):
    """Whatever the offsets are; within a millisecond the next thousand offsets are later."""
    (earlier_ms, first), (later_ms, other) = sorted(sources)
    earlier, later = place(BY_TIME, fit(), earlier_ms, first), place(BY_TIME, fit(), later_ms, other)
    assert earlier < later or earlier_ms == later_ms
    following = [place(BY_TIME, fit(), earlier_ms, first // 1000 * 1000 + step) for step in range(1000)]
    assert following == sorted(set(following))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_the_larger_number_is_the_later_write(one, other):
    """It is the write timestamp itself; Kafka's timestamp does not count."""
    assert place(BY_NUMBER, fit(one), 5, 7) == one
    assert (place(BY_NUMBER, fit(one)) < place(BY_NUMBER, fit(other))) == (one < other)


@given(*[st.datetimes(max_value=datetime(2026, 1, 1), timezones=st.just(UTC))] * 2)
def test_the_later_datetime_is_the_later_write(one, other):
    """To the microsecond, in any zone, before 1970 too."""
    assert (place(BY_AT, fit(at=one)) < place(BY_AT, fit(at=other))) == (one < other)
    assert place(BY_AT, fit(at=datetime(1970, 1, 1, 1, 0, 0, 5, timezone(timedelta(hours=1))))) == 5


@pytest.mark.parametrize(
    ("found", "rules", "message"),
    [
        (place(BY_NUMBER, fit(-1)), ("number:range",), "number: is negative"),
        (place(BY_NUMBER, fit(2**63)), ("number:range",), "more than 64 bits"),
        (place(BY_AT, fit(at=LATEST + timedelta(microseconds=1))), ("at:date",), "at: is in the future"),
    ],
)
def test_a_value_that_would_always_win_is_rejected(found, rules, message):
    """It breaks a rule of the contract, so the record can be repaired."""
    assert isinstance(found, Fault)
    assert (found.reason, found.rules) == (Reason.CONTRACT_BROKEN, rules)
    assert message in found.message
    assert place(BY_AT, fit(at=LATEST)) > 0


@pytest.mark.parametrize(("timestamp_ms", "message"), [(-1, "no Kafka timestamp"), (NOW_MS + 60_001, "in the future")])
def test_a_timestamp_that_cannot_order_is_rejected(timestamp_ms, message):
    """Of tombstones too."""
    for result in (place(BY_TIME, fit(), timestamp_ms), tombstone_place(BY_TIME, timestamp_ms=timestamp_ms)):
        assert isinstance(result, Fault)
        assert (result.reason, result.rules) == (Reason.ORDER_UNKNOWN, ())
        assert message in result.message
    assert place(BY_TIME, fit(), NOW_MS + 60_000) == (NOW_MS + 60_000) * 1000


def tombstone_place(order_by: OrderBy, headers=(), timestamp_ms: int = NOW_MS, header: bytes | None = None):
    return order_by.compute_tombstone_timestamp(b"1", list(headers), Source(timestamp_ms, 3, header), LATEST)


def test_a_tombstone_has_its_timestamp_and_needs_a_function_for_a_field():
    """Without a function of the pipeline it is rejected with that reason."""
    assert tombstone_place(BY_TIME) == NOW_MS * 1000 + 3
    result = tombstone_place(BY_NUMBER)
    assert result.reason == Reason.ORDER_UNKNOWN
    assert "define order_of_tombstone in the pipeline's file" in result.message


def test_the_pipelines_function_gets_what_a_tombstone_has():
    """Key, time and headers; a redriven tombstone has its first time."""
    given_: list[Tombstone] = []
    by = replace(BY_NUMBER, of_tombstone=lambda item: given_.append(item) or int(dict(item.headers)["v"]))
    assert tombstone_place(by, [("v", b"9")]) == 9
    assert tombstone_place(by, [("v", b"9")], header=b"t5000") == 9
    at = datetime(1970, 1, 1, 0, 0, 0, 5000, UTC)
    assert given_ == [Tombstone(b"1", NOW, [("v", b"9")]), Tombstone(b"1", at, [("v", b"9")])]
    by_time = replace(BY_AT, of_tombstone=lambda item: item.timestamp)
    assert tombstone_place(by_time) == NOW_MS * 1000


@pytest.mark.parametrize(
    ("order_by", "value", "message"),
    [
        (BY_NUMBER, "9", "returned str, not an integer"),
        (BY_NUMBER, True, "returned bool, not an integer"),
        (BY_NUMBER, -1, "is negative"),
        (BY_NUMBER, None, "returned NoneType"),
        (BY_AT, 9, "returned int, not a datetime with a zone"),
        (BY_AT, datetime(2026, 1, 1), "not a datetime with a zone"),
        (BY_AT, LATEST + timedelta(hours=1), "is in the future"),
    ],
)
def test_the_result_of_the_pipelines_function_is_validated(order_by, value, message):
    """Like the field's values."""
    result = tombstone_place(replace(order_by, of_tombstone=lambda _: value))
    assert result.reason == Reason.ORDER_UNKNOWN
    assert message in result.message


def test_an_error_of_the_pipelines_function_rejects_only_its_tombstone():
    """Except for errors that it did not cause."""

    def fail(_tombstone):
        raise KeyError("v")

    def unreachable(_tombstone):
        raise RegistryUnreachable("no answer")

    assert tombstone_place(replace(BY_NUMBER, of_tombstone=fail)).reason == Reason.PROCESSING_ERROR
    with pytest.raises(RegistryUnreachable):
        tombstone_place(replace(BY_NUMBER, of_tombstone=unreachable))
    never = tombstone_place(replace(BY_AT, of_tombstone=lambda item: item.timestamp), timestamp_ms=2**60)
    assert never.reason == Reason.PROCESSING_ERROR, "no such year"


@given(st.integers(0, NOW_MS), st.integers(0, 10**6), st.integers(0, NOW_MS), st.integers(0, 10**6))
def test_a_redriven_record_keeps_its_time(first_ms, first, again_ms, again):
    """However often it is redriven; a header only moves a record back."""
    kept_us, header = BY_TIME.kept_header(first_ms, first, None)
    assert kept_us == place(BY_TIME, fit(), first_ms, first)
    own_us = place(BY_TIME, fit(), again_ms, again)
    assert place(BY_TIME, fit(), again_ms, again, header) == min(kept_us, own_us)
    assert BY_TIME.kept_header(again_ms, again, header)[0] == min(kept_us, own_us)
    assert place(BY_NUMBER, fit(8), again_ms, again, header) == 8


@pytest.mark.parametrize("header", [b"", b"5", b"t", b"t-5", b"t5 ", b"\xff", b"t" + b"1" * 19])
def test_a_header_of_another_order_is_ignored(header):
    """Like that of a record that was redriven while offsets ordered the table."""
    assert place(BY_TIME, fit(), 9, 1, header) == 9001


def test_a_record_without_a_timestamp_stays_without():
    """It gets a new one when it is redriven."""
    assert BY_TIME.kept_header(-1, 5, None) is None


@given(st.integers(0, NOW_MS), st.integers(0, 10**6), st.integers(0, 2**63 - 1), st.integers(0, 999))
def test_a_row_explains_its_write_timestamp(timestamp_ms, offset, number, more_us):
    """By the column that it was derived from, as the driver returns it; a wall clock's time is not explained."""
    at = datetime(1970, 1, 1) + timedelta(milliseconds=timestamp_ms)
    written_us = place(BY_TIME, fit(), timestamp_ms, offset)
    assert BY_TIME.explains(at, offset, written_us)
    assert not BY_TIME.explains(at, offset, written_us + 1)
    assert BY_NUMBER.explains(number, offset, number)
    assert not BY_NUMBER.explains(number, offset, number + 1)
    written_us = place(BY_AT, fit(at=at.replace(tzinfo=UTC) + timedelta(microseconds=more_us)))
    assert BY_AT.explains(at, offset, written_us)
    assert not BY_AT.explains(at, offset, written_us + 1000)
    assert not BY_AT.explains(None, offset, written_us)


def test_the_column_that_explains_a_row_may_be_missing():
    """A transform need not keep the field, or its value."""
    assert [by.column_of(Fit) for by in (BY_TIME, BY_NUMBER, BY_AT)] == ["ingested_at", "number", "at"]
    assert [by.column_of(Clashing) for by in (BY_TIME, BY_NUMBER, BY_AT)] == ["ingested_at", None, None]
    assert order_by_of(Version, "small", None).column_of(Version) == "small"


def test_a_rank_has_the_position_and_a_digest():
    """Its shift gives the write timestamp from timestamp base and offset; equal bytes have an equal digest."""
    first, same, other = (declared_rank(77, 50, 7, value) for value in (b"a", b"a", b"b"))
    assert first == same != other
    assert (first.shift_us + 50 + 7, first.is_declared, declared_rank(77, 50, 7, None).digest) == (77, True, 0)


@pytest.mark.parametrize("order_by", ["offset", "timestamp", "number", "small", "at"])
def test_fields_that_can_order_are_accepted(order_by):
    """A field that is a datetime or an integer, and is never None."""
    check_order_by(Version, order_by, None)
    check_order_by(Fit, "number", lambda _: 1)
    check_order_by(Clashing, "offset", None)


@pytest.mark.parametrize(
    ("record", "order_by", "of_tombstone", "message"),
    [
        (Version, "nothing", None, "Version has no field 'nothing': write 'offset', 'timestamp', or one of 'number'"),
        (Version, "maybe", None, "'maybe' may be None"),
        (Version, "name", None, "'name' is neither a datetime nor an integer"),
        (Version, "ratio", None, "'ratio' is neither"),
        (Version, "id", None, "'id' is the key"),
        (Version, None, None, "invalid None: expected 'offset', 'timestamp' or the name of a field"),
        (Version, "at", 5, "order_of_tombstone: 5 is not callable"),
        (Version, "timestamp", len, "remove order_of_tombstone"),
        (Version, "offset", len, "remove order_of_tombstone"),
        (Clashing, "timestamp", None, "Clashing has a field of that name"),
    ],
)
def test_fields_that_cannot_order_are_rejected_with_what_to_write(record, order_by, of_tombstone, message):
    """Before anything is stored."""
    with pytest.raises((TypeError, ValueError)) as refused:
        check_order_by(record, order_by, of_tombstone)
    assert message in str(refused.value)
