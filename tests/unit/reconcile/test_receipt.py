import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.errors import UsageError
from penstock.reconcile import receipt
from penstock.reconcile.audit import Audit, Balance
from penstock.reconcile.engine import local_loader
from penstock.reconcile.receipt import _list_stage_times
from penstock.reconcile.reconciliation import Reconciliation, Scope
from tests.unit.carried import settings_in
from tests.unit.reconcile.facts import STORED_MS, Facts, line, record, row
from tests.unit.strategies import few_examples


def latency(latencies_ms: list[int]) -> dict[str, int | None]:
    """Median and 99th percentile of records with these latencies."""
    with tempfile.TemporaryDirectory() as home:
        facts = Facts(Path(home), lines=[line(0, 0, len(latencies_ms) or 1)])
        for offset, taken_ms in enumerate(latencies_ms):
            facts.records.append(record(0, offset, str(offset), timestamp_ms=STORED_MS - taken_ms))
            facts.table.append(row(str(offset), 0, offset))
        with local_loader(settings_in(Path(home)), facts) as loader:
            reconciliation = Reconciliation(loader, facts, facts.evidence, Scope(facts.spans()))
            reconciliation.carry_out()
            return reconciliation.latency_ms()


@pytest.mark.parametrize(
    ("latencies_ms", "p50", "p99"),
    [([], None, None), ([7], 7, 7), ([1, 3], 2, 3), (list(range(101)), 50, 99), ([5] * 10, 5, 5)],
    ids=lambda value: str(value)[:20],
)
def test_percentiles_are_those_of_the_measured_latencies(latencies_ms, p50, p99):
    """Median and 99th percentile; None without any."""
    assert latency(latencies_ms) == {"p50": p50, "p99": p99}


@few_examples
@given(st.lists(st.integers(-1000, 10**7), min_size=1))
def test_percentiles_are_in_order_and_in_range(latencies_ms):
    """However few or many latencies were measured."""
    result = latency(latencies_ms)
    assert min(latencies_ms) <= result["p50"] <= result["p99"] <= max(latencies_ms)


def test_stages_are_timestamps_in_utc():
    """Each stage has its time: Airflow's of the run, the task's own, and the reconciliation's of the records."""
    result = Audit({}, first_produced_ms=1_700_000_000_123, last_stored_ms=1_700_000_001_456)
    summary = {"started_at": "s", "finished_at": "f"}
    assert _list_stage_times({"queued_at": "q", "run_after": "r"}, summary, result) == {
        "triggered": "q",
        "started": "s",
        "first_produced": "2023-11-14T22:13:20.123+00:00",
        "produced": "f",
        "stored": "2023-11-14T22:13:21.456+00:00",
    }


def test_stages_that_were_not_reached_are_none():
    """A run that failed early has the stages that it reached."""
    assert _list_stage_times({"queued_at": None, "run_after": "r"}, {}, Audit({})) == {
        "triggered": "r",
        "started": None,
        "first_produced": None,
        "produced": None,
        "stored": None,
    }


def audit(refused: int = 0, **counts: int) -> Audit:
    """The result for a run in one partition."""
    return Audit({0: replace(Balance(0, 0, 9), **counts)}, refused=refused, latency_ms={"p50": 5, "p99": 5})


class World:
    """What a receipt asks: Airflow, the topic and the reconciler."""

    def __init__(self) -> None:
        self.states = ["queued", "running", "running", "success"]
        self.told = {"asked": 10, "fetched": 10}
        self.waiting = [4, 4, 0]
        self.found = audit(produced=9, stored=8, rejected=1, refused=1)
        self.spans = [[OffsetRange(0, 0, 3)], [OffsetRange(0, 0, 9), OffsetRange(1, 0, 3)]]
        self.audited: list = []
        self.triggered: list = []
        self.reports: list[str] = []
        self.tasks = [("waiting", 0), ("running", 1), ("success", 1)]

    def run(self):
        return receipt.run_and_reconcile(read(), None, {"records": 10, "source_url": None}, self.reports.append)


class FakeAirflow:
    """Stands for `airflow.api_client.Airflow`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def unpause_dag(self):
        self._world.triggered.append("unpaused")

    def trigger_run(self, parameters):
        self._world.triggered.append(parameters)
        return "r1"

    def describe_run(self, run_id):
        states = self._world.states
        state = states.pop(0) if len(states) > 1 else states[0]
        return {"dag_run_id": run_id, "state": state, "queued_at": "q"}

    def has_ended(self, run):
        return run["state"] in {"success", "failed"}

    def fetch_summary(self, run_id):
        return self._world.told

    def fetch_task_state(self, run_id):
        tasks = self._world.tasks
        return tasks.pop(0) if len(tasks) > 1 else tasks[0]

    def find_error(self, run_id, attempt):
        return f"error of attempt {attempt}"


class FakeAuditor:
    """Stands for `reconcile.auditor.Auditor`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def waiting(self, spans):
        left = self._world.waiting
        return left.pop(0) if len(left) > 1 else left[0]

    def audit_run(self, spans, run_id):
        self._world.audited.append((spans, run_id))
        return self._world.found


