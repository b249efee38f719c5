"""The histogram of latencies."""

from bisect import bisect_left
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.latency import BOUNDS_MS, build_histogram, merge_histograms, quantile_ms

latencies = st.lists(st.integers(-5, 2**40), max_size=60)


def test_a_bound_is_part_of_its_bucket():
    """A latency counts in the first bucket whose bound it does not exceed; the last bucket has the rest."""
    assert build_histogram([-3, 0, 10, 11, 25, 2**31 - 1, 2**40]) == {10: 3, 25: 2, 2**31 - 1: 2}


@given(st.lists(st.integers(-(2**40), 2**40) | st.sampled_from(BOUNDS_MS), max_size=200))
def test_counting_together_equals_counting_one_by_one(found):
    """On the bounds, below zero and above the last bound too."""
    last = len(BOUNDS_MS) - 1
    assert build_histogram(found) == dict(Counter(BOUNDS_MS[min(bisect_left(BOUNDS_MS, item), last)] for item in found))


@given(latencies, latencies)
def test_histograms_can_be_merged(one, other):
    """Counting two lists separately and merging equals counting them together; no record is lost."""
    assert merge_histograms([build_histogram(one), build_histogram(other)]) == build_histogram(one + other)
    assert sum(build_histogram(one).values()) == len(one)


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_its_record(found, share):
    """The quantile is in the bucket of the record with that rank."""
    ranked = sorted(found)[max(0, -int(-share * len(found) // 1) - 1)]
    bound = next(item for item in BOUNDS_MS if ranked <= item)
    below = max((item for item in BOUNDS_MS if item < bound), default=0)
    output = quantile_ms(build_histogram(found), share)
    assert output is not None
    assert below <= output <= bound


def test_without_records_there_is_no_quantile():
    """The latency is absent, not zero."""
    assert quantile_ms({}, 0.5) is None
