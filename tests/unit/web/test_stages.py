"""The state of each stage, and the summary of the pipeline."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from penstock.airflow.runs import DagRun
from penstock.config import read
from penstock.contract.failing import FailingBatch
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.monitor import PipelineState, Problem
from penstock.monitoring.snapshot import Counts, Snapshot
from penstock.sink.progress import Failure
from penstock.web.pipeline.stages import describe_stages, summarize_pipeline

SERVICES = dict.fromkeys(("kafka", "registry", "cassandra", "airflow", "spark-job"), "")
RUN = DagRun("r1", "success", "manual", None, None, None, {}, asked=10, fetched=10, produced=10, refused=0)


def state(before: int = 100, now: int = 100, stored: int | None = None, lag: int = 0, **more: object) -> PipelineState:
    """The state after ten seconds in which Kafka grew from `before` to `now`."""
    then = Snapshot(0.0, "users_created", SERVICES, Counts(10, 10, before, before, before, 0), 0, [], before, 0)
    counts = Counts(10, 10, now, now if stored is None else stored, now if stored is None else stored, 0)
    last = Snapshot(10.0, "users_created", SERVICES, counts, lag, [], now, 0, p50_ms=120, p99_ms=340)
    return PipelineState(snapshots=[then, replace(last, **more)], runs=[RUN])


def waited(shown: PipelineState) -> PipelineState:
    """The state, with records pending all the time."""
    shown.snapshots[0] = replace(shown.snapshots[0], lag_records=3)
    return shown


def by_name(shown: PipelineState) -> dict[str, object]:
    return {stage.name: stage for stage in describe_stages(shown, read())}


def test_the_stages_are_in_pipeline_order() -> None:
    """API, Airflow, Kafka, Spark, Cassandra, and the dead letters."""
    names = [stage.name for stage in describe_stages(state(), read())]
    assert names == ["api", "airflow", "kafka", "spark", "cassandra", "rejected"]
    assert describe_stages(PipelineState(), read()) == []


def test_a_stage_with_throughput_is_busy() -> None:
    """It has a rate; without throughput it is idle."""
    results = by_name(state(100, 600))
    assert (results["kafka"].state, results["kafka"].rate_s) == ("busy", 50.0)
    assert results["cassandra"].told == "latency p50 120 ms, p99 340 ms"
    assert by_name(state())["kafka"].state == "idle"


def test_the_stage_of_an_unavailable_service_is_down_with_a_command() -> None:
    """The error and the command are shown; the other stages are unaffected."""
    results = by_name(state(services=SERVICES | {"cassandra": "refused"}))
    assert (results["cassandra"].state, results["cassandra"].error) == ("down", "refused")
    assert results["cassandra"].command == "./penstock status cassandra"
    assert results["kafka"].state == "idle"


def test_an_error_is_not_shown_after_the_service_has_recovered() -> None:
    """The stage has an error only while the service is unavailable; the last one stays in `PipelineState.problems`."""
    shown = state(services=SERVICES | {"kafka": "refused", "spark-job": "still starting"})
    assert [by_name(shown)[name].error for name in ("kafka", "spark")] == ["refused", "still starting"]
    shown = state()
    shown.problems = {"kafka": Problem(4.0, "refused"), "spark-job": Problem(4.0, "still starting")}
    for name in ("kafka", "spark"):
        stage = by_name(shown)[name]
        assert (stage.state, stage.error, stage.error_at_s) == ("idle", "", None)


def failed(shown: PipelineState, at_s: float) -> PipelineState:
    """The state, with a failure of the stream at this time."""
    shown.failures = [Failure(datetime.fromtimestamp(at_s, UTC), "StoreFailed", "trace")]
    return shown


def test_a_failure_of_the_stream_is_shown_while_it_is_current() -> None:
    """No batch was committed since, and records are pending, or the stream is still retrying."""
    pending = by_name(failed(state(100, 150, stored=100, lag=50), at_s=9.0))["spark"]
    assert (pending.error, pending.error_at_s) == ("StoreFailed", 9.0)
    assert by_name(failed(waited(state(100, 100, lag=7)), at_s=-500.0))["spark"].error == "StoreFailed"
    assert by_name(failed(state(), at_s=9.0))["spark"].error == "StoreFailed"
    committed_before = by_name(failed(state(100, 200, stored=150, lag=50), at_s=5.0))["spark"]
    assert committed_before.error == "StoreFailed"


def test_a_failure_of_the_stream_is_not_shown_after_a_batch_was_committed() -> None:
    """A later batch shows that the stream has recovered, even if records are pending again."""
    spark = by_name(failed(state(100, 200, stored=150, lag=50), at_s=0.0))["spark"]
    assert (spark.state, spark.error, spark.error_at_s) == ("busy", "", None)


def test_a_failure_of_the_stream_is_not_shown_when_nothing_is_pending() -> None:
    """Without further failures, a stream without lag has recovered, however long ago that was."""
    assert by_name(failed(state(), at_s=-500.0))["spark"].error == ""


def test_spark_is_degraded_when_records_are_pending_and_none_is_read() -> None:
    """For ten seconds; so is it when the lag exceeds that of the alert."""
    assert by_name(waited(state(100, 150, stored=100, lag=50)))["spark"].state == "late"
    assert by_name(state(100, 150, stored=100, lag=50))["spark"].state == "idle"
    assert by_name(state(100, 150, stored=140, lag=10))["spark"].state == "busy"
    assert by_name(state(0, 50_000, stored=10, lag=49_990))["spark"].state == "late"


def test_a_failed_run_is_the_apis_error() -> None:
    """Until a newer run has ended; while one is active, the stage is busy."""
    shown = state()
    shown.runs = [replace(RUN, run_id="r2", state="failed"), RUN]
    assert (by_name(shown)["api"].state, by_name(shown)["api"].error) == ("down", "run r2 failed")
    shown.runs.insert(0, replace(RUN, run_id="r3", state="running", fetched=None))
    assert by_name(shown)["api"].state == "busy"
    assert by_name(shown)["airflow"].told == "1 active run"
    shown.runs.insert(0, replace(RUN, run_id="r4", state="queued", fetched=None))
    assert by_name(shown)["airflow"].told == "2 active runs, 1 queued"


def test_api_and_airflow_have_the_rate_of_a_run() -> None:
    """Without the run's delivery log there is no rate, and the total is that of the runs that have ended."""
    shown = state()
    shown.snapshots[1] = replace(shown.snapshots[1], counts=replace(shown.snapshots[1].counts, fetched=60, produced=40))
    results = by_name(shown)
    assert [(results[name].rate_s, results[name].total) for name in ("api", "airflow")] == [(5.0, 60), (3.0, 40)]
    shown.snapshots[1] = replace(
        shown.snapshots[1], counts=replace(shown.snapshots[1].counts, fetched=None, produced=None)
    )
    shown.run_totals = {"fetched": 10, "produced": 9}
    results = by_name(shown)
    assert [(results[name].rate_s, results[name].total) for name in ("api", "airflow")] == [(None, 10), (None, 9)]


