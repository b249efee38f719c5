"""The rules on growth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.drill.growth import ServiceUsage, compare_usage, find_memory_problems

START = ServiceUsage(memory_mib=400, handles=100, disk_mib=50)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (ServiceUsage(564, 100, 50), "steady"),
        (ServiceUsage(565, 100, 50), "memory MiB 565, at most 564 expected"),
        (ServiceUsage(400, 170, 50), "steady"),
        (ServiceUsage(400, 171, 50), "open files 171, at most 170 expected"),
        (ServiceUsage(400, 100, 358), "steady"),
        (ServiceUsage(400, 100, 359), "disk MiB 359, at most 358 expected"),
    ],
)
def test_growth_beyond_the_rule_is_named(end: ServiceUsage, message: str) -> None:
    """UsageGrowth within factor and slack is steady; one more is not. A thousand records may take 8 MiB of disk."""
    assert compare_usage("kafka", [START] * 3 + [end] * 3, records=1024).verdict == message


def test_a_peak_in_between_or_a_single_sample_is_no_growth() -> None:
    """Start and end are medians of three."""
    peak = ServiceUsage(4000, 9000, 5000)
    result = compare_usage("kafka", [START, peak, START, peak, START, START, peak], records=0)
    assert (result.verdict, result.start, result.end) == ("steady", START, START)


@given(st.lists(st.integers(0, 500), min_size=2))
def test_memory_within_the_slack_is_bounded(samples: list[int]) -> None:
    """The second half may take a fifth and 100 MiB more than the first, but not more than is configured."""
    half = len(samples) // 2
    wrong = find_memory_problems("spark-job", samples, limit_mib=400)
    grows = max(samples[half:]) > 1.2 * max(samples[:half]) + 100
    assert len(wrong) == grows + (max(samples) > 400)


def test_unbounded_memory_is_reported_with_start_and_end() -> None:
    """The verdict on a backlog names the service and its memory."""
    (grew,) = find_memory_problems("spark-job", [100, 110, 300, 240], limit_mib=400)
    assert grew == "spark-job grew from 110 to 300 MiB"
    assert find_memory_problems("spark-job", [], limit_mib=1) == []
