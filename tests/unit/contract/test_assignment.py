"""Values are set within a record by paths."""

from decimal import Decimal
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.assignment import find_field, format_path, parse_path, read_value, set_values, split_assignment
from penstock.contract.record import AS_TEXT, JSON_NULL, KEY, Alias, Digits, Json, Record
from penstock.contract.violation import Rule, Violation


class Item(Record, frozen=True, kw_only=True, rename="camel"):
    """A record within others."""

    unit_price: Annotated[Decimal, Digits(10, 2)]
    note: str | None = None


class Order(Record, frozen=True, kw_only=True):
    """A record with values within values."""

    id: Annotated[str, Meta(min_length=1, max_length=9, extra=KEY)]
    first: Annotated[Item, Alias("former")]
    items: list[Item] = []  # noqa: RUF012  msgspec copies it
    labels: dict[str, int] = {}  # noqa: RUF012
    pair: tuple[int, str] | None = None
    sizes: set[int] = set()  # noqa: RUF012
    extra: Json = JSON_NULL
    as_text: Annotated[list[int], AS_TEXT] | None = None


VALUES = {
    "id": "a",
    "first": {"unitPrice": "1.00"},
    "items": [{"unitPrice": "2.00"}],
    "labels": {"a b": 1},
    "pair": [1, "x"],
}


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("id=x=y", ("id",), "x=y"),
        ("items[3].unitPrice=1.20", ("items", 3, "unitPrice"), "1.20"),
        (r'labels["a\"=]"]=7', ("labels", 'a"=]'), "7"),
        ("id=", ("id",), ""),
    ],
)
def test_a_path_ends_at_the_first_sign_outside_of_quotes(text, path, value):
    """A key of a dict may hold anything."""
    name, found = split_assignment(text)
    assert (parse_path(name), found) == (path, value)


def test_a_text_without_a_value_has_none():
    """It is for the caller to say so."""
    assert split_assignment("items[0]") == ("items[0]", None)


@pytest.mark.parametrize("text", ["", ".a", "a..b", "a[x]", "a[-1]", 'a["b]', "a b", "a]"])
def test_an_invalid_path_is_refused_with_examples(text):
    """Whatever is typed."""
    with pytest.raises(ValueError, match=r"expected e.g. address.city"):
        parse_path(text)


_STEPS = st.integers(0, 10**6) | st.text(max_size=50).filter(lambda text: text.isprintable())


@given(st.lists(_STEPS, max_size=4))
def test_a_path_is_read_as_it_is_written(steps):
    """Of any keys and places."""
    path = ("field", *steps)
    assert parse_path(format_path(path)) == path


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("price", "unknown field 'price': expected id, first, items, labels, pair, sizes, extra, as_text"),
        ("id.x", "nothing can be set within id: set id as a whole"),
        ("sizes[0]", "nothing can be set within sizes: set sizes as a whole"),
        ("first.price", "first has no 'price': expected unitPrice, note"),
        ("items.unitPrice", r"items has places: expected items\[0\]"),
        ("items[0].price", r"items\[0\] has no 'price': expected unitPrice, note"),
        ("labels[0]", r"labels has names: expected labels\[\"name\"\]"),
        ("pair[2]", "pair has no 2: expected 0, 1"),
    ],
)
def test_a_path_that_is_not_declared_names_what_is(path, says):
    """The nearest part that exists."""
    with pytest.raises(ValueError, match=says):
        find_field(parse_path(path), Order)


def read_at(path, text):
    return read_value(text, find_field(parse_path(path), Order))


def test_values_get_the_type_that_is_declared_at_the_path():
    """Composite ones and `Json` are JSON; no digit is lost."""
    assert read_at("items[0].unitPrice", "1.20") == Decimal("1.20")
    assert (read_at("labels.a", "7"), read_at("pair[1]", "7")) == (7, "7")
    assert read_at("items", '[{"unitPrice": 0.10}]') == [{"unitPrice": Decimal("0.10")}]
    assert (read_at("extra", "[1]"), read_at("as_text", "[1]")) == ([1], [1])
    with pytest.raises(msgspec.DecodeError):
        read_at("labels.a", "x")
    with pytest.raises(msgspec.DecodeError):
        read_at("items", "[")


def test_values_are_set_and_others_stay():
    """The original is not changed; members and the next item are added."""
    changes = {
        "first.note": "n",
        "items[0].unitPrice": Decimal("3"),
        "items[1]": {"unitPrice": Decimal("4")},
        'labels["c"]': 2,
        "pair[0]": 9,
        "id": "b",
    }
    assert set_values(VALUES, changes, Order) == {
        "id": "b",
        "first": {"unitPrice": "1.00", "note": "n"},
        "items": [{"unitPrice": Decimal("3")}, {"unitPrice": Decimal("4")}],
        "labels": {"a b": 1, "c": 2},
        "pair": [9, "x"],
    }
    assert VALUES["pair"] == [1, "x"]
    assert VALUES["first"] == {"unitPrice": "1.00"}


def test_a_field_is_changed_under_the_name_that_the_message_has():
    """A former one."""
    changed = set_values({"former": {"unitPrice": "1"}}, {"first.unitPrice": Decimal("2")}, Order)
    assert changed == {"former": {"unitPrice": Decimal("2")}}


@pytest.mark.parametrize(
    ("values", "path", "place", "why"),
    [
        (VALUES, "items[2].unitPrice", "items", "has 1 items: the next one is items[1]"),
        (VALUES, "items[1].unitPrice", "items[1]", "is not an object: set it as a whole"),
        ({"items": None}, "items[0]", "items", "is not an array: set it as a whole"),
    ],
)
def test_a_value_without_the_place_is_a_violation(values, path, place, why):
    """It names the part that is there."""
    assert set_values(values, {path: 1}, Order) == [Violation(place, Rule.TYPE, why)]
