"""Personal data are masked, and so are unknown fields."""

from datetime import datetime
from typing import Annotated

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.masking import MASK, has_personal_key, mask_personal, mask_row, shown_names, shows_key
from penstock.contract.primary_key import PrimaryKey, bucket, day_of
from penstock.contract.record import AS_TEXT, JSON_NULL, KEY, PERSONAL, Json, Record
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


class Contact(Record, frozen=True, kw_only=True, rename="camel"):
    """A nested record with a personal member."""

    phone_number: Annotated[str, Meta(extra=PERSONAL)]
    kind_of: str
    notes: dict[str, str] = {}  # noqa: RUF012  msgspec copies it


class Customer(Record, frozen=True, kw_only=True):
    """Personal data in composite values, and composite values that are personal."""

    id: Annotated[str, Meta(min_length=1, max_length=9, extra=KEY)]
    contact: Contact
    contacts: list[Contact] = []  # noqa: RUF012
    by_place: dict[str, Contact] = {}  # noqa: RUF012
    pair: tuple[Annotated[str, Meta(extra=PERSONAL)], int] | None = None
    friends: Annotated[dict[str, str], Meta(extra=PERSONAL)] = {}  # noqa: RUF012
    tags: list[str] = []  # noqa: RUF012
    as_text: Annotated[Contact, AS_TEXT] | None = None
    words: Annotated[dict[str, int], AS_TEXT] | None = None
    extra: Json = JSON_NULL


SHOWN = {"phoneNumber": MASK, "kindOf": "home", "notes": {"at": "noon"}}
CONTACT = {"phoneNumber": "Ada", "kindOf": "home", "notes": {"at": "noon"}}


def test_members_are_shown_unless_they_are_personal():
    """Within nested records, lists, dicts and tuples; names of a personal dict are data, and hidden too."""
    customer = {
        "id": "7",
        "contact": CONTACT,
        "contacts": [CONTACT, None, "Ada"],
        "by_place": {"work": CONTACT},
        "pair": ["Ada", 3],
        "friends": {"Ada": "Ada"},
        "tags": ["new"],
        "extra": {"Ada": ["Ada"]},
    }
    assert mask_personal(customer, Customer) == {
        "id": "7",
        "contact": SHOWN,
        "contacts": [SHOWN, None, MASK],
        "by_place": {"work": SHOWN},
        "pair": [MASK, 3],
        "friends": MASK,
        "tags": ["new"],
        "extra": {"Ada": [MASK]},
    }


def test_unknown_members_are_masked():
    """A nested record of another shape shows only its names."""
    masked = mask_personal({"contact": {"kindOf": "home", "more": {"b": 1}}, "tags": {"a": "b"}}, Customer)
    assert masked == {"contact": {"kindOf": "home", "more": {"b": MASK}}, "tags": {"a": MASK}}


def test_text_of_composite_values_is_hidden_if_something_in_it_is_personal():
    """A row has it as one text."""
    row = {"id": "7", "as_text": '{"phoneNumber":"Ada"}', "words": '{"a":1}', "extra": ' {"Ada":1}'}
    masked = mask_row(row, build_table("ks", "t", Customer))
    assert masked == {"id": "7", "as_text": MASK, "words": '{"a":1}', "extra": MASK}


def test_a_text_in_place_of_a_composite_value_is_hidden_in_a_message():
    """Nobody has checked it: it may name members that the contract does not know."""
    assert mask_personal({"words": '{"Ada":1}', "contact": "Ada", "tags": "Ada"}, Customer) == {
        "words": MASK,
        "contact": MASK,
        "tags": MASK,
    }


def test_surplus_items_of_a_tuple_are_hidden_not_dropped():
    """They are why the record was refused."""
    assert mask_personal({"pair": ["Ada", 3, "Ada", [1]]}, Customer) == {"pair": [MASK, 3, MASK, [MASK]]}


def test_columns_of_nested_records_are_masked_like_their_messages():
    """A row has the attributes' names."""
    masked = mask_row({"contact": {"phone_number": "Ada", "kind_of": "home"}}, build_table("ks", "t", Customer))
    assert masked == {"contact": {"phone_number": MASK, "kind_of": "home"}}


_LEAVES = st.sampled_from(["Ada", 7, None])
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["phoneNumber", "phone_number", "more"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["contact", "contacts", "by_place", "friends", "extra", "more"]), _VALUES))
def test_no_personal_leaf_is_shown_whatever_the_shape(value):
    """Only members that the contract knows, in the place where it knows them, are shown; here none is of that kind."""
    assert "Ada" not in repr(mask_personal(value, Customer))
