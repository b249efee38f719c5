"""Record Spark's progress reports of micro-batches as they end."""

import ast
import math
import traceback
from datetime import datetime
from typing import Any

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from pyspark.sql.streaming import StreamingQuery

from penstock.log import get_logger
from penstock.sink.progress import Batch, Progress

log = get_logger(__name__)

_UNAVAILABLE = (DriverException, NoHostAvailable)
_UNPARSABLE = (ValueError, SyntaxError, LookupError, TypeError, AttributeError)
"""Exceptions that parsing the progress of another Spark version may raise."""


class ProgressRecorder:
    """Records the batches and failures of a stream. Errors in recording are logged and do not stop the stream."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last: datetime | None = None

    def note(self, query: StreamingQuery) -> None:
        """Record the batches that ended since the last call."""
        newest = query.lastProgress
        if newest is None or _began_at(newest) == self._last:
            return
        fresh = [
            progress for progress in query.recentProgress if self._last is None or _began_at(progress) > self._last
        ]
        self._last = _began_at(newest)
        try:
            self._progress.keep([_parse_batch(progress) for progress in fresh if progress.numInputRows])
        except (*_UNAVAILABLE, *_UNPARSABLE) as error:
            log.warning("progress_not_recorded", batches=len(fresh), error=str(error))

    def record_failure(self, error: Exception) -> None:
        """Record the error that ended the query."""
        try:
            self._progress.failed(str(error).partition("\n")[0], "".join(traceback.format_exception(error)))
        except _UNAVAILABLE as unavailable:
            log.warning("failure_not_recorded", error=str(unavailable))


def _began_at(progress: Any) -> datetime:
    return datetime.fromisoformat(progress.timestamp)


def _parse_batch(progress: Any) -> Batch:
    return Batch(
        batch_id=progress.batchId,
        began_at=_began_at(progress),
        rows=progress.numInputRows,
        input_rows_s=_sanitize_rate(progress.inputRowsPerSecond),
        processed_rows_s=_sanitize_rate(progress.processedRowsPerSecond),
        durations_ms=dict(progress.durationMs),
        positions=_parse_end_offsets(progress.sources[0].endOffset),
    )


def _sanitize_rate(rate: float) -> float:
    return rate if math.isfinite(rate) else 0.0


def _parse_end_offsets(end: str) -> dict[int, int]:
    """Return a batch's end offsets from Spark's `{"topic": {"0": 17}}`, which pyspark 4.1 returns in Python syntax."""
    topics = ast.literal_eval(end) or {}
    return {int(partition): int(offset) for topic in topics.values() for partition, offset in topic.items()}
