import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.fault import Fault
from penstock.contract.record import PAST, Record
from penstock.contract.rules import (
    build_date_check,
    build_text_check,
    find_violations,
    latest_past,
    validate_record,
)
from penstock.contract.violation import Rule, Violation
from penstock.pipelines import users
from penstock.pipelines.users import User
from tests.unit.records import Everything

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def fields(captured_users):
    """The fields of a valid user."""
    return users.from_source(captured_users[0])


def codes(result):
    return [item.code for item in result]


def test_rule_names_are_stable():
    """Dead-letter topics and dashboards contain these names: a change here breaks them."""
    assert [str(rule) for rule in Rule] == [
        "required",
        "type",
        "length",
        "pattern",
        "character",
        "range",
        "format",
        "date",
        "size",
        "enum",
        "name",
    ]


def test_a_valid_record_breaks_no_rule(captured_users):
    """Every user of a real response satisfies every rule."""
    for entry in captured_users:
        assert isinstance(validate_record(users.from_source(entry), User, NOW), User)
        assert find_violations(users.from_source(entry), User) == []


@pytest.mark.parametrize(
    ("field", "value", "rules"),
    [
        ("id", "no uuid", ["id:format"]),
        ("id", 5, ["id:type"]),
        ("id", None, ["id:required"]),
        ("first_name", "", ["first_name:length"]),
        ("first_name", "x" * 501, ["first_name:length"]),
        ("first_name", 5, ["first_name:type"]),
        ("gender", "other", ["gender:pattern"]),
        ("post_code", 12345, ["post_code:type"]),
        ("email", "nobody", ["email:pattern"]),
        ("email", "a@b@c", ["email:pattern"]),
        ("email", "x" * 321, ["email:length", "email:pattern"]),
        ("dob", "yesterday", ["dob:format"]),
        ("dob", "2000-01-01T00:00:00", ["dob:format"]),
        ("dob", 946684800, ["dob:type"]),
        ("dob", "2999-01-01T00:00:00Z", ["dob:date"]),
        ("dob", "0001-01-01T00:00:00+05:00", ["dob:date"]),
        ("registered_date", "2999-01-01T00:00:00Z", ["registered_date:date"]),
        ("picture", "ftp://x/y", ["picture:pattern"]),
        ("nationality", "Norway", ["nationality:pattern"]),
        ("nationality", "NO\n", ["nationality:pattern"]),
        ("gender", "female\n", ["gender:pattern"]),
        ("first_name", "A\0da", ["first_name:character"]),
        ("email", "a\0@b\n", ["email:character", "email:pattern"]),
    ],
)
def test_each_rule_has_its_name(fields, field, value, rules):
    """A field that breaks a rule is named with the rule, and a text that breaks two with both."""
    assert codes(validate_record(fields | {field: value}, User, NOW)) == rules


def test_every_broken_rule_is_named(fields):
    """Several broken rules give several reasons, in the order of the fields, and so does the fault."""
    del fields["phone"]
    result = validate_record(fields | {"email": "nobody", "post_code": 1, "last_name": None}, User, NOW)
    assert codes(result) == ["last_name:required", "post_code:type", "email:pattern", "phone:required"]
    fault = Fault.of(result)
    assert fault.rules == tuple(codes(result))
    assert fault.message.count(";") == 3
    assert "phone: is missing" in fault.message


@pytest.mark.parametrize("found", [None, 5, "text", [], True])
def test_a_value_that_is_not_an_object_breaks_the_record_as_a_whole(found):
    """Any JSON value can be validated."""
    assert codes(validate_record(found, User, NOW)) == [":type"]


def test_an_optional_field_may_be_null_or_absent():
    """Rules apply to a value, not to its absence."""

    class Maybe(Record, frozen=True, kw_only=True):
        size: Annotated[int, Meta(ge=0, le=9)] | None = None

    assert find_violations({}, Maybe) == find_violations({"size": None}, Maybe) == []
    assert codes(find_violations({"size": 10}, Maybe)) == ["size:range"]
    assert codes(find_violations({"size": 10**400}, Maybe)) == ["size:range"]
    assert codes(find_violations({"size": "10"}, Maybe)) == ["size:type"]
    assert codes(find_violations({"size": True}, Maybe)) == ["size:type"]
    assert codes(find_violations({"size": 1.5}, Maybe)) == ["size:type"]


