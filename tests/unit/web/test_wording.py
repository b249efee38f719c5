import pytest

from penstock.contract.fault import Reason
from penstock.contract.violation import Rule
from penstock.pipelines.users import User
from penstock.web.rejected import wording
from tests.unit.records import Everything, Reading, Scalars


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_worded(reason):
    """No reason is shown as a bare code."""
    assert wording.reason(reason)


@pytest.mark.parametrize("rule", Rule)
def test_every_rule_is_worded(rule):
    """With the field that breaks it."""
    result = wording.broken(f"email:{rule}", User)
    assert (result.field, result.description) == ("email", "E-mail address.")
    assert result.wrong
    assert "at most 320 characters" in result.demand


@pytest.mark.parametrize(
    ("record", "name", "demand"),
    [
        (User, "id", "a UUID"),
        (User, "phone", "text of 1 to 50 characters"),
        (User, "gender", "text that matches ^(female|male)$"),
        (User, "dob", "a date and time with a zone, as in 2024-05-01T12:00:00Z not in the future"),
        (Reading, "sensor", "a whole number from 0 to 1,000,000"),
        (Reading, "celsius", "a number"),
        (Everything, "flag", "true or false"),
        (Scalars, "price", "a number of at most 10 digits, 2 of them decimals"),
        (Scalars, "day", "a date, as in 2024-05-01"),
        (Scalars, "born", "a date, as in 2024-05-01 not in the future"),
        (Scalars, "opens", "a time without a zone, as in 12:00:00.5"),
        (Scalars, "lasts", "an ISO 8601 duration of days, hours, minutes and seconds, as in P1DT12H"),
        (Scalars, "hash", "Base64 of at most 88 characters"),
        (Scalars, "size", "one of 'L', 'M', 'S'"),
        (Scalars, "maybe_side", "one of 'buy', 'sell-short', or null"),
        (Scalars, "count", "a whole number from -9,223,372,036,854,775,808 to 9,223,372,036,854,775,807"),
        (Everything, "maybe_text", "text, or null"),
        (Everything, "", "an object of at most 1,000,000 bytes and 1,000 fields"),
        (Reading, "gone", ""),
    ],
)
def test_the_rules_of_a_field_are_worded(record, name, demand):
    """Type, lengths, pattern, range; nothing for a field that the contract does not have."""
    assert wording.demand(record, name) == demand


def test_unknown_codes_break_nothing():
    """An older penstock may have written them."""
    assert wording.reason("older") == ""
    assert wording.broken("field:older", Reading) == wording.BrokenRule("field:older", "field", "", "", "")
