"""Runs of the DAG, its schedule, receipts and task logs."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query

from penstock.airflow.runs import NEWEST, DagRun
from penstock.errors import NotFound
from penstock.produce import delivery_log
from penstock.reconcile.receipt import RunReceipt
from penstock.web.app_context import AppContext, create_dag
from penstock.web.runs.dag import RunDetail, RunProgress, Schedule, TaskAttempt, TaskLogLine, compute_progress


@dataclass(frozen=True)
class Offsets:
    """The offset range of a run's records in one partition, both ends inclusive."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True)
class RunDetails:
    """A run, the progress of its records, the attempts of its task, and the task's return value."""

    run: DagRun
    way: RunProgress
    attempts: list[TaskAttempt]
    offsets: list[Offsets]
    summary: dict[str, Any]


def register(api: FastAPI, context: AppContext) -> None:
    """Add the routes under /runs, and /schedule."""
    dag = context.get_shared(create_dag)

    @api.get("/runs", tags=["runs"])
    def runs(limit: Annotated[int, Query(ge=1, le=NEWEST)] = 20) -> list[DagRun]:
        """List runs, newest first, as of the last poll; the last known ones if Airflow is unavailable."""
        return context.state.runs[:limit]

    @api.get("/schedule", tags=["runs"])
    def schedule() -> Schedule:
        """Get the schedule of the DAG, and whether it is paused."""
        return dag.read_schedule()

    @api.get("/runs/{run_id}", tags=["runs"])
    def run(run_id: str) -> RunDetails:
        """Get the current state of a run."""
        detail = dag.read_run(run_id)
        is_running = detail.run.is_active and bool(detail.attempts)
        return _describe_run(context, detail, dag.read_log(run_id, detail.attempts[-1].number) if is_running else [])

    @api.get("/runs/{run_id}/receipt", tags=["runs"])
    def receipt(run_id: str) -> RunReceipt:
        """Create the receipt of a finished run. Reads every record of the run."""
        return dag.create_receipt(run_id, context.cassandra())

    @api.get("/runs/{run_id}/log", tags=["runs"])
    def log(run_id: str, attempt: Annotated[int | None, Query(ge=1)] = None) -> list[TaskLogLine]:
        """Get the log of an attempt of the run's task, by default the newest; empty before the first attempt."""
        numbers = [task_attempt.number for task_attempt in dag.read_run(run_id).attempts if task_attempt.number]
        chosen = attempt or max(numbers, default=0)
        if attempt and attempt not in numbers:
            raise NotFound(f"{run_id} has no attempt {attempt}")
        return dag.read_log(run_id, chosen) if chosen else []


def _describe_run(context: AppContext, detail: RunDetail, log: list[TaskLogLine]) -> RunDetails:
    now, run = context.state.now, detail.run
    progress = None
    if run.produced is None:
        progress = delivery_log.read_progress(delivery_log.folder_of(context.settings), run.run_id)
    return RunDetails(
        run=run,
        way=compute_progress(detail, log, progress, now.partitions if now else []),
        attempts=detail.attempts,
        offsets=[
            Offsets(offset_range.partition, offset_range.first, offset_range.end - 1) for offset_range in detail.ranges
        ],
        summary=detail.summary,
    )
