"""Personal data are masked, and so are unknown fields."""

from datetime import datetime
from typing import Annotated

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.masking import MASK, has_personal_key, mask_personal, mask_row, shown_names, shows_key
from penstock.contract.primary_key import PrimaryKey, bucket, day_of
from penstock.contract.record import KEY, PERSONAL, Record
from penstock.contract.table import build_table
from penstock.pipelines.users import User
from tests.unit.keyed import Sample


def test_personal_fields_are_masked():
    """Other fields are not, and null stays null."""
    masked = mask_personal({"id": "7", "email": "a@b.c", "nationality": "NL", "phone": None}, User)
    assert masked == {"id": "7", "email": MASK, "nationality": "NL", "phone": None}


def test_unknown_fields_are_masked():
    """A field of another shape, or one that the contract does not know, shows only its names."""
    masked = mask_personal({"name": {"first": "Ada", "last": "L"}, "gender": ["x"], "more": 7}, User)
    assert masked == {"name": {"first": MASK, "last": MASK}, "gender": [MASK], "more": MASK}
    assert (mask_personal("Ada", User), mask_personal([1, None], User), mask_personal(None, User)) == (
        MASK,
        [MASK, None],
        None,
    )


def test_deep_nesting_is_masked_as_a_whole():
    """As deep as JSON is read: it is never an error."""
    deep = "Ada"
    for _ in range(900):
        deep = [deep]
    assert "Ada" not in repr(mask_personal({"more": deep}, User))


def test_the_position_of_a_record_is_shown():
    """Partition, offset and time are not personal data."""
    assert {"kafka_offset", "kafka_partition", "ingested_at", "id"} <= shown_names(User)


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.just("secret"))
values = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text("abc"), inner)))


@given(values)
def test_no_unknown_value_is_shown(value):
    """Whatever the shape, only masks and nulls are left."""

    def check(result):
        if isinstance(result, dict):
            [check(item) for item in result.values()]
        elif isinstance(result, list):
            [check(item) for item in result]
        else:
            assert result in (MASK, None)

    check(mask_personal(value, User))


class Visit(Record, frozen=True, kw_only=True):
    """A key of several fields, one of which is personal."""

    email: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY | PERSONAL)]
    at: Annotated[datetime, Meta(tz=True, extra=KEY)]


def test_a_key_of_several_fields_is_hidden_if_one_of_them_is_personal():
    """Otherwise it is shown, in any form that is an id."""
    sample = b'{"sensor": "s1", "at": "2026-01-31T12:00:00Z"}'
    assert shows_key(sample, Sample)
    assert not shows_key(sample, Visit)
    assert not shows_key(b'{"email":"ada@x","at":"2026-01-31T12:00:00Z"}', Visit)
    assert not shows_key(b'{"sensor":"s1"}', Sample)
    assert (has_personal_key(Visit), has_personal_key(Sample)) == (True, False)


def test_columns_derived_from_personal_fields_are_hidden():
    """Those derived from others are shown, though they are no fields of the record."""
    key = PrimaryKey(partition=("email", bucket("email", 16), day_of("at")), clustering=("at",))
    row = {"email": "ada@x", "email_bucket": 3, "at_day": "2026-01-31", "at": "2026-01-31", "odd": 1, "kafka_offset": 5}
    masked = mask_row(row, build_table("lab", "visits", Visit, key))
    assert masked == row | {"email": MASK, "email_bucket": MASK, "odd": MASK}