@pytest.fixture
def world(monkeypatch, clock, tmp_path):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))  # where no stack was started with another pipeline
    world = World()
    monkeypatch.setattr(receipt, "Airflow", lambda _settings: FakeAirflow(world))
    monkeypatch.setattr(receipt, "Auditor", lambda _settings, _session: FakeAuditor(world))

    def spans(_settings, topic):
        result = world.spans.pop(0) if len(world.spans) > 1 else world.spans[0]
        return result if topic else []

    monkeypatch.setattr(receipt.topics, "fetch_offset_ranges", spans)
    return world


def test_the_receipt_of_a_run_balances(world):
    """A run is triggered, followed and reconciled: requested = stored + rejected, including those rejected at the
    source.
    """
    result = world.run()
    assert world.triggered == ["unpaused", {"records": 10, "source_url": None}]
    assert (result.run_id, result.dag_run_state) == ("r1", "success")
    assert (result.asked, result.fetched, result.produced) == (10, 10, 9)
    assert (result.stored, result.rejected, result.missing) == (8, 2, 0)
    assert result.latency_ms == {"p50": 5, "p99": 5}
    assert world.audited == [([OffsetRange(0, 3, 9), OffsetRange(1, 0, 3)], "r1")]


@pytest.mark.parametrize("missing", ["pipeline", "topic"])
def test_nothing_is_triggered_for_what_the_stack_does_not_have(world, monkeypatch, missing):
    """Neither for another pipeline, nor for a missing topic; the DAG is not even unpaused."""

    def refuse(_settings):
        raise UsageError("another pipeline")

    if missing == "pipeline":
        monkeypatch.setattr(receipt.started, "check_started", refuse)
    else:
        world.spans = [[]]
    with pytest.raises(UsageError, match=r"another pipeline|topic 'users_created' does not exist"):
        world.run()
    assert world.triggered == []


def test_progress_is_reported(world):
    """Each change of the task's state, and the number of records in flight, is reported once."""
    world.run()
    assert world.reports == [
        "run r1 triggered",
        "attempt 0: waiting",
        "attempt 1: running",
        "attempt 1: success",
        "waiting for 4 records to be stored",
    ]


def test_a_failed_run_is_in_the_receipt(world):
    """With the error of each failed attempt, and what the run did not produce is missing."""
    world.states, world.told = ["running", "running", "failed"], {}
    world.tasks = [("up_for_retry", 1), ("running", 2), ("failed", 2)]
    world.found = audit(produced=3, stored=3)
    result = world.run()
    assert world.reports[1:4] == [
        "attempt 1: up_for_retry: error of attempt 1",
        "attempt 2: running",
        "attempt 2: failed: error of attempt 2",
    ]
    assert (result.dag_run_state, result.asked, result.fetched, result.missing) == ("failed", 10, 0, 7)


def test_records_that_do_not_arrive_are_missing(world):
    """Those that are lost, and those still in flight after two minutes without progress."""
    world.waiting = [5]
    world.found = audit(produced=9, stored=6, waiting=2, missing=1, refused=1)
    result = world.run()
    assert result.missing == 3
    assert 120 <= result.seconds < 125


def test_a_retried_attempt_may_produce_more_than_requested(world):
    """What a killed attempt sent is sent again by the next: nothing is missing for that reason."""
    world.found = audit(produced=14, stored=14)
    assert world.run().missing == 0


def test_excused_records_are_not_missing(world):
    """By a TTL, by a pruned dead-letter topic; and by compaction no more than the ledger lacks."""
    world.found = audit(produced=5, stored=3, expired=1, pruned=1, compacted=4)
    result = world.run()
    assert (result.missing, result.excused) == (1, 6)
    world.found = audit(produced=10, stored=10, compacted=4)
    assert world.run().excused == 0


def test_missing_records_are_named_in_the_receipt(world):
    """With the reconciliation's own messages."""
    world.found.named["missing"].append({"partition": 0, "offset": 1, "id": "a", "why": "w"})
    assert world.run().missing_records == [{"partition": 0, "offset": 1, "id": "a", "why": "w"}]


TOLD = {"asked": 10, "fetched": 10, "topic": "t", "topic_id": "id-1", "offsets": {"0": [3, 8], "1": [0, 2]}}
ENDED = {"dag_run_id": "r1", "state": "success", "queued_at": "q"}


def test_the_receipt_of_a_finished_run_is_created(world, monkeypatch):
    """From the task's return value: nothing is triggered, and there is no wait."""
    monkeypatch.setattr(receipt.topics, "fetch_topic_id", lambda *_: "id-1")
    result = receipt.reconcile_run(read(), None, ENDED, TOLD)
    assert (result.asked, result.produced, result.stored, result.rejected, result.missing) == (10, 9, 8, 2, 0)
    assert world.audited == [([OffsetRange(0, 3, 9), OffsetRange(1, 0, 3)], "r1")]
    assert world.triggered == []


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "no offsets"),
        (TOLD | {"topic": ""}, "topic '' does not exist"),
        (TOLD | {"topic_id": "id-0"}, "recreated after this run"),
        (TOLD | {"offsets": {"0": [0, 100_000]}}, "more than the maximum"),
    ],
    ids=["failed", "no-topic", "another-topic", "large"],
)
def test_a_receipt_that_can_no_longer_be_created_says_why(world, monkeypatch, told, why):
    """And no record is read."""
    monkeypatch.setattr(receipt.topics, "fetch_topic_id", lambda *_: "id-1")
    with pytest.raises(UsageError, match=why):
        receipt.reconcile_run(read(), None, ENDED, told)
    assert world.audited == []
