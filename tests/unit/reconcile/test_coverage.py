import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.contract.batch import BatchSummary
from penstock.reconcile.audit import Audit
from penstock.reconcile.coverage import Coverage
from penstock.sink.ledger import REPLAY, LedgerEntry
from tests.unit.reconcile.facts import Facts
from tests.unit.strategies import few_examples


def line(first: int, last: int, job: str = "a") -> LedgerEntry:
    count = last - first + 1
    return LedgerEntry(BatchSummary(0, first, last, count, count, 0, 0, 0, 9, {}, {}), 1, job)


stretches = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 9), st.sampled_from(["a", "b", f"{REPLAY}1"])), max_size=9
)


def offsets(item: LedgerEntry) -> set[int]:
    return set(range(item.summary.first_offset, item.summary.last_offset + 1))


def covered_by(lines: list[LedgerEntry]) -> set[int]:
    return set().union(*map(offsets, lines))


@given(stretches)
def test_a_covered_offset_has_an_entry(found):
    """However entries overlap, `at` returns one that covers the offset, the stream's if there is one."""
    lines = [line(first, first + more, job) for first, more, job in found]
    coverage = Coverage(lines)
    streamed = [item for item in lines if not item.job.startswith(REPLAY)]
    for offset in range(45):
        at = coverage.at(offset)
        if offset in covered_by(lines):
            assert offset in offsets(at)
            assert not at.job.startswith(REPLAY) or offset not in covered_by(streamed)
        else:
            assert at is None
        bound = coverage.bound_after(offset)
        assert all(coverage.at(next_one) is at for next_one in range(offset, 45 if bound is None else bound))
    assert coverage.lines == streamed
    assert coverage.reached == max((item + 1 for item in covered_by(streamed)), default=0)


def compared(lines: list[LedgerEntry]) -> tuple[Audit, set[int]]:
    """The result for the entries of an empty topic, and the first offsets of those without overlap."""
    with tempfile.TemporaryDirectory() as home:
        audit = Facts(Path(home), lines=lines).reconcile(spans=[OffsetRange(0, 0, 99)], named_at_most=99)
    return audit, {item["offset"] for item in audit.named["miscounted"]}


@few_examples
@given(stretches)
def test_overlaps_are_counted_by_job(found):
    """doubled: what one job covers more than once; reread: what another job covers again; a replay counts nothing."""
    lines = [line(first, first + more, job) for first, more, job in found]
    balance = compared(lines)[0].balances[0]
    streamed = [item for item in lines if not item.job.startswith(REPLAY)]
    own = [[item for item in streamed if item.job == job] for job in ("a", "b")]
    doubled = sum(sum(len(offsets(item)) for item in mine) - len(covered_by(mine)) for mine in own)
    assert balance.doubled == doubled
    assert balance.reread == sum(len(covered_by(mine)) for mine in own) - len(covered_by(streamed))


@few_examples
@given(stretches)
def test_an_entry_without_overlap_is_compared_with_kafka(found):
    """Only these can be, and Kafka has none of their records here; a record in two entries belongs to either."""
    lines = [line(first, first + more, job) for first, more, job in found]
    streamed = [item for item in lines if not item.job.startswith(REPLAY)]
    alone = {
        item.summary.first_offset
        for at, item in enumerate(streamed)
        if not offsets(item) & covered_by(streamed[:at] + streamed[at + 1 :])
    }
    assert compared(lines)[1] == alone


def test_without_entries_nothing_is_covered():
    """Before a job has written one."""
    empty = Coverage([])
    assert (empty.at(0), empty.bound_after(0), empty.reached, empty.lines) == (None, None, 0, [])
