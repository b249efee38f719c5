from datetime import UTC, datetime

import msgspec
import pytest

from penstock.contract.record import Arrival, check
from tests.unit.records import Reading


def test_check_gives_the_record_of_good_fields():
    """Fields that keep every rule become the record."""
    assert check({"sensor": 1, "celsius": 2.5}, Reading) == Reading(sensor=1, celsius=2.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sensor": -1, "celsius": 1.0}, r"Expected `int` >= 0 - at `\$.sensor`"),
        ({"sensor": "1", "celsius": 1.0}, r"Expected `int`, got `str` - at `\$.sensor`"),
        ({"sensor": 1}, "missing required field `celsius`"),
    ],
)
def test_check_names_field_and_rule(fields, message):
    """Fields that break a rule are refused with the field and the rule."""
    with pytest.raises(msgspec.ValidationError, match=message):
        check(fields, Reading)


def test_records_and_arrivals_cannot_be_changed():
    """Nobody changes a record on its way."""
    with pytest.raises(AttributeError):
        Reading(sensor=1, celsius=1.0).celsius = 2.0
    with pytest.raises(AttributeError):
        Arrival(datetime.now(UTC), 0, 0).kafka_offset = 1
