"""Create the receipt of a run, from the request to the stored rows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cassandra.cluster import Session

from penstock import pipelines, remedies
from penstock.airflow.api_client import Airflow
from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.fields import from_epoch_ms
from penstock.errors import UsageError
from penstock.pipelines import started
from penstock.reconcile.audit import Audit
from penstock.reconcile.auditor import Auditor

_POLL_S = 0.3
_STALLED_S = 120.0
MOST_RECORDS = 100_000
"""Maximum number of records that are examined individually for a run that ended earlier."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class RunReceipt:
    """The outcome of one DAG run.

    `produced` counts the records in Kafka with the run's id, `rejected` the records dead-lettered by the task or by
    Spark, `excused` the records whose rows expired, whose dead letters were pruned, that compaction may have removed,
    or that an operator accepted. `missing` counts the records that were requested and not produced, or produced and not
    stored, rejected, filtered or excused in time.
    """

    run_id: str
    dag_run_state: str
    asked: int
    fetched: int
    produced: int
    stored: int
    rejected: int
    filtered: int
    missing: int
    latency_ms: dict[str, int | None]
    stages: dict[str, str | None]
    seconds: float
    missing_records: list[dict[str, Any]]
    excused: int = 0


def run_and_reconcile(settings: Settings, session: Session, parameters: dict[str, Any], report: Report) -> RunReceipt:
    """Trigger a run, wait until each of its records is stored or dead-lettered, and return the receipt.

    Raises `WrongSettings` if the local stack has another pipeline, and `NotFound` without a topic, before anything is
    triggered; an `Unreachable` if a service is unavailable. A run that fails, or records that do not arrive, are
    reported in the receipt.
    """
    began = time.monotonic()
    started.check_started(settings)
    topic = pipelines.of(settings).topic
    before = topics.fetch_existing_offset_ranges(settings, topic)
    with Airflow(settings) as airflow:
        airflow.unpause_dag()
        run_id = airflow.trigger_run(parameters)
        report(f"run {run_id} triggered")
        dag_run = _wait_for_run(airflow, run_id, report)
        summary = airflow.fetch_summary(run_id)
    since = topics.find_new_offset_ranges(before, topics.fetch_offset_ranges(settings, topic))
    auditor = Auditor(settings, session)
    _wait_covered(auditor, since, report)
    asked = int(summary.get("asked") or parameters.get("records") or 0)
    return _build_receipt(auditor.audit_run(since, run_id), dag_run, asked, summary, time.monotonic() - began)


def reconcile_run(settings: Settings, session: Session, dag_run: dict[str, Any], summary: dict[str, Any]) -> RunReceipt:
    """Return the receipt of a run that has ended, from Airflow's description and its task's result, without waiting.

    Raises `UsageError` if its records can no longer be distinguished from others.
    """
    began = time.monotonic()
    if not summary.get("offsets"):
        raise UsageError("the run's task returned no offsets, so its records cannot be located", hint=remedies.verify())
    topics.fetch_existing_offset_ranges(settings, summary["topic"])
    if summary["topic_id"] != topics.fetch_topic_id(settings, summary["topic"]):
        raise UsageError(f"topic {summary['topic']} was deleted and recreated after this run")
    ranges = [OffsetRange(int(partition), first, last + 1) for partition, (first, last) in summary["offsets"].items()]
    if (count := sum(offset_range.records for offset_range in ranges)) > MOST_RECORDS:
        raise UsageError(
            f"the run's offsets offset_range {count:,} records, more than the maximum of {MOST_RECORDS:,}",
            hint=remedies.verify(),
        )
    audit = Auditor(settings, session).audit_run(ranges, str(dag_run["dag_run_id"]))
    return _build_receipt(audit, dag_run, int(summary["asked"]), summary, time.monotonic() - began)


def _build_receipt(
    audit: Audit, dag_run: dict[str, Any], asked: int, summary: dict[str, Any], seconds: float
) -> RunReceipt:
    produced = audit.total("produced")
    unsent = max(0, asked - produced - audit.refused)
    compacted = min(unsent, audit.total("compacted"))
    return RunReceipt(
        run_id=str(dag_run["dag_run_id"]),
        dag_run_state=str(dag_run["state"]),
        asked=asked,
        fetched=int(summary.get("fetched", 0)),
        produced=produced,
        stored=audit.total("stored"),
        rejected=audit.total("rejected") + audit.refused,
        filtered=audit.total("filtered"),
        missing=unsent - compacted + audit.total("missing") + audit.total("waiting"),
        latency_ms=audit.latency_ms,
        stages=_list_stage_times(dag_run, summary, audit),
        seconds=round(seconds, 1),
        missing_records=audit.named["missing"],
        excused=sum(map(audit.total, ("expired", "pruned", "accepted"))) + compacted,
    )


def _wait_for_run(airflow: Airflow, run_id: str, report: Report) -> dict[str, Any]:
    """Wait for the run to end, and return it. Report each attempt of its task, and why it failed."""
    seen = ("", 0)
    while True:
        dag_run, task = airflow.describe_run(run_id), airflow.fetch_task_state(run_id)
        if task != seen:
            seen, (state, attempt) = task, task
            error = airflow.find_error(run_id, attempt) if state in {"up_for_retry", "failed"} else ""
            report(f"attempt {attempt}: {state}{': ' if error else ''}{error}")
        if airflow.has_ended(dag_run):
            return dag_run
        time.sleep(_POLL_S)


def _wait_covered(auditor: Auditor, ranges: list[OffsetRange], report: Report) -> None:
    """Wait until the ledger covers `ranges`, or has not advanced for two minutes."""
    waiting, moved = -1, time.monotonic()
    while (left := auditor.waiting(ranges)) and time.monotonic() - moved < _STALLED_S:
        if left != waiting:
            report(f"waiting for {left} records to be stored")
            waiting, moved = left, time.monotonic()
        time.sleep(_POLL_S)


def _list_stage_times(dag_run: dict[str, Any], summary: dict[str, Any], audit: Audit) -> dict[str, str | None]:
    """Return when each stage of the run was reached, up to its last stored row: ISO times, UTC."""
    return {
        "triggered": dag_run.get("queued_at") or dag_run.get("run_after"),
        "started": summary.get("started_at"),
        "first_produced": _format_time(audit.first_produced_ms),
        "produced": summary.get("finished_at"),
        "stored": _format_time(audit.last_stored_ms),
    }


def _format_time(moment_ms: int) -> str | None:
    return from_epoch_ms(moment_ms).isoformat(timespec="milliseconds") if moment_ms else None
