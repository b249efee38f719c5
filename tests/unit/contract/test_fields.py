from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from msgspec import Meta

from penstock.contract import fields
from penstock.contract.fields import from_epoch_ms, to_epoch_ms
from penstock.contract.record import PAST, PERSONAL, Int64, Record
from penstock.contract.schemas import json_schema
from penstock.pipelines.users import User
from tests.unit.records import Everything, Moment
from tests.unit.strategies import moments

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def field_of(kind) -> fields.Field:
    record = msgspec.defstruct("One", [("it", kind)], bases=(Record,), frozen=True, kw_only=True)
    return fields.fields(record)[0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (str, fields.TEXT),
        (UUID, fields.UUID),
        (Moment, fields.TIMESTAMP),
        (Int64, fields.BIGINT),
        (float, fields.DOUBLE),
        (bool, fields.BOOLEAN),
    ],
)
def test_each_type_has_its_kind_optional_or_not(kind, expected):
    """A field's kind is derived from its type; `| None` makes the field nullable and changes nothing else."""
    assert (field_of(kind).kind, field_of(kind).nullable) == (expected, False)
    assert (field_of(kind | None).kind, field_of(kind | None).nullable) == (expected, True)


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (0, 2**31 - 1, fields.INT),
        (-(2**31), 2**31 - 1, fields.INT),
        (-5, 5, fields.INT),
        (0, 2**31, fields.BIGINT),
        (-(2**31) - 1, 0, fields.BIGINT),
    ],
)
def test_an_int_is_an_int_column_only_if_its_rules_bound_it_to_32_bits(least, most, expected):
    """An int field becomes `int` if both bounds fit 32 bits, and `bigint` otherwise."""
    assert field_of(Annotated[int, Meta(ge=least, le=most)]).kind is expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, fields.BIGINT),
        ({"ge": 0}, fields.BIGINT),
        ({"le": 5}, fields.BIGINT),
        ({"gt": -1, "lt": 2**31}, fields.INT),
        ({"gt": -1, "lt": 2**31 + 1}, fields.BIGINT),
        ({"gt": -(2**31) - 1, "le": 0}, fields.INT),
        ({"gt": -(2**31) - 2, "le": 0}, fields.BIGINT),
    ],
)
def test_an_int_has_64_bits_unless_its_rules_say_less(rules, expected):
    """Both bounds, of either kind, must fit 32 bits for an `int` column."""
    assert field_of(Annotated[int, Meta(**rules)]).kind is expected


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (Annotated[datetime, Meta(tz=False)], "`it: Annotated[datetime, Meta(tz=True)]`"),
        (Annotated[datetime, Meta(tz=False)] | None, "`it: Annotated[datetime, Meta(tz=True)] | None = None`"),
        (Annotated[datetime, Meta(tz=False, extra=PAST)], "`it: Annotated[datetime, Meta(tz=True, ...)]`"),
    ],
)
def test_a_field_of_times_without_a_zone_is_rejected_with_what_to_write(kind, written):
    """A time without a zone is ambiguous, and could not be encoded."""
    with pytest.raises(TypeError, match="field it: a datetime needs a time zone") as wrong:
        field_of(kind)
    assert str(wrong.value).endswith(f"write {written}")


@pytest.mark.parametrize(
    ("kind", "explicit"),
    [
        (datetime, Moment),
        (datetime | None, Moment | None),
        (Annotated[datetime, Meta(extra=PAST)], Annotated[datetime, Meta(tz=True, extra=PAST)]),
    ],
)
def test_a_datetime_needs_no_rule_to_have_a_time_zone(kind, explicit):
    """`datetime` is the same field as `Annotated[datetime, Meta(tz=True)]`, and has the same JSON Schema."""
    plain, zoned = (
        msgspec.defstruct("One", [("it", it)], bases=(Record,), frozen=True, kw_only=True) for it in (kind, explicit)
    )
    assert fields.fields(plain) == fields.fields(zoned)
    assert json_schema(plain) == json_schema(zoned)


@pytest.mark.parametrize(("kind", "default"), [(UUID, UUID(int=1)), (str | None, "x")])
def test_a_default_that_schemas_cannot_say_is_rejected(kind, default):
    """Avro and old readers would not know it."""
    record = msgspec.defstruct("One", [("it", kind, default)], bases=(Record,), frozen=True, kw_only=True)
    with pytest.raises(TypeError, match="field it: an optional field is"):
        fields.fields(record)


@pytest.mark.parametrize(
    "kind", [list[Any], dict[int, str], bytearray, Literal[1], Literal["a", None], str | int, str | int | None, Record]
)
def test_a_type_without_a_column_type_is_rejected_by_name(kind):
    """The error names the field that no column can hold."""
    with pytest.raises(TypeError, match="field it"):
        field_of(kind)


def test_marks_and_description_are_found_inside_and_outside_a_union():
    """Key, personal data and description of a field are read wherever its Meta is."""
    inside = field_of(Annotated[str, Meta(description="in", extra=PERSONAL)] | None)
    outside = field_of(Annotated[str | None, Meta(description="out", extra=PERSONAL)])
    assert (inside.personal, inside.key, inside.description) == (True, False, "in")
    assert (outside.personal, outside.key, outside.description) == (True, False, "out")


def test_fields_are_in_the_order_of_the_record():
    """And know whether they are optional."""
    result = fields.fields(Everything)
    assert [item.name for item in result] == list(Everything.__struct_fields__)
    assert [item.name for item in result if not item.nullable] == list(Everything.__struct_fields__)[:8]


def test_every_field_of_a_user_is_described_and_personal_data_are_marked():
    """No reader has to guess what a field of a user is, or whether it is personal data."""
    assert all(field.description for field in fields.fields(User))
    assert {field.name for field in fields.fields(User) if not field.personal} == {
        "id",
        "gender",
        "registered_date",
        "nationality",
    }


@given(moments)
def test_epoch_ms_rounds_down_to_whole_milliseconds(moment):
    """Never later than the timestamp and less than 1 ms earlier, before 1970 too."""
    left = moment - EPOCH - timedelta(milliseconds=to_epoch_ms(moment))
    assert timedelta(0) <= left < timedelta(milliseconds=1)


@given(moments)
def test_a_timestamp_round_trips_through_its_milliseconds(moment):
    """`from_epoch_ms` inverts `epoch_ms` to the millisecond, in every year, and its timestamps are in UTC."""
    result = from_epoch_ms(to_epoch_ms(moment))
    assert result == moment - timedelta(microseconds=moment.microsecond % 1000)
    assert result.tzinfo is UTC


@pytest.mark.parametrize("ms", [-62_135_596_800_001, 253_402_300_800_000, 2**63 - 1])
def test_milliseconds_outside_the_range_of_datetime_are_rejected(ms):
    """A number of ms without a `datetime` is an error."""
    with pytest.raises(OverflowError):
        from_epoch_ms(ms)
