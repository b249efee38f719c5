"""Find the records that fail on their own, with a Python function as the transform."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.bisection import GROUPS, MOST, FailureSearch, Group, NotIsolated, Position, Run


class Transform:
    """Raises for a group that contains a bad record. A run ends with some outcomes, as Spark's do."""

    def __init__(self, bad: set[Position], most_outcomes: int = 3) -> None:
        self.bad, self.most_outcomes = bad, most_outcomes
        self.runs: list[Sequence[Group]] = []

    def run(self, groups: Sequence[Group]) -> dict[int, Exception | None]:
        self.runs.append(groups)
        outcomes: dict[int, Exception | None] = {}
        for number in range(len(groups) - 1, -1, -1):
            wrong = self.bad & set(groups[number])
            outcomes[number] = ValueError(sorted(wrong)) if wrong else None
            if wrong and len(outcomes) >= self.most_outcomes:
                break
        return outcomes


def find_all(records: Group, run: Run, count: int) -> dict[Position, Exception]:
    """Ask for this many records, one after the other."""
    search = FailureSearch(records, run)
    return dict(search.find_next() for _ in range(count))


def positions(count: int) -> list[Position]:
    return sorted((at % 3, at) for at in range(count))


@given(st.integers(1, 300), st.data())
def test_exactly_the_records_that_fail_on_their_own_are_found(count: int, data: st.DataObject) -> None:
    """Any number of them up to the limit, wherever they are; each with the error that it raised."""
    records = positions(count)
    bad = data.draw(st.sets(st.sampled_from(records), min_size=1, max_size=MOST))
    transform = Transform(bad, most_outcomes=data.draw(st.integers(1, 40)))
    failing = find_all(records, transform.run, len(bad))
    assert failing.keys() == bad
    assert all(str(error) == str([record]) for record, error in failing.items())
    assert all(len(groups) <= GROUPS for groups in transform.runs)


@pytest.mark.parametrize("at", [0, 49_999, 50_000, 99_999])
def test_one_record_among_many_takes_few_runs(at: int) -> None:
    """At most two for each time that the batch is halved, and one for the record alone."""
    records = positions(100_000)
    transform = Transform({records[at]}, most_outcomes=1)
    FailureSearch(records, transform.run).find_next()
    assert len(transform.runs) <= 9


def test_a_record_is_blamed_if_it_fails_twice_on_its_own() -> None:
    """In a group of its own, and then without any other; a record that passes then is not blamed."""
    records = positions(8)
    transform = Transform({records[5]})
    assert FailureSearch(records, transform.run).find_next()[0] == records[5]
    assert [[record] in groups for groups in transform.runs for record in [records[5]]].count(True) == 2
    assert transform.runs[-1] == [[records[5]]]

    def run(groups: Sequence[Group]) -> dict[int, Exception | None]:
        return {0: None} if len(groups) == 1 else Transform({records[5]}).run(groups)

    with pytest.raises(NotIsolated, match=r"1:7 fails with others, but passes alone"):
        FailureSearch(records, run).find_next()


def test_records_that_fail_only_together_are_not_blamed() -> None:
    """The transform is declared row-wise but is not: its parts pass."""
    with pytest.raises(NotIsolated, match="passes for each part"):
        FailureSearch(positions(8), Transform(set()).run).find_next()


@pytest.mark.parametrize("count", [21, 200, 100_000])
def test_too_many_failing_records_are_blamed_on_the_transform(count: int) -> None:
    """A transform that fails on every record does not fill the dead-letter topic."""
    with pytest.raises(NotIsolated, match=f"more than {MOST} records"):
        find_all(positions(count), Transform(set(positions(count))).run, MOST + 1)


def test_groups_that_passed_are_not_run_again() -> None:
    """The search for the next record continues after the last one."""
    records = positions(1_000)
    transform = Transform({records[300], records[700]}, most_outcomes=1_000)
    search = FailureSearch(records, transform.run)
    first, _ = search.find_next()
    runs = len(transform.runs)
    second, _ = search.find_next()
    assert {first, second} == transform.bad
    passed = {
        each for groups in transform.runs[:runs] for group in groups for each in group if not transform.bad & set(group)
    }
    assert not passed & {each for groups in transform.runs[runs:] for group in groups for each in group}


def test_other_failures_are_raised() -> None:
    """A service that becomes unavailable during the search ends it."""

    def run(groups: Sequence[Group]) -> dict[int, Exception | None]:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        FailureSearch(positions(4), run).find_next()
