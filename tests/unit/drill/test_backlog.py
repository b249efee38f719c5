"""A backlog's batches, and what its verdict adds."""

from types import SimpleNamespace
from typing import Any

import pytest

from penstock.contract.batch import BatchSummary
from penstock.drill import backlog
from penstock.drill.verdict import PASSED
from penstock.errors import Unreachable
from penstock.sink.ledger import LedgerEntry


def line(batch_id: int, records: int) -> LedgerEntry:
    empty: Any = [0] * len(BatchSummary._fields)
    return LedgerEntry(BatchSummary(*empty)._replace(records=records), batch_id, "job")


def test_a_batch_spans_all_its_partitions() -> None:
    """The limit of a micro-batch applies to the sum of its ledger entries."""
    assert backlog.records_by_batch([line(1, 30), line(1, 20), line(2, 7)]) == {1: 50, 2: 7}


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(backlog.Backlog, "limits_mib", lambda _: {"spark-job": 700})
    return SimpleNamespace(settings=SimpleNamespace(spark_batch_records=100))


def make_run(batches: dict[int, int], memory_mib: list[int]) -> Any:
    """The result of a drill in which all records arrived."""

    def go(self: backlog.Backlog) -> None:
        facts = self.facts
        facts.ids = facts.sent = facts.stored = facts.asked
        facts.recovered_s = 3.0
        self.batches.update(batches)
        self.memory_mib["spark-job"] = memory_mib

    return go


@pytest.mark.parametrize(
    ("batches", "memory_mib", "verdict"),
    [
        ({1: 100, 2: 50}, [300, 400, 500, 580], PASSED),
        ({1: 101}, [300, 400], "a batch had 101 records, more than the maximum of 100"),
        ({1: 100}, [300, 400, 500, 581], "spark-job grew from 400 to 581 MiB"),
        ({1: 100}, [600, 650, 690, 701], "spark-job used 701 MiB, more than the planned 700 MiB"),
    ],
)
def test_batches_and_memory_must_be_bounded(
    ground: Any, monkeypatch: pytest.MonkeyPatch, batches: dict[int, int], memory_mib: list[int], verdict: str
) -> None:
    """One record more than a batch may have, or one MiB more than the rule allows, fails the drill."""
    monkeypatch.setattr(backlog.Backlog, "go", make_run(batches, memory_mib))
    result = backlog.run_backlog(ground, 150)
    assert result.verdict == verdict
    assert (result.batches, result.largest_batch) == (len(batches), max(batches.values()))
    assert result.memory_mib == {"spark-job": max(memory_mib)}


def test_a_failed_step_is_the_verdict(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier results are reported nevertheless."""

    def go(self: backlog.Backlog) -> None:
        self.step = "recovery"
        raise Unreachable("nothing moves")

    monkeypatch.setattr(backlog.Backlog, "go", go)
    result = backlog.run_backlog(ground, 150)
    assert (result.verdict, result.batches, result.memory_mib) == ("recovery: nothing moves", 0, {"spark-job": 0})
