"""The batch on which a stream keeps failing, from its first failure to its success, across restarts."""

import pytest
from cassandra import OperationTimedOut
from structlog.testing import capture_logs

from penstock.contract.failing import FailingBatch
from penstock.errors import CheckpointRefused, StoreFailed, TransformFailed
from penstock.pipeline.failures import FailureRecorder
from penstock.process.checkpoint import Pending


class FakeTable:
    """The table of failing batches; `error` is raised by every call."""

    def __init__(self) -> None:
        self.kept: dict[str, FailingBatch] = {}
        self.error: Exception | None = None
        self.calls = 0

    def _called(self) -> None:
        self.calls += 1
        if self.error:
            raise self.error

    def read(self) -> list[FailingBatch]:
        self._called()
        return list(self.kept.values())

    def write(self, batch: FailingBatch) -> None:
        self._called()
        self.kept[batch.checkpoint] = batch

    def resolve(self, checkpoint: str) -> None:
        self._called()
        self.kept.pop(checkpoint, None)


class FakeCheckpoint:
    """A checkpoint with this batch pending."""

    folder = "/c"

    def __init__(self) -> None:
        self.batch: Pending | None = Pending(7, {0: 17}, {0: 20})
        self.error: Exception | None = None

    def pending(self) -> Pending | None:
        if self.error:
            raise self.error
        return self.batch


@pytest.fixture
def table() -> FakeTable:
    return FakeTable()


@pytest.fixture
def checkpoint() -> FakeCheckpoint:
    return FakeCheckpoint()


def recorder(table: FakeTable, checkpoint: FakeCheckpoint) -> FailureRecorder:
    """The recorder of a job that has just started."""
    made = FailureRecorder(table, checkpoint, "/p/orders.py")  # type: ignore[arg-type]
    made.resume()
    return made


def test_failures_of_one_batch_are_counted_across_restarts(table: FakeTable, checkpoint: FakeCheckpoint) -> None:
    """The first failure is kept as the first; position and cause are those of the newest."""
    first = recorder(table, checkpoint).record(StoreFailed("no"))
    again = recorder(table, checkpoint).record(StoreFailed("still no"))
    assert first is not None
    assert again == table.kept["/c"]
    assert (again.failures, again.first_at, again.batch_id) == (2, first.first_at, 7)
    assert (again.first, again.end, again.state) == ({0: 17}, {0: 20}, "retrying")
    assert (again.cause, again.message) == ("StoreFailed", "StoreFailed: still no")
    assert again.last_at >= first.last_at


def test_another_batch_starts_a_new_count(table: FakeTable, checkpoint: FakeCheckpoint) -> None:
    """Its failures are not added to those of a batch that succeeded."""
    job = recorder(table, checkpoint)
    job.record(StoreFailed("no"))
    checkpoint.batch = Pending(8, {0: 20}, {0: 25})
    result = job.record(StoreFailed("no"))
    assert result is not None
    assert (result.batch_id, result.failures) == (8, 1)


def test_a_failing_transform_is_a_separate_state(table: FakeTable, checkpoint: FakeCheckpoint) -> None:
    """With the cause that quotes no record, and the message next to it."""
    error = TransformFailed("/p/orders.py, line 7: ValueError: ada\n  reason", hint="h", kind="orders.py, line 7: V")
    recorder(table, checkpoint).record(error)
    kept = table.kept["/c"]
    assert (kept.state, kept.cause) == ("transform_failed", "orders.py, line 7: V")
    assert kept.message == "/p/orders.py, line 7: ValueError: ada"


@pytest.mark.parametrize("batch", [None, Pending(8, {0: 20}, {0: 25})], ids=["done", "a later one"])
def test_a_completed_batch_is_resolved(table: FakeTable, checkpoint: FakeCheckpoint, batch: Pending | None) -> None:
    """While the job runs, and at its start if it was killed in between; not before the batch is complete."""
    job = recorder(table, checkpoint)
    job.record(StoreFailed("no"))
    job.resolve_if_done()
    recorder(table, checkpoint)
    assert "/c" in table.kept
    checkpoint.batch = batch
    job.resolve_if_done()
    assert table.kept == {}
    job.record(StoreFailed("no"))
    checkpoint.batch = None
    recorder(table, checkpoint)
    assert table.kept == {}


def test_a_healthy_stream_makes_no_requests(table: FakeTable, checkpoint: FakeCheckpoint) -> None:
    """Neither to Cassandra nor to the checkpoint, however often the job polls."""
    job = recorder(table, checkpoint)
    checkpoint.error = CheckpointRefused("must not be asked")
    calls = table.calls
    with capture_logs() as logs:
        for _ in range(9):
            job.resolve_if_done()
    assert (table.calls, logs) == (calls, [])


def test_a_failure_without_a_batch_is_not_recorded(table: FakeTable, checkpoint: FakeCheckpoint) -> None:
    """The query failed before it planned one: no records are affected."""
    checkpoint.batch = None
    assert recorder(table, checkpoint).record(StoreFailed("no")) is None
    assert table.kept == {}


def test_a_failed_write_is_logged_and_caught_up(table: FakeTable, checkpoint: FakeCheckpoint) -> None:
    """Cassandra itself may be what failed; the next failure is counted as usual.

    A resolution is retried until it is stored.
    """
    job = recorder(table, checkpoint)
    table.error = OperationTimedOut()
    with capture_logs() as logs:
        job.record(StoreFailed("no"))
    assert [log["event"] for log in logs] == ["failing_batch_not_recorded"]
    table.error = None
    job.record(StoreFailed("no"))
    assert table.kept["/c"].failures == 2
    table.error, checkpoint.batch = OperationTimedOut(), None
    with capture_logs() as logs:
        job.resolve_if_done()
    assert [log["event"] for log in logs] == ["failing_batch_not_resolved"]
    table.error = None
    job.resolve_if_done()
    assert table.kept == {}


def test_an_unreadable_checkpoint_stops_nothing(table: FakeTable, checkpoint: FakeCheckpoint) -> None:
    """The query's next start reports what is wrong with it."""
    checkpoint.error = CheckpointRefused("torn")
    with capture_logs() as logs:
        assert recorder(table, checkpoint).record(StoreFailed("no")) is None
    assert [log["event"] for log in logs] == ["failing_batch_not_recorded"]