def test_airflow_has_a_command_that_the_local_stack_accepts() -> None:
    """There it is several services and none is named `airflow`: the status of all is shown."""
    shown = state(services=SERVICES | {"airflow": "gone"})
    commands = [by_name(shown)["airflow"].command, summarize_pipeline(shown, 11.0).command]
    assert commands == ["./penstock status"] * 2


def test_without_airflow_the_state_of_the_api_is_unknown() -> None:
    """With Airflow and without a run, the API is idle."""
    shown = state(services=SERVICES | {"airflow": "gone"})
    shown.runs = []
    assert by_name(shown)["api"].state == "unknown"
    shown = state()
    shown.runs = []
    assert (by_name(shown)["api"].state, by_name(shown)["api"].total) == ("idle", None)


def alert(severity: str, message: str) -> AlertChange:
    return AlertChange("lag", severity, "t", message, "./penstock x", number=1, at="", change="firing", since="")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "tone", "text"),
    [
        (PipelineState(), "quiet", "Waiting for the first poll"),
        (state(0, 0), "quiet", "No records received yet"),
        (state(), "quiet", "Idle. Every received record is stored or dead-lettered."),
        (state(100, 600), "good", "Healthy: 50/s in, 50/s stored, latency p99 340 ms."),
        (state(100, 150, stored=100, lag=50), "good", "Lag: 50 records."),
        (waited(state(100, 100, lag=7)), "warn", "makes no progress. Lag: 7 records."),
        (waited(state(100, 600, stored=100, lag=507)), "warn", "makes no progress. Lag: 507 records."),
        (
            state(services=SERVICES | {"cassandra": "x", "kafka": "y"}, lag=3),
            "bad",
            "kafka and cassandra are unavailable. Lag: 3 rec",
        ),
        (state(services=SERVICES | {"registry": "x"}), "bad", "registry is unavailable."),
        (state(100, 600, stored=100, lag=500), "good", "50/s in, 0/s stored"),
        (state(100, 600, counts=Counts(10, 10, 600, 600, 100, 500)), "warn", "Rejecting more than storing: 50/s rejec"),
        (state(100, 600, counts=Counts(10, 10, 600, 600, 500, 100)), "good", "40/s stored, 10/s rejected"),
        (state(counts=Counts()), "quiet", "Throughput and lag are unknown"),
    ],
)
def test_the_summary_names_the_worst_problem_first(shown: PipelineState, tone: str, text: str) -> None:
    """Without a problem it has throughput, latency and lag."""
    summary = summarize_pipeline(shown, now_s=11.0)
    assert summary.tone == tone
    assert text in summary.text


