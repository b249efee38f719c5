import pytest

from bench import quick, trees
from bench.measure import Measurement
from penstock.errors import UsageError


def laps(*cpu_us: float) -> list[Measurement]:
    return [Measurement(1000, 2.0, 9.0, {"Java": one}, {"Java": 1}) for one in cpu_us]


@pytest.mark.parametrize(
    ("this", "that", "verdict"),
    [
        ((50, 51, 49), (50, 50, 51), "same"),
        ((60, 61, 59), (50, 50, 51), "slower"),
        ((40, 41, 39), (50, 50, 51), "faster"),
        ((60, 49, 61), (50, 50, 50), "same"),
        ((50.5, 50.6, 50.4), (50, 50, 50), "same"),
    ],
    ids=["alike", "slower", "faster", "a round says otherwise", "within noise"],
)
def test_a_verdict_needs_every_round_and_more_than_noise(this, that, verdict):
    """Slower or faster is what each round says, and the medians by more than 3 %."""
    found = quick.compare_measurements("main", laps(*this), laps(*that))
    assert found.verdict == verdict
    assert found.rounds == [one / other for one, other in zip(this, that, strict=True)]


def test_medians_are_shown_for_both():
    """CPU time and records a second of either tree."""
    found = quick.compare_measurements("main", laps(3, 1, 2), laps(4, 4, 4))
    assert (found.this_cpu_us, found.that_cpu_us, found.ratio) == (2, 4, 0.5)
    assert (found.this_rows_per_s, found.that_rows_per_s) == (500, 500)


def test_a_revision_is_laid_out_and_taken_away_again():
    """The tree of HEAD has the job's file while the block lasts."""
    with trees.check_out_tree("HEAD") as tree:
        assert (tree / "spark_stream.py").exists()
    assert not tree.exists()


def test_what_is_no_revision_is_told():
    """git's own words, and what to type."""
    with pytest.raises(UsageError, match="no-such-revision"), trees.check_out_tree("no-such-revision"):
        pytest.fail("there is none")
