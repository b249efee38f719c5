"""The DAG's runs."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query

from penstock.control.desk import Desk, dag_of
from penstock.errors import NotThere
from penstock.observe.dag import Attempt, Detail, Line, Schedule, Way, way
from penstock.observe.receipt import RunReceipt
from penstock.observe.runs import NEWEST, Run
from penstock.produce import journal


@dataclass(frozen=True)
class Offsets:
    """Between which offsets of a partition a run's records lie, both included."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True)
class Told:
    """A run, how far its records have come, the attempts of its task, and what the task returned."""

    run: Run
    way: Way
    attempts: list[Attempt]
    offsets: list[Offsets]
    summary: dict[str, Any]


def register(api: FastAPI, desk: Desk) -> None:
    """Serve it."""
    dag = desk.one(dag_of)

    @api.get("/runs", tags=["runs"])
    def runs(limit: Annotated[int, Query(ge=1, le=NEWEST)] = 20) -> list[Run]:
        """The newest runs, the newest first, as they were seconds ago; the last known ones while Airflow is away."""
        return desk.view.runs[:limit]

    @api.get("/schedule", tags=["runs"])
    def schedule() -> Schedule:
        """Whether the DAG is paused, and when it runs by itself."""
        return dag.schedule()

    @api.get("/runs/{run_id}", tags=["runs"])
    def run(run_id: str) -> Told:
        """One run as it is now."""
        found = dag.detail(run_id)
        is_under_way = found.run.is_active and bool(found.attempts)
        return _told(desk, found, dag.log(run_id, found.attempts[-1].number) if is_under_way else [])

    @api.get("/runs/{run_id}/receipt", tags=["runs"])
    def receipt(run_id: str) -> RunReceipt:
        """What became of each record of a run that has ended: it reads all of them."""
        return dag.receipt(run_id, desk.cassandra())

    @api.get("/runs/{run_id}/log", tags=["runs"])
    def log(run_id: str, attempt: Annotated[int | None, Query(ge=1)] = None) -> list[Line]:
        """The log of an attempt of the run's task, or of the newest one; none before it began."""
        numbers = [one.number for one in dag.detail(run_id).attempts if one.number]
        chosen = attempt or max(numbers, default=0)
        if attempt and attempt not in numbers:
            raise NotThere(f"the run has no attempt {attempt}")
        return dag.log(run_id, chosen) if chosen else []


def _told(desk: Desk, found: Detail, log: list[Line]) -> Told:
    now, run = desk.view.now, found.run
    written = None
    if run.produced is None:
        written = journal.progress(journal.folder_of(desk.settings), run.run_id)
    return Told(
        run=run,
        way=way(found, log, written, now.partitions if now else []),
        attempts=found.attempts,
        offsets=[Offsets(one.partition, one.first, one.end - 1) for one in found.spans],
        summary=found.summary,
    )
