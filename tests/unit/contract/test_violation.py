"""Broken rules as data."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.fault import Fault
from penstock.contract.violation import Rule, Violation, format_place
from penstock.dead_letters.pending import DeadLetterSelection
from penstock.web.rejected.reader import DeadLetterFilter

PLACES = st.one_of(st.integers(0, 10**6), st.text(max_size=120))


def build_path(places):
    """Return a path with a member after each place."""
    return "items" + "".join(f"{format_place(place)}.price" for place in places)


@given(st.lists(st.lists(PLACES, min_size=2, max_size=2), min_size=1, max_size=5))
def test_records_that_break_a_rule_at_different_places_are_one_group(places):
    """Neither a number of an item nor a key of a dict is in a code, so that there are as many groups as rules."""
    fault = Fault.of([Violation(build_path(path), Rule.RANGE, "must be positive") for path in places])
    assert fault.rules == ("items[].price[].price:range",)
    assert all(build_path(path) in fault.message for path in places)


@pytest.mark.parametrize("rule", ["items[3].price", "items[].price:range", 'items["a,b]"]', "items", ""])
def test_dead_letters_are_selected_by_a_path_as_a_message_names_it(rule):
    """The places in it stand for any place, at commands and on pages."""
    letter = SimpleNamespace(reason="contract_broken", rules=("items[].price:range",), run="")
    assert DeadLetterSelection(rule=rule).takes(letter)
    assert DeadLetterFilter(rule=rule).matches(letter, "waiting")


@pytest.mark.parametrize("rule", ["items[3].name", "price", "items[3].price:type"])
def test_dead_letters_of_other_rules_are_not_selected(rule):
    """A path selects what begins with it."""
    letter = SimpleNamespace(reason="contract_broken", rules=("items[].price:range",), run="")
    assert not DeadLetterSelection(rule=rule).takes(letter)
    assert not DeadLetterFilter(rule=rule).matches(letter, "waiting")
