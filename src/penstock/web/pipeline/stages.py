"""Describe the state of each stage of the pipeline, and summarize the whole. Pure: no I/O."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from penstock import remedies
from penstock.config import Settings
from penstock.contract.failing import FailingBatch
from penstock.monitoring.monitor import PipelineState
from penstock.monitoring.snapshot import RATE_S, Snapshot
from penstock.sink.progress import Failure

State = Literal["ok", "busy", "idle", "late", "down", "unknown"]
_POLL_AGE_S = 15.0
_RETRY_S = 35.0
"""The stream retries after at most half a minute."""
_JOB = remedies.show_status("spark-job")


@dataclass(frozen=True)
class StageStatus:
    """A stage of the pipeline: current records per second, total records, and pending records; null if unknown.

    `error` is empty unless an error is current. `command` is the command that shows more.
    """

    name: str
    title: str
    state: State
    told: str
    rate_s: float | None
    total: int | None
    counts: str
    """What `total` counts."""
    waiting: int | None = None
    error: str = ""
    error_at_s: float | None = None
    command: str = ""


@dataclass(frozen=True)
class PipelineStatus:
    """A one-sentence status of the whole pipeline, and the command that shows more."""

    tone: Literal["good", "quiet", "warn", "bad"]
    text: str
    command: str = ""


def describe_stages(pipeline: PipelineState, settings: Settings) -> list[StageStatus]:
    """Return the stages in pipeline order; the last is the dead-letter queue."""
    now = pipeline.now
    if now is None:
        return []
    makers: list[Callable[[PipelineState, Snapshot, Settings], StageStatus]] = [
        _build_api_stage,
        _build_airflow_stage,
        _build_kafka_stage,
        _build_spark_stage,
        _build_cassandra_stage,
        _build_rejected_stage,
    ]
    return [make(pipeline, now, settings) for make in makers]


def _build_api_stage(pipeline: PipelineState, now: Snapshot, _settings: Settings) -> StageStatus:
    title, counts, rate_s, total = (
        "API",
        "fetched",
        pipeline.rate("fetched"),
        _get_run_total(pipeline, now.counts.fetched, "fetched"),
    )
    command = remedies.run_pipeline()
    if not pipeline.runs:
        unavailable = "airflow" in now.services and now.services["airflow"]
        message = "unknown: Airflow is unavailable" if unavailable else "no runs yet"
        return StageStatus(
            "api", title, "unknown" if unavailable else "idle", message, None, None, counts, command=command
        )
    newest = pipeline.runs[0]
    ended = next((run for run in pipeline.runs if not run.is_active), None)
    state: State = "busy" if newest.is_active else "idle"
    error = ""
    if ended is not None and ended.state == "failed":
        error = f"run {ended.run_id} failed"
        state = state if newest.is_active else "down"
    message = (
        f"run {newest.run_id} is {newest.state}"
        if newest.is_active
        else f"last run fetched {_format_count(newest.fetched)} records"
    )
    return StageStatus("api", title, state, message, rate_s, total, counts, error=error, command=command)


def _get_run_total(pipeline: PipelineState, count: int | None, name: str) -> int | None:
    """Return the total of the runs so far; without active runs while their progress is unknown."""
    return pipeline.run_totals.get(name) if count is None else count


def _format_count(count: int | None) -> str:
    return "no" if count is None else f"{count:,}"


def _build_airflow_stage(pipeline: PipelineState, now: Snapshot, _settings: Settings) -> StageStatus:
    active = [run for run in pipeline.runs if run.is_active]
    queued = [run for run in active if run.state == "queued"]
    message = f"{len(active)} active runs" if len(active) != 1 else "1 active run"
    message += f", {len(queued)} queued" if queued else ""
    return _add_service_error(
        now,
        StageStatus(
            "airflow",
            "Airflow",
            "busy" if active else "idle",
            message if active else "no active runs",
            pipeline.rate("produced"),
            _get_run_total(pipeline, now.counts.produced, "produced"),
            "produced",
            command=remedies.show_status(),
        ),
    )


def _build_kafka_stage(pipeline: PipelineState, now: Snapshot, _settings: Settings) -> StageStatus:
    rate_s = pipeline.rate("kafka")
    message = (
        f"{now.topic_records:,} records in {len(now.partitions)} partitions" if now.topic_records is not None else ""
    )
    stage = StageStatus("kafka", "Kafka", _classify_rate(rate_s), message, rate_s, now.counts.kafka, "received")
    return _add_service_error(now, stage)


def _build_spark_stage(pipeline: PipelineState, now: Snapshot, settings: Settings) -> StageStatus:
    rate_s, lag = pipeline.rate("read"), now.lag_records
    state = _classify_rate(rate_s)
    if lag is not None and (lag > settings.alert_lag_records or (state == "idle" and _is_idle(pipeline))):
        state = "late"
    message = "" if lag is None else "no lag" if lag == 0 else f"{lag:,} records pending"
    failure = _find_current_failure(pipeline)
    stage = StageStatus(
        "spark",
        "Spark",
        state,
        message,
        rate_s,
        now.counts.read,
        "read",
        lag,
        failure.error if failure else "",
        failure.at.timestamp() if failure else None,
        _JOB,
    )
    stage = _add_service_error(now, stage, "spark-job")
    return _mark_stuck(stage, pipeline.stuck[0], now) if pipeline.stuck and stage.state != "down" else stage


def _find_current_failure(pipeline: PipelineState) -> Failure | None:
    """Return the newest failure of the stream, or None if the stream has recovered from it."""
    failure = pipeline.failures[0] if pipeline.failures else None
    return None if failure is None or _has_recovered(pipeline, failure) else failure


def _has_recovered(pipeline: PipelineState, failure: Failure) -> bool:
    """Return whether a batch was committed after the failure, or the retries ended with nothing pending."""
    failed_s = failure.at.timestamp()
    reads = [
        snapshot.counts.read
        for snapshot in pipeline.snapshots
        if snapshot.at_s >= failed_s and snapshot.counts.read is not None
    ]
    if any(after > before for before, after in pairwise(reads)):
        return True
    now = pipeline.now
    return now is not None and now.lag_records == 0 and now.at_s - failed_s > _RETRY_S


def _mark_stuck(stage: StageStatus, batch: FailingBatch, now: Snapshot) -> StageStatus:
    """Return the stage of a stream that is stuck on a batch."""
    return replace(
        stage,
        state="down",
        told=f"stuck on batch {batch.batch_id}, {batch.position}",
        error=batch.notice,
        error_at_s=now.at_s,
        command=_JOB,
    )


def _is_idle(pipeline: PipelineState) -> bool:
    """Return whether records were pending at each poll of the last `RATE_S` seconds."""
    last_s = pipeline.snapshots[-1].at_s
    return all(snapshot.lag_records for snapshot in pipeline.snapshots if last_s - snapshot.at_s <= RATE_S)


def _build_cassandra_stage(pipeline: PipelineState, now: Snapshot, _settings: Settings) -> StageStatus:
    rate_s = pipeline.rate("stored")
    latency = "" if now.p50_ms is None else f"latency p50 {now.p50_ms:,} ms, p99 {now.p99_ms:,} ms"
    stage = StageStatus("cassandra", "Cassandra", _classify_rate(rate_s), latency, rate_s, now.counts.stored, "stored")
    return _add_service_error(now, stage)


def _build_rejected_stage(pipeline: PipelineState, now: Snapshot, _settings: Settings) -> StageStatus:
    rate_s, held = pipeline.rate("rejected"), now.dead_letter_records
    state: State = "unknown" if held is None else "late" if rate_s else "idle"
    message = "" if held is None else "no dead letters" if held == 0 else f"{held:,} in the topic"
    return StageStatus(
        "rejected",
        "Dead letters",
        state,
        message,
        rate_s,
        now.counts.rejected,
        "dead letters",
        command=remedies.list_dead_letters(),
    )


def _classify_rate(rate_s: float | None) -> State:
    return "unknown" if rate_s is None else "busy" if rate_s else "idle"


def _add_service_error(now: Snapshot, stage: StageStatus, service: str = "") -> StageStatus:
    """Return the stage, down with the error of its service if that is unavailable."""
    service = service or stage.name
    error = now.services.get(service, "")
    command = stage.command or remedies.show_status(service)
    if error:
        return replace(stage, state="down", told="unavailable", error=error, error_at_s=now.at_s, command=command)
    return replace(stage, command=command)


def summarize_pipeline(pipeline: PipelineState, now_s: float) -> PipelineStatus:
    """Return a summary of the pipeline: the worst problem, or else throughput, latency and lag."""
    now = pipeline.now
    if now is None:
        return PipelineStatus("quiet", "Waiting for the first poll of the pipeline.")
    if now_s - now.at_s > _POLL_AGE_S:
        return PipelineStatus(
            "bad", f"The last poll of the pipeline was {now_s - now.at_s:.0f} s ago.", remedies.diagnose_stack()
        )
    lag = f" Lag: {now.lag_records:,} records." if now.lag_records else ""
    return _find_problem(pipeline, now, lag) or _summarize_throughput(pipeline, now, lag)


def _find_problem(pipeline: PipelineState, now: Snapshot, lag: str) -> PipelineStatus | None:
    """Return the worst problem, or None if there is none."""
    unavailable = [name for name, error in now.services.items() if error]
    if unavailable:
        names = " and ".join(filter(None, [", ".join(unavailable[:-1]), unavailable[-1]]))
        return PipelineStatus(
            "bad",
            f"{names} {'is' if len(unavailable) == 1 else 'are'} unavailable.{lag}",
            remedies.show_status(unavailable[0]),
        )
    if pipeline.stuck:
        batch = pipeline.stuck[0]
        return PipelineStatus("bad", f"{batch.summary[0].upper()}{batch.summary[1:]}; {batch.remedy}.{lag}", _JOB)
    if pipeline.receipt and not pipeline.receipt["balanced"]:
        what = f"{pipeline.receipt['missing']} missing" if pipeline.receipt["missing"] else "its sources differ"
        return PipelineStatus("bad", f"The last receipt does not balance: {what}.", remedies.verify())
    critical = next((alert for alert in pipeline.alerts if alert.severity == "critical"), None) or next(
        iter(pipeline.alerts), None
    )
    if critical:
        return PipelineStatus(
            "bad" if critical.severity == "critical" else "warn", f"{critical.message}.{lag}", critical.command
        )
    return None


def _summarize_throughput(pipeline: PipelineState, now: Snapshot, lag: str) -> PipelineStatus:
    if now.counts.kafka is None or now.lag_records is None:
        return PipelineStatus("quiet", "Throughput and lag are unknown.", remedies.show_status())
    if now.lag_records and not pipeline.rate("read") and _is_idle(pipeline):
        return PipelineStatus("warn", f"The stream makes no progress.{lag}", _JOB)
    if pipeline.rate("kafka") or pipeline.rate("read"):
        return _summarize_rates(pipeline, now, lag)
    if not now.counts.kafka:
        return PipelineStatus("quiet", "Ready. No records received yet.", remedies.run_pipeline(records=500))
    return PipelineStatus("quiet", "Idle. Every received record is stored or dead-lettered.", remedies.run_pipeline())


def _summarize_rates(pipeline: PipelineState, now: Snapshot, lag: str) -> PipelineStatus:
    received, stored, rejected = (pipeline.rate(count) or 0.0 for count in ("kafka", "stored", "rejected"))
    latency = "" if now.p99_ms is None else f", latency p99 {now.p99_ms:,} ms"
    if rejected > stored:
        text = f"Rejecting more than storing: {rejected:,.0f}/s rejected, {stored:,.0f}/s stored.{lag}"
        return PipelineStatus("warn", text, remedies.list_dead_letters())
    rejections = f", {rejected:,.0f}/s rejected" if rejected else ""
    return PipelineStatus("good", f"Healthy: {received:,.0f}/s in, {stored:,.0f}/s stored{rejections}{latency}.{lag}")
