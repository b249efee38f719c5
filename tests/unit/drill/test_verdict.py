"""The verdict on a drill."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.drill.verdict import PASSED, RECOVER_S, Facts, build_verdict

GOOD = Facts("kill-kafka", asked=10, ids=10, sent=18, stored=18, recovered_s=3.0, run_state="success")


def test_a_drill_without_problems_has_passed() -> None:
    """Nothing missing or duplicated, all produced, recovered in time, logs that name the fault."""
    assert build_verdict(GOOD) == PASSED
    assert GOOD.result().passed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"missing": 2}, "missing records: 2"),
        ({"doubled": 3}, "offsets counted twice: 3"),
        ({"differences": ["gap: x"]}, "differences reported by verify: 1, the first: gap: x"),
        ({"ids": 9}, "sent 9 distinct records and rejected 0, expected 10"),
        ({"ids": 11}, "a retry sent different ones"),
        ({"rejected": 1}, "1 records were rejected"),
        ({"rejects": True}, "no record was rejected"),
        ({"run_state": "failed"}, "the run ended in state failed"),
        ({"recovered_s": None}, "the stream never recovered"),
        ({"recovered_s": RECOVER_S + 0.1}, "recovered after 120.1 s"),
        ({"hidden": ["exited: kafka"]}, "no log line matches: exited: kafka"),
        ({"failure": "load: the run: not ready after 240 s"}, "load: the run"),
    ],
)
def test_each_failure_is_reported(wrong: dict[str, Any], message: str) -> None:
    """One problem is enough, and the verdict says which."""
    facts = replace(GOOD, **wrong)
    assert message in build_verdict(facts)
    assert not facts.result().passed


def test_recovery_at_the_limit_is_in_time() -> None:
    """The bound itself is in time."""
    assert build_verdict(replace(GOOD, recovered_s=RECOVER_S)) == PASSED


def test_records_rejected_by_the_run_need_not_be_sent() -> None:
    """They make up for those that are not in the topic, if some must be rejected."""
    assert build_verdict(replace(GOOD, ids=7, refused=3, rejected=3, rejects=True)) == PASSED


def test_all_failures_are_reported() -> None:
    """Several failures are listed next to each other."""
    output = build_verdict(replace(GOOD, missing=1, doubled=1))
    assert output == "missing records: 1; offsets counted twice: 1"
