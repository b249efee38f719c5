"""The path of the records, stage by stage; the last fifteen minutes; the last receipt."""

import time
from dataclasses import dataclass, fields
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.responses import JSONResponse

from penstock import remedies
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.monitor import Problem
from penstock.monitoring.snapshot import Counts, PartitionProgress, Snapshot
from penstock.web.app_context import AppContext
from penstock.web.pipeline.stages import PipelineStatus, StageStatus, describe_stages, summarize_pipeline


@dataclass(frozen=True)
class Point:
    """A snapshot. `services` maps each service to its error, or an empty string; latencies cover five minutes."""

    at_s: float
    services: dict[str, str]
    counts: Counts
    lag: int | None
    kafka_held: int | None
    rejected_held: int | None
    p50_ms: int | None
    p99_ms: int | None
    partitions: list[PartitionProgress]


@dataclass(frozen=True)
class Now:
    """The pipeline as of the last poll. `now` is null before the first poll.

    `rates_s` maps the names in `now.counts` to records per second over the last ten seconds; null if unknown, or if the
    topic is no longer the same. `problems` holds the last error of each service, even if it is resolved; times are
    epoch seconds. `alerts` are the firing alerts, as recorded by the alert watcher; `is_watched` is whether one is
    running.
    """

    topic: str
    dead_letter_topic: str
    keyspace: str
    table: str
    verdict: PipelineStatus
    hops: list[StageStatus]
    now: Point | None
    rates_s: dict[str, float | None]
    problems: dict[str, Problem]
    alerts: list[AlertChange]
    is_watched: bool


@dataclass(frozen=True)
class Past:
    """Snapshots of the last fifteen minutes, oldest first."""

    points: list[Point]


@dataclass(frozen=True)
class LastReceipt:
    """The last stored receipt of the whole topic, as `verify --json` prints it."""

    receipt: dict[str, Any]


@dataclass(frozen=True)
class Missing:
    """A resource that does not exist, and the command that creates it."""

    error: str
    hint: str


def register(api: FastAPI, context: AppContext) -> None:
    """Add the routes /pipeline, /pipeline/history and /receipt."""

    @api.get("/pipeline")
    def pipeline() -> Now:
        """Return each stage with its counts and problems, and a one-line summary."""
        return describe_now(context, time.time())

    @api.get("/pipeline/history")
    def history(
        after_s: Annotated[float, Query(description="Only snapshots after this time, in epoch seconds.")] = 0.0,
        every: Annotated[int, Query(ge=1, le=1000, description="Return every n-th snapshot.")] = 1,
    ) -> Past:
        """Return the snapshots of the last fifteen minutes, one about every two seconds."""
        later = [snapshot for snapshot in context.state.snapshots if snapshot.at_s > after_s]
        return Past([_build_point(snapshot) for snapshot in later[::every]])

    @api.get(
        "/receipt", response_model=LastReceipt, responses={404: {"model": Missing, "description": "No receipt yet."}}
    )
    def receipt() -> LastReceipt | JSONResponse:
        """Return the last receipt: what became of every record in the topic."""
        last = context.state.receipt
        if last is None:
            return JSONResponse({"error": "no receipt yet", "hint": remedies.verify()}, status_code=404)
        return LastReceipt(last)


def _build_point(snapshot: Snapshot) -> Point:
    return Point(
        at_s=snapshot.at_s,
        services=dict(snapshot.services),
        counts=snapshot.counts,
        lag=snapshot.lag_records,
        kafka_held=snapshot.topic_records,
        rejected_held=snapshot.dead_letter_records,
        p50_ms=snapshot.p50_ms,
        p99_ms=snapshot.p99_ms,
        partitions=snapshot.partitions,
    )


def describe_now(context: AppContext, now_s: float) -> Now:
    """Return the result of the last poll."""
    state, pipeline = context.state, context.pipeline
    return Now(
        topic=pipeline.topic,
        dead_letter_topic=pipeline.dead_letter_topic,
        keyspace=context.keyspace,
        table=pipeline.table,
        verdict=summarize_pipeline(state, now_s),
        hops=describe_stages(state, context.settings),
        now=None if state.now is None else _build_point(state.now),
        rates_s={count.name: state.rate(count.name) for count in fields(Counts)},
        problems=state.problems,
        alerts=state.alerts,
        is_watched=state.is_watched,
    )
