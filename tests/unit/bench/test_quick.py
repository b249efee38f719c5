import pytest

from bench import quick, trees
from bench.measure import Measurement
from penstock.errors import UsageError


def measure(*cpu_us: float) -> list[Measurement]:
    return [Measurement(1000, 2.0, 9.0, {"Java": cost}, {"Java": 1}) for cost in cpu_us]


@pytest.mark.parametrize(
    ("this", "that", "verdict"),
    [
        ((50, 51, 49), (50, 50, 51), "same"),
        ((60, 61, 59), (50, 50, 51), "slower"),
        ((40, 41, 39), (50, 50, 51), "faster"),
        ((60, 49, 61), (50, 50, 50), "same"),
        ((50.5, 50.6, 50.4), (50, 50, 50), "same"),
    ],
    ids=["equal", "slower", "faster", "one round differs", "within noise"],
)
def test_a_verdict_requires_every_round_and_more_than_noise(this, that, verdict):
    """A tree is slower or faster only if every round agrees and the medians differ by more than 3 %."""
    comparison = quick.compare_measurements("main", measure(*this), measure(*that))
    assert comparison.verdict == verdict
    assert comparison.rounds == [ours / theirs for ours, theirs in zip(this, that, strict=True)]


def test_medians_are_shown_for_both():
    """The comparison has CPU time and records per second of both trees."""
    comparison = quick.compare_measurements("main", measure(3, 1, 2), measure(4, 4, 4))
    assert (comparison.this_cpu_us, comparison.that_cpu_us, comparison.ratio) == (2, 4, 0.5)
    assert (comparison.this_rows_per_s, comparison.that_rows_per_s) == (500, 500)


def test_a_revision_is_checked_out_and_deleted_again():
    """The tree of HEAD exists only inside the block."""
    with trees.check_out_tree("HEAD") as tree:
        assert (tree / "spark_stream.py").exists()
    assert not tree.exists()


def test_an_unknown_revision_is_an_error():
    """The error names the revision and quotes git."""
    with (
        pytest.raises(UsageError, match="unknown revision 'no-such-revision': fatal"),
        trees.check_out_tree("no-such-revision"),
    ):
        pytest.fail("the revision does not exist")
