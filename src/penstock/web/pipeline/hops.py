"""The pipeline's stages in words: the state of each, and one sentence on the whole. Pure: no I/O."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from penstock import remedies
from penstock.config import Settings
from penstock.contract.failing import FailingBatch
from penstock.monitoring.monitor import RATE_S, Point, View

State = Literal["ok", "busy", "idle", "late", "down", "unknown"]
_LOOK_S = 15.0
_JOB = remedies.show_status("spark-job")


@dataclass(frozen=True)
class Hop:
    """A stage of the pipeline: current records per second, total records, and pending records; null if unknown.

    `error` is the last error; it is resolved unless `state` is `down`. `command` is the command that shows more.
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


def hops(view: View, settings: Settings) -> list[Hop]:
    """Return the stages in pipeline order; the last is the dead-letter queue."""
    now = view.now
    if now is None:
        return []
    makers: list[Callable[[View, Point, Settings], Hop]] = [
        _build_api_stage,
        _build_airflow_stage,
        _build_kafka_stage,
        _build_spark_stage,
        _build_cassandra_stage,
        _build_rejected_stage,
    ]
    return [make(view, now, settings) for make in makers]


def _build_api_stage(view: View, now: Point, _settings: Settings) -> Hop:
    title, counts, rate_s, total = (
        "API",
        "fetched",
        view.rate("fetched"),
        _get_run_total(view, now.counts.fetched, "fetched"),
    )
    command = remedies.run_pipeline()
    if not view.runs:
        away = "airflow" in now.services and now.services["airflow"]
        told = "Airflow, which asks the API, is away" if away else "no run yet"
        return Hop("api", title, "unknown" if away else "idle", told, None, None, counts, command=command)
    newest = view.runs[0]
    ended = next((run for run in view.runs if not run.is_active), None)
    state: State = "busy" if newest.is_active else "idle"
    error = ""
    if ended is not None and ended.state == "failed":
        error = f"run {ended.run_id} failed"
        state = state if newest.is_active else "down"
    told = (
        f"run {newest.run_id} is {newest.state}"
        if newest.is_active
        else f"last run: {_format_count(newest.fetched)} fetched"
    )
    return Hop("api", title, state, told, rate_s, total, counts, error=error, command=command)


def _get_run_total(view: View, count: int | None, name: str) -> int | None:
    """Return the total of the runs so far; without active runs while their progress is unknown."""
    return view.ran.get(name) if count is None else count


def _format_count(count: int | None) -> str:
    return "none" if count is None else f"{count:,}"


def _build_airflow_stage(view: View, now: Point, _settings: Settings) -> Hop:
    active = [run for run in view.runs if run.is_active]
    queued = [run for run in active if run.state == "queued"]
    told = f"{len(active)} runs under way" if len(active) != 1 else "1 run under way"
    told += f", {len(queued)} of them queued" if queued else ""
    return _of_service(
        view,
        now,
        Hop(
            "airflow",
            "Airflow",
            "busy" if active else "idle",
            told if active else "no run under way",
            view.rate("produced"),
            _get_run_total(view, now.counts.produced, "produced"),
            "produced",
            command=remedies.show_status(),
        ),
    )


def _build_kafka_stage(view: View, now: Point, _settings: Settings) -> Hop:
    rate_s = view.rate("kafka")
    told = f"holds {now.kafka_held:,} records in {len(now.partitions)} partitions" if now.kafka_held is not None else ""
    hop = Hop("kafka", "Kafka", _classify_rate(rate_s), told, rate_s, now.counts.kafka, "received")
    return _of_service(view, now, hop)


def _build_spark_stage(view: View, now: Point, settings: Settings) -> Hop:
    rate_s, lag = view.rate("read"), now.lag
    state = _classify_rate(rate_s)
    if lag is not None and (lag > settings.alert_lag_records or (state == "idle" and _is_idle(view))):
        state = "late"
    told = "" if lag is None else "nothing waits" if lag == 0 else f"{lag:,} records wait"
    failure = view.failures[0] if view.failures else None
    hop = Hop(
        "spark",
        "Spark",
        state,
        told,
        rate_s,
        now.counts.read,
        "read",
        lag,
        failure.error if failure else "",
        failure.at.timestamp() if failure else None,
        _JOB,
    )
    hop = _of_service(view, now, hop, "spark-job")
    return _mark_stuck(hop, view.stuck[0], now) if view.stuck and hop.state != "down" else hop


def _mark_stuck(hop: Hop, batch: FailingBatch, now: Point) -> Hop:
    """Return the stage of a stream that is stuck on a batch."""
    return replace(
        hop,
        state="down",
        told=f"stuck on batch {batch.batch_id}, {batch.position}",
        error=batch.notice,
        error_at_s=now.at_s,
        command=_JOB,
    )


def _is_idle(view: View) -> bool:
    """Return whether records were pending at each poll of the last `RATE_S` seconds."""
    last_s = view.points[-1].at_s
    return all(one.lag for one in view.points if last_s - one.at_s <= RATE_S)


