"""JSON text whose objects must not have duplicate names."""

import json

import pytest
from hypothesis import given

from penstock.contract.json_text import MALFORMED_JSON, DuplicateName, count_names
from tests.unit.strategies import json_values


def count_members(value):
    if isinstance(value, dict):
        return len(value) + sum(map(count_members, value.values()))
    return sum(map(count_members, value)) if isinstance(value, list) else 0


@given(json_values)
def test_the_members_of_all_objects_are_counted(value):
    """At every depth; no object that Python writes has a duplicate name."""
    assert count_names(json.dumps(value)) == count_members(value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "a": 2}', "a"),
        ('{"a": {"c": 1, "b": 2, "b": 3, "c": 4}}', "b"),
        (b'[{"a": 1, "\\u0061": 2}]', "a"),
        (json.dumps({"x" * 300: 1})[:-1] + ", " + json.dumps({"x" * 300: 2})[1:], "x" * 100),
    ],
)
def test_a_duplicate_name_is_an_error_that_names_it(text, name):
    """However it is escaped; a long name is truncated."""
    with pytest.raises(DuplicateName) as raised:
        count_names(text)
    assert raised.value.name == name
    assert str(raised.value) == f"duplicate name {name!r} in an object"


@pytest.mark.parametrize("text", ["{", "", b"\xff", "[" * 100_000])
def test_a_malformed_text_raises_what_callers_expect(text):
    """Every error of a reader of JSON is one of `MALFORMED_JSON`."""
    with pytest.raises(MALFORMED_JSON):
        count_names(text)


def test_constants_that_are_not_json_are_passed_to_the_caller():
    """Python accepts NaN; whether it counts is the caller's decision."""
    assert count_names('{"a": NaN}') == 1
    seen = []
    assert count_names('{"a": NaN, "b": Infinity}', seen.append) == 2
    assert seen == ["NaN", "Infinity"]
