"""The DAG as users operate it: pause it, trigger a run, follow its progress, read its task's log."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cassandra.cluster import Session

from penstock.airflow.api_client import Airflow
from penstock.airflow.runs import DagRun, parse_run
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.errors import NotFound, RunFailed, UsageError
from penstock.monitoring.snapshot import PartitionProgress
from penstock.pipeline.ingest import RunOrder
from penstock.pipelines import started
from penstock.produce.delivery_log import AttemptProgress
from penstock.reconcile import receipt
from penstock.reconcile.receipt import RunReceipt
from penstock.sink import cassandra

TIMEOUT_S = 15.0
MOST_RECORDS = 1_000_000
LONGEST_S = 3600.0
"""Airflow ends a task that takes longer."""
_OF_EVERY_LINE = frozenset(
    [
        "timestamp",
        "event",
        "level",
        "logger",
        "error_detail",
        "task_id",
        "map_index",
        "run_id",
        "dag_id",
        "try_number",
        "ti_id",
        "filename",
        "lineno",
    ]
)
_FACT_CHARACTERS = 400
_GROUP, _GROUP_END = "::group::", "::endgroup::"


@dataclass(frozen=True)
class Schedule:
    """The DAG's schedule: whether it is paused, when it runs, and when next. Times are ISO 8601, UTC."""

    paused: bool
    told: str
    next_at: str | None


@dataclass(frozen=True)
class TaskAttempt:
    """An attempt of a run's task. Times are ISO 8601, UTC."""

    number: int
    state: str
    started_at: str | None
    ended_at: str | None


@dataclass(frozen=True)
class RunDetail:
    """A run with its task's attempts and result. `ranges` are the offsets at which it produced."""

    run: DagRun
    attempts: list[TaskAttempt]
    ranges: list[OffsetRange]
    summary: dict[str, Any]


@dataclass(frozen=True)
class TaskLogLine:
    """A line of a task's log; `error` is a traceback, or empty."""

    at: str | None
    level: str
    event: str
    logger: str
    facts: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def text(self) -> str:
        """Return the line as it is searched and copied."""
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return " ".join(filter(None, (self.at, self.level, self.event, facts, self.error)))


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run's records. Null means unknown, or not known yet.

    `handled` counts the records that the stream stored or dead-lettered. If records of other runs lie between the run's
    own, the number of its pending records is unknown until none is pending: until then, `handled` is null, and
    `waiting` is an upper bound.
    """

    asked: int | None
    fetched: int | None
    produced: int | None
    refused: int | None
    handled: int | None
    waiting: int | None


class Dag:
    """Queries Airflow with a single sign-in, from any thread.

    Raises `AirflowUnreachable`, `PenstockError` if Airflow rejects the request, and `NotFound` for an unknown run.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.model_copy(update={"airflow_timeout_s": TIMEOUT_S})
        self._lock = threading.Lock()
        self._client: Airflow | None = None

    def _get_client(self) -> Airflow:
        with self._lock:
            if self._client is None:
                self._client = Airflow(self._settings).__enter__()
            return self._client

    def read_schedule(self) -> Schedule:
        """Return whether the DAG is paused, and when it runs."""
        dag = self._get_client().describe_dag()
        return Schedule(
            paused=bool(dag["is_paused"]),
            told=str(dag.get("timetable_description") or dag.get("timetable_summary") or "none"),
            next_at=dag.get("next_dagrun_run_after"),
        )

    def set_paused(self, paused: bool) -> None:
        """Pause or unpause the DAG."""
        self._get_client().set_paused(paused)

    def check_pipeline(self) -> None:
        """Check that the local stack has the same pipeline as this process. Raises `WrongSettings`."""
        started.check_started(self._settings, asking="control-center")

    def trigger_run(self, parameters: dict[str, Any]) -> str:
        """Trigger a run and return its id. It stays queued while the DAG is paused.

        Raises `WrongSettings`, as `check_pipeline`.
        """
        self.check_pipeline()
        return self._get_client().trigger_run(parameters)

    def read_run(self, run_id: str) -> RunDetail:
        """Return the current state of a run."""
        airflow = self._get_client()
        try:
            run = airflow.describe_run(run_id)
        except RunFailed:
            raise NotFound(f"no run {run_id} in Airflow: it may have been deleted") from None
        summary = airflow.fetch_summary(run_id) if run["state"] == "success" else {}
        return RunDetail(
            run=parse_run(run, summary),
            attempts=[_parse_attempt(attempt) for attempt in airflow.list_attempts(run_id)],
            ranges=parse_ranges(summary),
            summary=summary,
        )

    def read_log(self, run_id: str, attempt: int) -> list[TaskLogLine]:
        """Return an attempt's log, oldest line first."""
        return parse_log(self._get_client().fetch_log(run_id, attempt))

    def create_receipt(self, run_id: str, session: Session) -> RunReceipt:
        """Return the receipt of a run that has ended. Raises `UsageError` if it can no longer be determined."""
        airflow = self._get_client()
        with cassandra.translate_errors(self._settings):
            return receipt.reconcile_run(
                self._settings, session, airflow.describe_run(run_id), airflow.fetch_summary(run_id)
            )

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.__exit__()