def test_an_old_poll_is_the_worst_problem() -> None:
    """Whatever it found."""
    assert "was 89 s ago" in summarize_pipeline(state(100, 600), now_s=99.0).text


def test_receipt_and_alerts_are_worse_than_throughput() -> None:
    """A receipt that does not balance is worse than an alert, a critical alert worse than a warning."""
    shown = state(100, 600)
    shown.alerts = [alert("warning", "slow"), alert("critical", "lost")]
    assert (summarize_pipeline(shown, 11).tone, summarize_pipeline(shown, 11).text) == ("bad", "lost.")
    shown.alerts = [alert("warning", "slow")]
    assert summarize_pipeline(shown, 11).tone == "warn"
    shown.receipt = {"balanced": False, "missing": 3}
    assert "does not balance: 3 missing" in summarize_pipeline(shown, 11).text


STUCK = FailingBatch(
    checkpoint="/c/t",
    batch_id=7,
    first={0: 17},
    end={0: 20},
    failures=4,
    first_at=datetime(2026, 1, 1, tzinfo=UTC),
    last_at=datetime(2026, 1, 1, tzinfo=UTC),
    state="retrying",
    cause="StoreFailed",
    message="StoreFailed: no",
)


def test_a_stuck_stream_is_down_whatever_the_throughput() -> None:
    """Records may still be received; the stage and the summary have position, cause and remedy."""
    shown = state(before=90, now=100, lag=3)
    shown.stuck = [STUCK]
    spark = by_name(shown)["spark"]
    assert (spark.state, spark.told) == ("down", "stuck on batch 7, 0:17 to 0:19")
    assert "4 failures: StoreFailed" in spark.error
    summary = summarize_pipeline(shown, 11.0)
    assert (summary.tone, summary.command) == ("bad", "./penstock status spark-job")
    assert summary.text.startswith("The stream is stuck on batch 7 (0:17 to 0:19) since 2026-01-01 00:00:00 UTC")


def test_an_unavailable_service_is_worse_than_a_stuck_stream() -> None:
    """It is the cause, and what to repair first."""
    shown = state(services=SERVICES | {"cassandra": "refused", "spark-job": "refused"})
    shown.stuck = [STUCK]
    assert "unavailable" in summarize_pipeline(shown, 11.0).text
    assert by_name(shown)["spark"].told == "unavailable"
