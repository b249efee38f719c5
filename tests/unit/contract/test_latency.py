"""The histogram of latencies."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.latency import BOUNDS_MS, histogram, joined, quantile_ms

latencies = st.lists(st.integers(-5, 2**40), max_size=60)


def test_a_bound_is_part_of_its_bucket():
    """A latency counts in the first bucket whose bound it does not exceed; the last takes what is longer."""
    assert histogram([-3, 0, 10, 11, 25, 2**31 - 1, 2**40]) == {10: 3, 25: 2, 2**31 - 1: 2}


@given(latencies, latencies)
def test_histograms_join(one, other):
    """Counting two lists apart and joining is counting them together; no record is lost."""
    assert joined([histogram(one), histogram(other)]) == histogram(one + other)
    assert sum(histogram(one).values()) == len(one)


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_lies_in_its_records_bucket(found, share):
    """The quantile lies in the bucket in which the record of that rank lies."""
    ranked = sorted(found)[max(0, -int(-share * len(found) // 1) - 1)]
    bound = next(one for one in BOUNDS_MS if ranked <= one)
    below = max((one for one in BOUNDS_MS if one < bound), default=0)
    told = quantile_ms(histogram(found), share)
    assert told is not None
    assert below <= told <= bound


def test_there_is_no_quantile_of_nothing():
    """Without records there is no latency, not one of zero."""
    assert quantile_ms({}, 0.5) is None
