"""What the executors read, and what is reported if one of them fails."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.reconcile.spark_loading import reason_of, split_offsets, split_tokens


@given(st.integers(1, 300))
def test_the_token_ranges_contain_each_token_once(ranges):
    """From the smallest 64-bit integer to the largest, without a gap."""
    result = split_tokens(ranges)
    assert len(result) == ranges
    assert (result[0][0], result[-1][1]) == (-(2**63), 2**63 - 1)
    assert all(last + 1 == first for (_, last), (first, _) in itertools.pairwise(result))
    sizes = {last - first + 1 for first, last in result}
    assert max(sizes) - min(sizes) <= 1


def test_offset_ranges_are_split_to_the_size_of_a_task():
    """Each offset is in one piece; a range without offsets is in none."""
    spans = [OffsetRange(0, 5, 12), OffsetRange(1, 7, 7), OffsetRange(2, 0, 3)]
    assert split_offsets(spans, 3) == [(0, 5, 8), (0, 8, 11), (0, 11, 12), (2, 0, 3)]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            "[UDF] failed\n  File x\npenstock.errors.KafkaUnreachable: no answer from Kafka at h:9092\n\tat Java",
            "no answer from Kafka at h:9092",
        ),
        ("[X] the first line\n\tat Java", "[X] the first line"),
    ],
)
def test_a_failed_task_reports_our_own_error_first(told, reason):
    """Not a hundred lines of Java."""
    assert reason_of(Exception(told)) == reason