def test_every_type_can_be_rejected():
    """A value of another type is named as a violation, never raised."""
    names = list(Everything.__struct_fields__)
    violations = find_violations({name: [] for name in names}, Everything)
    assert codes(violations) == [f"{name}:type" for name in names]


class Event(Record, frozen=True, kw_only=True):
    """A record with a date that must be in the past, and one that need not."""

    began: Annotated[datetime, Meta(tz=True, extra=PAST)]
    ends: Annotated[datetime, Meta(tz=True)] | None = None


@pytest.mark.parametrize(
    ("began", "fine"),
    [
        (NOW, True),
        (NOW + timedelta(milliseconds=1), False),
        (NOW.astimezone(timezone(timedelta(hours=14))), True),
        (datetime.min.replace(tzinfo=UTC), True),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), False),
    ],
)
def test_a_past_date_is_not_after_the_latest_one(began, fine):
    """A zone does not make a date later."""
    assert bool(build_date_check(Event)(Event(began=began), NOW)) is not fine


def test_a_small_clock_skew_is_allowed():
    """The latest past date is a minute ahead of our clock, as the producer's may be."""
    ahead = latest_past() - datetime.now(UTC)
    assert timedelta(seconds=59) < ahead <= timedelta(seconds=60)


def test_only_a_date_that_is_marked_must_be_in_the_past():
    """Others only have to be dates that every client can read."""
    last = datetime.max.replace(tzinfo=UTC)
    assert build_date_check(Event)(Event(began=NOW, ends=last), NOW) == []
    beyond = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))
    assert codes(build_date_check(Event)(Event(began=NOW, ends=beyond), NOW)) == ["ends:date"]


def test_a_violation_that_only_msgspec_finds_is_reported():
    """A record that is rejected for what no field shows has msgspec's own message."""

    class Odd(Record, frozen=True, kw_only=True):
        it: str

        def __post_init__(self):
            raise ValueError("it is odd")

    assert validate_record({"it": "x"}, Odd, NOW) == [Violation("", Rule.TYPE, "it is odd")]


class Note(Record, frozen=True, kw_only=True):
    """Texts with and without a pattern."""

    words: str
    code: Annotated[str, Meta(pattern="^[a-z\\s]+$")]
    start: Annotated[str, Meta(pattern="^x")] | None = None
    maybe: Annotated[str, Meta(pattern="^[a-z]*$")] | None = None
    other: Annotated[str | None, Meta(description="Words, or none.")] = None


def note(**changes) -> Note:
    return Note(**{"words": "w", "code": "c"} | changes)


@pytest.mark.parametrize(
    "fine",
    [
        {},
        {"words": ""},
        {"words": "ends\n", "start": "x\n", "other": "\n"},
        {"words": "\x01\x7f\u2028\ufeff"},
        {"code": "a\nb\n"},
        {"maybe": ""},
    ],
    ids=repr,
)
def test_valid_texts_pass(fine):
    """Only NUL is not allowed; a newline at the end is invalid only if the pattern says that the text ends before
    it.
    """
    assert build_text_check(Note)(note(**fine)) == []


@pytest.mark.parametrize(
    ("wrong", "rules"),
    [
        ({"words": "\0"}, ["words:character"]),
        ({"words": "a\0", "other": "\0b"}, ["words:character", "other:character"]),
        ({"maybe": "a\n"}, ["maybe:pattern"]),
        ({"maybe": "\n"}, ["maybe:pattern"]),
        ({"maybe": "\0\n"}, ["maybe:character", "maybe:pattern"]),
    ],
    ids=repr,
)
def test_invalid_texts_are_named(wrong, rules):
    """Each text that contains NUL, or continues after the end in its pattern."""
    assert codes(build_text_check(Note)(note(**wrong))) == rules


@given(st.text(st.sampled_from("aZ\n\0 "), max_size=4))
def test_a_dollar_is_the_end_of_the_text(text):
    """A text matches `^[a-z]*$` if all of it is letters, as in every other language."""
    judged = validate_record({"words": "w", "code": "c", "maybe": text}, Note, NOW)
    assert isinstance(judged, Note) is (re.fullmatch("[a-z]*", text) is not None)
