"""The stream: its query's state, its micro-batches, its failures."""

from typing import Annotated

from fastapi import FastAPI, Query

from penstock.sink.progress import Batch, Failure
from penstock.web.desk import AppContext
from penstock.web.stream.streaming import MOST_BATCHES, Streaming, StreamState


def register(api: FastAPI, desk: AppContext) -> None:
    """Add the routes under /stream."""
    streaming = desk.one(Streaming)

    @api.get("/stream", tags=["stream"])
    def stream() -> StreamState:
        """The query's state, its place in the topic, and the Spark application. What is away is told as such."""
        return streaming.state()

    @api.get("/stream/batches", tags=["stream"])
    def batches(limit: Annotated[int, Query(ge=1, le=MOST_BATCHES)] = 60) -> list[Batch]:
        """The newest micro-batches of the last day that carried records, the newest first."""
        return streaming.found().batches[:limit]

    @api.get("/stream/failures", tags=["stream"])
    def failures() -> list[Failure]:
        """The newest failures, the newest first, each with its trace."""
        return streaming.found().failures
