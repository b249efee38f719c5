from datetime import UTC, datetime

import pytest

from penstock.contract.record import Arrival
from tests.unit.records import Reading


def test_records_and_arrivals_are_immutable():
    """No stage can change a record in flight."""
    with pytest.raises(AttributeError):
        Reading(sensor=1, celsius=1.0).celsius = 2.0
    with pytest.raises(AttributeError):
        Arrival(datetime.now(UTC), 0, 0).kafka_offset = 1
