"""Record the batch that a stream keeps failing on, until it succeeds."""

from datetime import UTC, datetime

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable

from penstock.contract.failing import FailingBatch, State
from penstock.errors import PenstockError, TransformFailed
from penstock.log import get_logger
from penstock.pipeline.cause import find_cause
from penstock.process.checkpoint import Checkpoint, Pending
from penstock.sink.failing_batches import FailingBatches

log = get_logger(__name__)

_UNAVAILABLE = (DriverException, NoHostAvailable, PenstockError)


class FailureRecorder:
    """Records the failing batch of one checkpoint. Errors in recording are logged and do not stop the stream.

    `file` is the pipeline's file.
    """

    def __init__(self, table: FailingBatches, checkpoint: Checkpoint, file: str) -> None:
        self._table = table
        self._checkpoint = checkpoint
        self._file = file
        self._known: FailingBatch | None = None

    def resume(self) -> None:
        """Resume from what an earlier job recorded, unless its batch is done or no longer planned."""
        try:
            recorded = [batch for batch in self._table.read() if batch.checkpoint == self._checkpoint.folder]
        except _UNAVAILABLE as error:
            log.warning("failing_batch_not_read", error=str(error))
            return
        self._known = recorded[0] if recorded else None
        self.resolve_if_done()

    def record(self, error: Exception) -> FailingBatch | None:
        """Record that the pending batch failed, and return its state; None if no batch is pending."""
        try:
            pending = self._checkpoint.pending()
            if pending is None:
                return None
            self._known = self._build_failing_batch(pending, error, datetime.now(UTC))
            self._table.write(self._known)
        except _UNAVAILABLE as unavailable:
            log.warning("failing_batch_not_recorded", error=str(unavailable))
        return self._known

    def _build_failing_batch(self, pending: Pending, error: Exception, now: datetime) -> FailingBatch:
        state: State
        if isinstance(error, TransformFailed):  # it already carries the exception and its location
            state, cause, message = "transform_failed", error.kind, error.message.partition("\n")[0]
        else:
            raised = find_cause(error, self._file)
            state, cause, message = "retrying", raised.kind, raised.message
        before = self._known if self._known and self._known.batch_id == pending.batch_id else None
        return FailingBatch(
            checkpoint=self._checkpoint.folder,
            batch_id=pending.batch_id,
            first=pending.first,
            end=pending.end,
            failures=before.failures + 1 if before else 1,
            first_at=before.first_at if before else now,
            last_at=now,
            state=state,
            cause=cause,
            message=message,
        )

    def resolve_if_done(self) -> None:
        """Delete the failing batch once its checkpoint marks it as done. Does nothing if there is no failing batch."""
        if self._known is None:
            return
        try:
            pending = self._checkpoint.pending()
            if pending is None or pending.batch_id != self._known.batch_id:
                self._table.resolve(self._checkpoint.folder)
                self._known = None
        except _UNAVAILABLE as error:
            log.warning("failing_batch_not_resolved", error=str(error))
