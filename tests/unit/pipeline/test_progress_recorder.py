"""The micro-batches that Spark reports are recorded, each once."""

from types import SimpleNamespace

import pytest
from cassandra import OperationTimedOut

from penstock.pipeline.progress_recorder import ProgressRecorder


class FakeProgress:
    """Stands for the table in Cassandra."""

    def __init__(self) -> None:
        self.kept, self.failures = [], []
        self.error: Exception | None = None

    def keep(self, batches) -> None:
        if self.error:
            raise self.error
        self.kept += batches

    def failed(self, error, trace) -> None:
        if self.error:
            raise self.error
        self.failures.append((error, trace))


JSON_END = '{"users_created":{"0":17,"1":4}}'
PYSPARK_END = "{'users_created': {'0': 17, '1': 4}}"


def make_progress(second: int, batch_id: int, rows: int = 5, rate: float = 50.0, end: str = JSON_END):
    """A progress report as pyspark returns it."""
    return SimpleNamespace(
        batchId=batch_id,
        timestamp=f"2026-01-01T00:00:{second:02}.250Z",
        numInputRows=rows,
        inputRowsPerSecond=rate,
        processedRowsPerSecond=80.0,
        durationMs={"addBatch": 90, "triggerExecution": 100},
        sources=[SimpleNamespace(endOffset=end)],
    )


def query_of(*progress):
    return SimpleNamespace(recentProgress=list(progress), lastProgress=progress[-1] if progress else None)


@pytest.fixture
def progress() -> FakeProgress:
    return FakeProgress()


def test_each_batch_is_recorded_once(progress):
    """A batch is recorded at the first poll after it ended, and not again."""
    noter = ProgressRecorder(progress)
    noter.note(query_of())
    noter.note(query_of(make_progress(1, 0), make_progress(2, 1)))
    noter.note(query_of(make_progress(1, 0), make_progress(2, 1)))
    noter.note(query_of(make_progress(1, 0), make_progress(2, 1), make_progress(3, 2)))
    assert [item.batch_id for item in progress.kept] == [0, 1, 2]
    assert progress.kept[0].durations_ms["addBatch"] == 90
    assert progress.kept[0].began_at.isoformat() == "2026-01-01T00:00:01.250000+00:00"


@pytest.mark.parametrize("end", [JSON_END, PYSPARK_END])
def test_the_end_offsets_of_a_batch_are_read(progress, end):
    """Both as Spark writes them, and as pyspark does."""
    ProgressRecorder(progress).note(query_of(make_progress(1, 0, end=end)))
    assert progress.kept[0].positions == {0: 17, 1: 4}


@pytest.mark.parametrize("end", ["", "{", "[1]", "{'t': {'a': 'b'}}", "open('x')"])
def test_an_unreadable_progress_report_is_skipped(progress, end):
    """What another Spark might report does not stop the stream."""
    noter = ProgressRecorder(progress)
    noter.note(query_of(make_progress(1, 0, end=end)))
    noter.note(query_of(make_progress(1, 0, end=end), make_progress(2, 1)))
    assert [item.batch_id for item in progress.kept] == [1]


def test_a_trigger_without_records_is_no_batch(progress):
    """It is not recorded; the later batch with its number is."""
    noter = ProgressRecorder(progress)
    noter.note(query_of(make_progress(1, 7, rows=0)))
    noter.note(query_of(make_progress(1, 7, rows=0), make_progress(2, 7)))
    assert [item.batch_id for item in progress.kept] == [7]


def test_a_rate_that_is_not_finite_is_zero(progress):
    """Spark's first batch has an infinite rate, which JSON does not allow."""
    ProgressRecorder(progress).note(query_of(make_progress(1, 0, rate=float("inf"))))
    assert progress.kept[0].input_rows_s == 0.0


def test_the_stream_continues_without_its_progress_records(progress):
    """An unavailable Cassandra is no error of the stream here."""
    progress.error = OperationTimedOut()
    noter = ProgressRecorder(progress)
    noter.note(query_of(make_progress(1, 0)))
    noter.record_failure(ValueError("no"))
    assert progress.kept == []


def test_a_failure_is_recorded_with_its_trace(progress):
    """The first line says what happened, the trace where."""

    def fail():
        raise ValueError("first line\nsecond line")

    with pytest.raises(ValueError, match="first line") as caught:
        fail()
    ProgressRecorder(progress).record_failure(caught.value)
    [(error, trace)] = progress.failures
    assert error == "first line"
    assert "second line" in trace
    assert "test_progress_recorder.py" in trace
