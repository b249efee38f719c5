"""What the hops and the verdict say."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from penstock.airflow.runs import DagRun
from penstock.config import read
from penstock.contract.failing import FailingBatch
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.flow import Counts, Point, Problem, View
from penstock.sink.progress import Failure
from penstock.web.pipeline.hops import hops, verdict

SERVICES = dict.fromkeys(("kafka", "registry", "cassandra", "airflow", "spark-job"), "")
RUN = DagRun("r1", "success", "manual", None, None, None, {}, asked=10, fetched=10, produced=10, refused=0)


def view(before: int = 100, now: int = 100, stored: int | None = None, lag: int = 0, **more: object) -> View:
    """A view of ten seconds in which Kafka grew from `before` to `now`."""
    then = Point(0.0, SERVICES, Counts(10, 10, before, before, before, 0), 0, before, 0, None, None)
    counts = Counts(10, 10, now, now if stored is None else stored, now if stored is None else stored, 0)
    last = Point(10.0, SERVICES, counts, lag, now, 0, 120, 340)
    return View(points=[then, replace(last, **more)], runs=[RUN])


def waited(shown: View) -> View:
    """The view, with records that waited all the time."""
    shown.points[0] = replace(shown.points[0], lag=3)
    return shown


def by_name(shown: View) -> dict[str, object]:
    return {hop.name: hop for hop in hops(shown, read())}


def test_the_hops_are_in_the_order_of_the_way() -> None:
    """API, Airflow, Kafka, Spark, Cassandra, and the queue of rejected records."""
    assert [hop.name for hop in hops(view(), read())] == ["api", "airflow", "kafka", "spark", "cassandra", "rejected"]
    assert hops(View(), read()) == []


def test_a_hop_that_moves_is_busy() -> None:
    """Its rate is told; without movement it is idle."""
    found = by_name(view(100, 600))
    assert (found["kafka"].state, found["kafka"].rate_s) == ("busy", 50.0)
    assert found["cassandra"].told == "half within 120 ms, 99 % within 340 ms"
    assert by_name(view())["kafka"].state == "idle"


def test_a_service_that_is_away_is_down_with_what_to_type() -> None:
    """The error is shown, and the command; the other hops go on."""
    found = by_name(view(services=SERVICES | {"cassandra": "refused"}))
    assert (found["cassandra"].state, found["cassandra"].error) == ("down", "refused")
    assert found["cassandra"].command == "./penstock status cassandra"
    assert found["kafka"].state == "idle"


def test_an_error_that_is_over_is_told_with_its_time() -> None:
    """The hop is not down any more."""
    shown = view()
    shown.problems = {"kafka": Problem(4.0, "was away")}
    kafka = by_name(shown)["kafka"]
    assert (kafka.state, kafka.error, kafka.error_at_s) == ("idle", "was away", 4.0)


def test_sparks_last_error_is_the_newer_of_two() -> None:
    """A failure of the query that came after the job was away is told."""
    shown = view()
    shown.problems = {"spark-job": Problem(4.0, "was away")}
    shown.failures = [Failure(datetime.fromtimestamp(9, UTC), "StoreFailed", "trace")]
    assert by_name(shown)["spark"].error == "StoreFailed"
    shown.problems = {"spark-job": Problem(9.5, "was away")}
    assert by_name(shown)["spark"].error == "was away"


def test_spark_is_behind_when_records_wait_and_none_is_read() -> None:
    """For ten seconds; so is it when more wait than the alert allows."""
    assert by_name(waited(view(100, 150, stored=100, lag=50)))["spark"].state == "late"
    assert by_name(view(100, 150, stored=100, lag=50))["spark"].state == "idle"
    assert by_name(view(100, 150, stored=140, lag=10))["spark"].state == "busy"
    assert by_name(view(0, 50_000, stored=10, lag=49_990))["spark"].state == "late"


def test_a_failed_run_is_the_apis_error() -> None:
    """Until a newer run has ended, or while one is under way it is busy."""
    shown = view()
    shown.runs = [replace(RUN, run_id="r2", state="failed"), RUN]
    assert (by_name(shown)["api"].state, by_name(shown)["api"].error) == ("down", "run r2 failed")
    shown.runs.insert(0, replace(RUN, run_id="r3", state="running", fetched=None))
    assert by_name(shown)["api"].state == "busy"
    assert by_name(shown)["airflow"].told == "1 run under way"
    shown.runs.insert(0, replace(RUN, run_id="r4", state="queued", fetched=None))
    assert by_name(shown)["airflow"].told == "2 runs under way, 1 of them queued"


def test_api_and_airflow_tell_how_fast_a_run_goes() -> None:
    """Without the run's journal there is no rate, and the total is that of the runs that have ended."""
    shown = view()
    shown.points[1] = replace(shown.points[1], counts=replace(shown.points[1].counts, fetched=60, produced=40))
    found = by_name(shown)
    assert [(found[name].rate_s, found[name].total) for name in ("api", "airflow")] == [(5.0, 60), (3.0, 40)]
    shown.points[1] = replace(shown.points[1], counts=replace(shown.points[1].counts, fetched=None, produced=None))
    shown.ran = {"fetched": 10, "produced": 9}
    found = by_name(shown)
    assert [(found[name].rate_s, found[name].total) for name in ("api", "airflow")] == [(None, 10), (None, 9)]


