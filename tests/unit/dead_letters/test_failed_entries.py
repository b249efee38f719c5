import pytest

from penstock.contract.fault import Fault, Reason, Stage
from penstock.dead_letters.failed_entries import FailedEntries
from penstock.errors import TooManyFailed

FAULT = Fault(Reason.CONTRACT_BROKEN, "email: of somebody", Stage.PRODUCE, rules=("email:pattern",))
RAISED = Fault(Reason.MAPPING_FAILED, "KeyError: 'somebody'", Stage.PRODUCE, cause="KeyError at my.py, line 7")


def outcome(failing, entries, max_share=0.2):
    """The number of entries after which a run fails; None if it does not."""
    failed = FailedEntries(max_share)
    number = -1
    try:
        for number in range(entries):
            if number in failing:
                failed.add(number, FAULT)
        failed.check(entries, at_end=True)
    except TooManyFailed as error:
        return error.entries
    return None


@pytest.mark.parametrize(
    ("failing", "entries", "fails_after"),
    [
        (range(0), 500, None),
        (range(4, 500, 5), 500, None),  # never more than the share
        (range(0, 500, 4), 500, 201),
        (range(500), 500, 200),
        (range(300, 500), 500, 376),
        (range(41), 199, 199),
        (range(39), 199, None),
        (range(9), 12, None),
        (range(10), 12, 12),
        (range(1), 1, 1),
        (range(9), 9, 9),
        (range(1), 2, None),
    ],
)
def test_a_run_fails_above_the_allowed_share(failing, entries, fails_after):
    """Of at least 200 entries or at the end; fewer than 10 failures only if all failed."""
    assert outcome(failing, entries) == fails_after


@pytest.mark.parametrize(("max_share", "fails_after"), [(0.0, 200), (0.5, 200), (1.0, None)])
def test_the_share_is_a_setting(max_share, fails_after):
    """1 allows every entry to fail; 0 allows none beyond the first few."""
    assert outcome(range(500), 500, max_share) == fails_after
    assert outcome(range(9), 500, 0.0) is None


def test_early_failures_count_once_the_check_starts():
    """Even if all later entries are valid."""
    failed = FailedEntries(0.2)
    for number in range(100):
        failed.add(number, FAULT)
    failed.check(199)
    with pytest.raises(TooManyFailed):
        failed.check(200)


def test_the_error_says_how_many_why_and_what_to_do():
    """The most frequent reason with an example and the settings; no content of a record."""
    failed = FailedEntries(0.2)
    for number in range(30):
        failed.add(number, RAISED if number % 3 else FAULT)
    with pytest.raises(TooManyFailed) as caught:
        failed.check(100, at_end=True)
    text = str(caught.value)
    assert "30 of 100 entries became dead letters, more than 20%" in text
    assert "20 times: KeyError at my.py, line 7, for example entry 1" in text
    assert "./penstock dlq list --reason mapping_failed" in text
    assert "PENSTOCK_SOURCE_MAX_FAILED_SHARE" in text
    assert "somebody" not in text
    assert (caught.value.failed, caught.value.exit_code) == (30, 1)
