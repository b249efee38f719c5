"""The stream: its query's state, its micro-batches, its failures."""

from typing import Annotated

from fastapi import FastAPI, Query

from penstock.sink.progress import Batch, Failure
from penstock.web.app_context import AppContext
from penstock.web.stream.streaming import MOST_BATCHES, Streaming, StreamState


def register(api: FastAPI, context: AppContext) -> None:
    """Add the routes under /stream."""
    streaming = context.get_shared(Streaming)

    @api.get("/stream", tags=["stream"])
    def stream() -> StreamState:
        """Return the query's state and position, and the Spark application. Unavailable services are named."""
        return streaming.read_state()

    @api.get("/stream/batches", tags=["stream"])
    def batches(limit: Annotated[int, Query(ge=1, le=MOST_BATCHES)] = 60) -> list[Batch]:
        """Return the micro-batches of the last day that had records, newest first."""
        return streaming.facts().batches[:limit]

    @api.get("/stream/failures", tags=["stream"])
    def failures() -> list[Failure]:
        """Return the newest failures with their tracebacks, newest first."""
        return streaming.facts().failures
