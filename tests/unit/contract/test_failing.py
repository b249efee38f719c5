"""When a stream is stuck, and how that is reported."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from penstock.contract.failing import STUCK_AFTER, FailingBatch, stuck_batches

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BATCH = FailingBatch(
    checkpoint="/c",
    batch_id=7,
    first={0: 17, 1: 5, 2: 3},
    end={0: 20, 1: 9, 2: 3},
    failures=1,
    first_at=NOW,
    last_at=NOW,
    state="retrying",
    cause="orders.py, line 7: ValueError",
    message="/p/orders.py, line 7: ValueError: no ada",
)


@pytest.mark.parametrize(
    ("state", "age_s", "stuck"),
    [("retrying", 0, False), ("retrying", 59, False), ("retrying", 60, True), ("transform_failed", 0, True)],
)
def test_a_batch_is_stuck_when_retrying_does_not_help(state: str, age_s: float, stuck: bool) -> None:
    """After a minute; at once if it is not retried. An alert waits another minute, until two have passed."""
    batch = replace(BATCH, state=state)
    assert batch.is_stuck(NOW + timedelta(seconds=age_s)) == stuck
    assert timedelta(minutes=1) >= STUCK_AFTER


@pytest.mark.parametrize(
    ("checkpoint", "reached", "current"),
    [
        ("/c", {0: 20, 1: 9, 2: 3}, True),
        ("/other", {0: 20, 1: 9, 2: 3}, False),
        ("/other", {0: 20, 1: 8, 2: 3}, True),
        ("/other", {}, True),
    ],
)
def test_a_batch_of_an_older_checkpoint_is_over_once_the_ledger_has_passed_it(
    checkpoint: str, reached: dict[int, int], current: bool
) -> None:
    """One of the current checkpoint is not: a batch may be stored repeatedly without being committed."""
    old = replace(BATCH, first_at=NOW - timedelta(days=1))
    assert stuck_batches([old], checkpoint, reached, NOW) == ([old] if current else [])


def test_a_batch_without_positions_is_never_over() -> None:
    """Unknown positions excuse nothing."""
    assert replace(BATCH, end={}).is_current("/other", {0: 10**9})
    assert replace(BATCH, end={}).position == "unknown position"


def test_the_summary_says_where_since_when_and_why_and_quotes_no_record() -> None:
    """It is shown in alerts and pages; partitions without records are omitted."""
    assert BATCH.summary == (
        "the stream is stuck on batch 7 (0:17 to 0:19, 1:5 to 1:8) since 2026-01-01 12:00:00 UTC, 1 failure: "
        "orders.py, line 7: ValueError"
    )
    assert "./penstock logs spark-job" in BATCH.remedy
    assert "./penstock restart spark-job" in replace(BATCH, state="transform_failed").remedy