def validate_parameters(records: float | None, seconds: float | None, rate: float | None) -> dict[str, Any]:
    """Return the parameters of a run of `records`, or of `seconds` at `rate`. Raises `UsageError`."""
    for name, value in (("records", records), ("seconds", seconds), ("rate", rate)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} must be more than 0, not {value:g}")
    if records is not None and records != int(records):
        raise UsageError(f"records must be a whole number, not {records:g}")
    count = None if records is None else int(records)
    asked = RunOrder("", records=count, seconds=seconds, rate=rate).asked
    if asked > MOST_RECORDS:
        raise UsageError(f"a run has at most {MOST_RECORDS:,} records, not {asked:,}: trigger several runs")
    if rate and asked / rate > LONGEST_S:
        raise UsageError(
            f"{asked:,} records at {rate:g} per second take {asked / rate / 60:,.0f} minutes, "
            f"but the task times out after {LONGEST_S / 60:.0f}"
        )
    return {"records": count, "seconds": seconds, "rate": rate}


def parse_ranges(summary: dict[str, Any]) -> list[OffsetRange]:
    """Return the offset ranges in which the run produced, by partition."""
    offsets = dict(summary.get("offsets") or {})
    return [OffsetRange(int(partition), first, last + 1) for partition, (first, last) in sorted(offsets.items())]


def compute_progress(
    detail: RunDetail, log: list[TaskLogLine], progress: AttemptProgress | None, partitions: Iterable[PartitionProgress]
) -> RunProgress:
    """Return the progress of the records, from the task's result, or else from its log and its delivery log so far."""
    run = detail.run
    acknowledged = None if progress is None else progress.acknowledged
    waiting = _count_pending(detail.ranges, {partition.partition: partition.reached for partition in partitions})
    lie_alone = sum(offset_range.records for offset_range in detail.ranges) == run.produced
    handled = None
    if run.produced is not None and waiting is not None and (lie_alone or not waiting):
        handled = run.produced - waiting
    return RunProgress(
        asked=run.asked or find_latest_number(log, "asked"),
        fetched=run.fetched if run.fetched is not None else find_latest_number(log, "fetched"),
        produced=run.produced if run.produced is not None else acknowledged,
        refused=run.refused,
        handled=handled,
        waiting=waiting,
    )


def _count_pending(ranges: list[OffsetRange], reached: dict[int, int | None]) -> int | None:
    """Return how many offsets of `ranges` the ledger has not reached, or None if that is unknown."""
    if not ranges:
        return None
    left = 0
    for offset_range in ranges:
        came_to = reached.get(offset_range.partition)
        if came_to is None:
            return None
        left += max(0, offset_range.end - max(offset_range.first, came_to))
    return left


def find_latest_number(log: Iterable[TaskLogLine], fact: str) -> int | None:
    """Return the latest number that the log has for `fact`, or None."""
    numbers = [line.facts[fact] for line in log if line.facts.get(fact, "").isdigit()]
    return int(numbers[-1]) if numbers else None


def _parse_attempt(attempt: dict[str, Any]) -> TaskAttempt:
    return TaskAttempt(
        int(attempt["try_number"]),
        str(attempt["state"] or "waiting"),
        attempt.get("start_date"),
        attempt.get("end_date"),
    )


def parse_log(entries: Iterable[dict[str, Any]]) -> list[TaskLogLine]:
    """Return the entries of a log as lines, without the fields that every entry has."""
    return [_parse_log_line(entry) for entry in entries if entry.get("event") != _GROUP_END]


def _parse_log_line(entry: dict[str, Any]) -> TaskLogLine:
    return TaskLogLine(
        at=entry.get("timestamp"),
        level=str(entry.get("level") or ""),
        event=str(entry.get("event") or "").removeprefix(_GROUP),
        logger=str(entry.get("logger") or ""),
        facts={
            name: str(value)[:_FACT_CHARACTERS]
            for name, value in entry.items()
            if name not in _OF_EVERY_LINE and value is not None
        },
        error="\n\n".join(_format_traceback(detail) for detail in entry.get("error_detail") or []),
    )


def _format_traceback(detail: dict[str, Any]) -> str:
    """Render stack frames and error, without the variables."""
    frames = [
        f'  File "{frame.get("filename")}", line {frame.get("lineno")}, in {frame.get("name")}'
        for frame in detail.get("frames") or []
    ]
    return "\n".join([*frames, f"{detail.get('exc_type')}: {detail.get('exc_value')}"])


def elapsed_s(began: str | None, ended: str | None, now: datetime) -> float | None:
    """Return how long something took, or has taken so far; None if it has not begun."""
    if began is None:
        return None
    until = now if ended is None else datetime.fromisoformat(ended)
    return max(0.0, (until - datetime.fromisoformat(began)).total_seconds())
