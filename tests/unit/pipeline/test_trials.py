"""What a trial says of its groups, by the tasks that Spark reports."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from penstock.pipeline import trials
from penstock.pipeline.bisection import NotIsolated
from penstock.pipeline.cause import TaskFailed
from penstock.pipeline.trials import Trials, _Stage, _Task

FILE = "/p/orders.py"
RAISED = TaskFailed(
    "org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"
    '  File "/p/orders.py", line 7, in f\n    f()\nValueError: no\n'
)
LOST = TaskFailed("ExecutorLostFailure (executor 0 exited)")
GROUPS = [[(0, 1)], [(0, 2)], [(0, 3)]]


class FakeWatch:
    """A watch over a trial of which this stage failed."""

    stages: ClassVar[list[_Stage | None]] = []
    is_late = False

    def __init__(self, context: Any, deadline_s: float) -> None: ...

    def watching(self) -> Any:
        return nullcontext()

    def failed_stage(self) -> _Stage | None:
        return self.stages.pop(0)


class _Cached:
    """A DataFrame that can be persisted and unpersisted."""

    def persist(self) -> "_Cached":
        return self

    def unpersist(self) -> None: ...


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the trials that were run; each fails as in `FakeWatch.stages`."""
    sizes: list[int] = []

    def grouped(self: Trials, groups: Any) -> Any:
        sizes.append(len(groups))
        return _Cached()

    monkeypatch.setattr(trials, "_Watch", FakeWatch)
    monkeypatch.setattr(Trials, "_group_records", grouped)
    monkeypatch.setattr(FakeWatch, "stages", [])
    monkeypatch.setattr(FakeWatch, "is_late", False)
    return sizes


CANCELLED = RuntimeError("cancelled")


def made(error: Exception | None = CANCELLED, **spark: Any) -> Trials:
    """Trials of a transform that raises this when its rows are counted, or not at all."""

    def count() -> int:
        if error:
            raise error
        return 3

    rows = SimpleNamespace(count=count, unpersist=lambda: None)
    rows.persist = lambda: rows
    good: Any = SimpleNamespace(sparkSession=SimpleNamespace(sparkContext=None), repartitionById=None, **spark)
    return Trials(good, lambda _part: rows, FILE)  # type: ignore[arg-type, return-value]


def test_without_an_error_each_group_passes(tried: list[int]) -> None:
    """One job is enough for all."""
    assert made(error=None).run(GROUPS) == {0: None, 1: None, 2: None}
    assert tried == [3]


def test_each_task_has_the_outcome_of_its_group(tried: list[int]) -> None:
    """Groups of tasks that did not end have none."""
    FakeWatch.stages = [_Stage(3, [_Task(2, RAISED), _Task(0, None)])]
    assert made().run(GROUPS) == {2: RAISED, 0: None}


def test_a_transform_that_moves_rows_is_tried_group_by_group(tried: list[int]) -> None:
    """A task's number has no meaning then: the first group is run alone."""
    FakeWatch.stages = [_Stage(2, [_Task(1, RAISED)]), _Stage(2, [_Task(1, RAISED)])]
    assert made().run(GROUPS) == {0: RAISED}
    assert tried == [3, 1]


def test_without_a_failed_task_the_transform_itself_is_blamed(tried: list[int]) -> None:
    """It raised before it got a record."""
    FakeWatch.stages = [None]
    with pytest.raises(NotIsolated, match="before it receives a record"):
        made().run(GROUPS)


@pytest.mark.parametrize(
    ("stage", "error"),
    [(_Stage(3, [_Task(0, RAISED), _Task(1, LOST)]), RuntimeError("x")), (None, ConnectionError("away"))],
    ids=["a lost executor", "a service"],
)
def test_other_errors_are_raised(tried: list[int], stage: _Stage | None, error: Exception) -> None:
    """No group gets an outcome."""
    FakeWatch.stages = [stage]
    with pytest.raises((TaskFailed, ConnectionError), match=r"ExecutorLost|away"):
        made(error).run(GROUPS)


def test_after_the_timeout_nothing_is_isolated(tried: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the cancelled job says."""
    monkeypatch.setattr(FakeWatch, "is_late", True)
    with pytest.raises(NotIsolated, match="within 60 s"):
        made().run(GROUPS)