def test_without_airflow_nothing_is_known_of_the_api() -> None:
    """With it and without a run, the API is idle."""
    shown = view(services=SERVICES | {"airflow": "gone"})
    shown.runs = []
    assert by_name(shown)["api"].state == "unknown"
    shown = view()
    shown.runs = []
    assert (by_name(shown)["api"].state, by_name(shown)["api"].total) == ("idle", None)


def alert(severity: str, message: str) -> AlertChange:
    return AlertChange("lag", severity, "t", message, "./penstock x", number=1, at="", change="firing", since="")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "tone", "text"),
    [
        (View(), "quiet", "for the first time"),
        (view(0, 0), "quiet", "No record came yet"),
        (view(), "quiet", "nothing waits"),
        (view(100, 600), "good", "50/s come, 50/s are stored, 99 % within 340 ms"),
        (view(100, 150, stored=100, lag=50), "good", "50 records wait"),
        (waited(view(100, 100, lag=7)), "warn", "none is read: 7 records wait"),
        (
            view(services=SERVICES | {"cassandra": "x", "kafka": "y"}, lag=3),
            "bad",
            "kafka and cassandra are away. 3 rec",
        ),
        (view(services=SERVICES | {"registry": "x"}), "bad", "registry is away."),
        (view(100, 600, stored=100, lag=500), "good", "50/s come, 0/s are stored"),
        (view(100, 600, counts=Counts(10, 10, 600, 600, 100, 500)), "warn", "More records are set aside, 50/s, than"),
        (view(100, 600, counts=Counts(10, 10, 600, 600, 500, 100)), "good", "40/s are stored, 10/s are set aside"),
        (view(counts=Counts()), "quiet", "is not known now"),
    ],
)
def test_the_verdict_tells_the_worst_first(shown: View, tone: str, text: str) -> None:
    """Whether records flow, where they are, what is wrong."""
    told = verdict(shown, now_s=11.0)
    assert told.tone == tone
    assert text in told.text


def test_a_look_that_is_old_is_the_first_news() -> None:
    """Whatever it found."""
    assert "is 89 s old" in verdict(view(100, 600), now_s=99.0).text


def test_receipt_and_alerts_come_before_the_flow() -> None:
    """A receipt that does not balance is worse than an alert, a critical alert worse than a warning."""
    shown = view(100, 600)
    shown.alerts = [alert("warning", "slow"), alert("critical", "lost")]
    assert (verdict(shown, 11).tone, verdict(shown, 11).text) == ("bad", "lost.")
    shown.alerts = [alert("warning", "slow")]
    assert verdict(shown, 11).tone == "warn"
    shown.receipt = {"balanced": False, "missing": 3}
    assert "does not balance: 3 missing" in verdict(shown, 11).text


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


def test_a_stuck_stream_is_down_whatever_flows() -> None:
    """Records may still come; position, cause and remedy stand on the hop and in the sentence on the whole."""
    shown = view(before=90, now=100, lag=3)
    shown.stuck = [STUCK]
    spark = by_name(shown)["spark"]
    assert (spark.state, spark.told) == ("down", "stuck on batch 7, 0:17 to 0:19")
    assert "4 failures: StoreFailed" in spark.error
    told = verdict(shown, 11.0)
    assert (told.tone, told.command) == ("bad", "./penstock status spark-job")
    assert told.text.startswith("The stream is stuck on batch 7 (0:17 to 0:19) since 2026-01-01 00:00:00 UTC")


def test_a_service_that_is_away_is_told_before_the_stream_that_waits_for_it() -> None:
    """It is the cause, and what to look at."""
    shown = view(services=SERVICES | {"cassandra": "refused", "spark-job": "refused"})
    shown.stuck = [STUCK]
    assert "away" in verdict(shown, 11.0).text
    assert by_name(shown)["spark"].told == "away"
