"""Runs of the DAG, its schedule, receipts and task logs."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query

from penstock.airflow.runs import NEWEST, DagRun
from penstock.errors import NotFound
from penstock.produce import delivery_log
from penstock.reconcile.receipt import RunReceipt
from penstock.web.app_context import AppContext, dag_of
from penstock.web.runs.dag import Detail, RunProgress, Schedule, TaskAttempt, TaskLogLine, way


@dataclass(frozen=True)
class Offsets:
    """The offset range of a run's records in one partition, both ends inclusive."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True)
class Told:
    """A run, the progress of its records, the attempts of its task, and the task's return value."""

    run: DagRun
    way: RunProgress
    attempts: list[TaskAttempt]
    offsets: list[Offsets]
    summary: dict[str, Any]


def register(api: FastAPI, desk: AppContext) -> None:
    """Add the routes under /runs, and /schedule."""
    dag = desk.one(dag_of)

    @api.get("/runs", tags=["runs"])
    def runs(limit: Annotated[int, Query(ge=1, le=NEWEST)] = 20) -> list[DagRun]:
        """List runs, newest first, as of the last poll; the last known ones if Airflow is unavailable."""
        return desk.view.runs[:limit]

    @api.get("/schedule", tags=["runs"])
    def schedule() -> Schedule:
        """Get the schedule of the DAG, and whether it is paused."""
        return dag.schedule()

    @api.get("/runs/{run_id}", tags=["runs"])
    def run(run_id: str) -> Told:
        """Get the current state of a run."""
        detail = dag.detail(run_id)
        is_running = detail.run.is_active and bool(detail.attempts)
        return _describe_run(desk, detail, dag.log(run_id, detail.attempts[-1].number) if is_running else [])

    @api.get("/runs/{run_id}/receipt", tags=["runs"])
    def receipt(run_id: str) -> RunReceipt:
        """Create the receipt of a finished run. Reads every record of the run."""
        return dag.receipt(run_id, desk.cassandra())

    @api.get("/runs/{run_id}/log", tags=["runs"])
    def log(run_id: str, attempt: Annotated[int | None, Query(ge=1)] = None) -> list[TaskLogLine]:
        """Get the log of an attempt of the run's task, by default the newest; empty before the first attempt."""
        numbers = [task_attempt.number for task_attempt in dag.detail(run_id).attempts if task_attempt.number]
        chosen = attempt or max(numbers, default=0)
        if attempt and attempt not in numbers:
            raise NotFound(f"{run_id} has no attempt {attempt}")
        return dag.log(run_id, chosen) if chosen else []


def _describe_run(desk: AppContext, detail: Detail, log: list[TaskLogLine]) -> Told:
    now, run = desk.view.now, detail.run
    progress = None
    if run.produced is None:
        progress = delivery_log.progress(delivery_log.folder_of(desk.settings), run.run_id)
    return Told(
        run=run,
        way=way(detail, log, progress, now.partitions if now else []),
        attempts=detail.attempts,
        offsets=[Offsets(span.partition, span.first, span.end - 1) for span in detail.spans],
        summary=detail.summary,
    )
