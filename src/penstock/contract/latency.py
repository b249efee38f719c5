"""Latency histograms: the number of records in each bucket; a bucket is named by its upper bound in ms.

A record's latency is the time from Kafka's timestamp to the acknowledgement of its row.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable

BOUNDS_MS = (
    *(10, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 30_000, 60_000),
    *(120_000, 300_000, 900_000, 3_600_000, 21_600_000, 86_400_000),
    2**31 - 1,
)
"""Upper bounds, inclusive; the last bucket holds everything longer."""

Histogram = dict[int, int]
"""Number of records by the upper bound of their bucket; empty buckets are omitted."""


def build_histogram(latencies_ms: Iterable[int]) -> Histogram:
    """Return how many of the latencies fall into each bucket."""
    ascending, buckets, below = sorted(latencies_ms), {}, 0
    for bound in BOUNDS_MS:
        up_to = len(ascending) if bound == BOUNDS_MS[-1] else bisect_right(ascending, bound, lo=below)
        if up_to > below:
            buckets[bound] = up_to - below
        below = up_to
    return buckets


def merge_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """Return the sum of the histograms."""
    sums: Counter[int] = Counter()
    for counts in histograms:
        sums.update(counts)
    return dict(sums)


def quantile_ms(counts: Histogram, share: float) -> int | None:
    """Return the latency that `share` of the records do not exceed, in ms; None without records.

    Linear within its bucket.
    """
    rank, seen = share * sum(counts.values()), 0
    for at, bound in enumerate(BOUNDS_MS):
        records = counts.get(bound, 0)
        if records and seen + records >= rank:
            below = BOUNDS_MS[at - 1] if at else 0
            return round(below + (bound - below) * max(0.0, rank - seen) / records)
        seen += records
    return None