def _build_cassandra_stage(view: View, now: Point, _settings: Settings) -> Hop:
    rate_s = view.rate("stored")
    late = "" if now.p50_ms is None else f"half within {now.p50_ms:,} ms, 99 % within {now.p99_ms:,} ms"
    hop = Hop("cassandra", "Cassandra", _classify_rate(rate_s), late, rate_s, now.counts.stored, "stored")
    return _of_service(view, now, hop)


def _build_rejected_stage(view: View, now: Point, _settings: Settings) -> Hop:
    rate_s, held = view.rate("rejected"), now.rejected_held
    state: State = "unknown" if held is None else "late" if rate_s else "idle"
    told = "" if held is None else "no record was rejected" if held == 0 else f"{held:,} in the queue"
    return Hop(
        "rejected",
        "Rejected",
        state,
        told,
        rate_s,
        now.counts.rejected,
        "set aside",
        command=remedies.list_dead_letters(),
    )


def _classify_rate(rate_s: float | None) -> State:
    return "unknown" if rate_s is None else "busy" if rate_s else "idle"


def _of_service(view: View, now: Point, hop: Hop, service: str = "") -> Hop:
    """Return the stage with the last error of its service; down if the service is unavailable."""
    service = service or hop.name
    error, last = now.services.get(service, ""), view.problems.get(service)
    command = hop.command or remedies.show_status(service)
    if error:
        return replace(hop, state="down", told="away", error=error, error_at_s=now.at_s, command=command)
    if last is not None and (hop.error_at_s is None or last.at_s > hop.error_at_s):
        return replace(hop, error=last.error, error_at_s=last.at_s, command=command)
    return replace(hop, command=command)


def verdict(view: View, now_s: float) -> PipelineStatus:
    """Return whether records flow, where they are, and what is wrong, the worst first."""
    now = view.now
    if now is None:
        return PipelineStatus("quiet", "Looking at the pipeline for the first time.")
    if now_s - now.at_s > _LOOK_S:
        return PipelineStatus(
            "bad", f"The last look at the pipeline is {now_s - now.at_s:.0f} s old.", remedies.diagnose_stack()
        )
    waits = f" {now.lag:,} records wait." if now.lag else ""
    return _find_problem(view, now, waits) or _on_flow(view, now, waits)


def _find_problem(view: View, now: Point, waits: str) -> PipelineStatus | None:
    """Return the worst problem, or None if there is none."""
    away = [name for name, error in now.services.items() if error]
    if away:
        names = " and ".join(filter(None, [", ".join(away[:-1]), away[-1]]))
        return PipelineStatus(
            "bad", f"{names} {'is' if len(away) == 1 else 'are'} away.{waits}", remedies.show_status(away[0])
        )
    if view.stuck:
        batch = view.stuck[0]
        return PipelineStatus("bad", f"{batch.summary[0].upper()}{batch.summary[1:]}; {batch.remedy}.{waits}", _JOB)
    if view.receipt and not view.receipt["balanced"]:
        what = f"{view.receipt['missing']} missing" if view.receipt["missing"] else "its sources differ"
        return PipelineStatus("bad", f"The last receipt does not balance: {what}.", remedies.verify())
    critical = next((one for one in view.alerts if one.severity == "critical"), None) or next(iter(view.alerts), None)
    if critical:
        return PipelineStatus(
            "bad" if critical.severity == "critical" else "warn", f"{critical.message}.{waits}", critical.command
        )
    return None


def _on_flow(view: View, now: Point, waits: str) -> PipelineStatus:
    if now.counts.kafka is None or now.lag is None:
        return PipelineStatus("quiet", "How many records came, or wait, is not known now.", remedies.show_status())
    if view.rate("kafka") or view.rate("read"):
        return _of_rates(view, now, waits)
    if now.lag and _is_idle(view):
        return PipelineStatus("warn", f"Records wait and none is read:{waits}", _JOB)
    if not now.counts.kafka:
        return PipelineStatus("quiet", "No record came yet. Everything is ready.", remedies.run_pipeline(records=500))
    return PipelineStatus(
        "quiet", "Nothing comes now, and nothing waits: all that came is stored or set aside.", remedies.run_pipeline()
    )


def _of_rates(view: View, now: Point, waits: str) -> PipelineStatus:
    come, stored, rejected = (view.rate(count) or 0.0 for count in ("kafka", "stored", "rejected"))
    late = "" if now.p99_ms is None else f", 99 % within {now.p99_ms:,} ms"
    if rejected > stored:
        text = f"More records are set aside, {rejected:,.0f}/s, than are stored, {stored:,.0f}/s.{waits}"
        return PipelineStatus("warn", text, remedies.list_dead_letters())
    aside = f", {rejected:,.0f}/s are set aside" if rejected else ""
    return PipelineStatus("good", f"Records flow: {come:,.0f}/s come, {stored:,.0f}/s are stored{aside}{late}.{waits}")
