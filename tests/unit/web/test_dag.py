from datetime import UTC, datetime

import pytest

from penstock.airflow.runs import parse_run
from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.errors import NotFound, RunFailed, UsageError
from penstock.monitoring.snapshot import PartitionProgress
from penstock.produce.delivery_log import AttemptProgress
from penstock.web.runs import dag as dags
from penstock.web.runs.dag import (
    Dag,
    RunDetail,
    RunProgress,
    TaskLogLine,
    compute_progress,
    elapsed_s,
    parse_log,
    parse_ranges,
    validate_parameters,
)

SUMMARY = {"asked": 9, "fetched": 9, "produced": 8, "refused": 1, "offsets": {"0": [3, 7], "1": [0, 2]}}
FOUND = {"dag_run_id": "r1", "state": "success", "run_type": "manual", "conf": {"records": 9}}


class FakeAirflow:
    """Stands for `airflow.api_client.Airflow`."""

    signed_in = 0

    def __init__(self, settings):
        self.settings = settings
        self.found = FOUND

    def __enter__(self):
        FakeAirflow.signed_in += 1
        return self

    def describe_dag(self):
        return {"is_paused": True, "timetable_description": "At 00:00", "next_dagrun_run_after": None}

    def describe_run(self, run_id):
        if run_id != "r1":
            raise RunFailed("unknown")
        return self.found

    def fetch_summary(self, _run_id):
        return SUMMARY

    def list_attempts(self, _run_id):
        return [{"try_number": 1, "state": None}]


@pytest.fixture
def dag(monkeypatch):
    monkeypatch.setattr(dags, "Airflow", FakeAirflow)
    monkeypatch.setattr(FakeAirflow, "signed_in", 0)
    return Dag(read())


def test_one_sign_in_serves_all_requests(dag):
    """And none happens before the first."""
    assert FakeAirflow.signed_in == 0
    assert dag.read_schedule().paused
    assert dag.read_schedule().told == "At 00:00"
    assert FakeAirflow.signed_in == 1


def test_a_run_has_its_attempts_and_offsets(dag):
    """An attempt that no worker has taken yet is queued."""
    dag_run = dag.read_run("r1")
    assert (dag_run.run.run_id, dag_run.run.produced) == ("r1", 8)
    assert [(attempt.number, attempt.state) for attempt in dag_run.attempts] == [(1, "waiting")]
    assert dag_run.ranges == [OffsetRange(0, 3, 8), OffsetRange(1, 0, 3)]


def test_an_unknown_run_is_an_error(dag):
    """The error names its id, not an address of Airflow's."""
    with pytest.raises(NotFound, match="no run r2"):
        dag.read_run("r2")


@pytest.mark.parametrize(
    ("records", "seconds", "rate"), [(500, None, None), (50.0, None, 10), (None, 3, 20), (1_000_000, None, None)]
)
def test_valid_run_parameters_are_sent(records, seconds, rate):
    """Records, as fast as possible or at a rate; or seconds at a rate. All three are sent: the DAG has defaults."""
    assert validate_parameters(records, seconds, rate) == {"records": records, "seconds": seconds, "rate": rate}


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ((None, None, None), "either"),
        ((5, 5, 1), "either"),
        ((None, 5, None), "either"),
        ((-1, None, None), "records must be more than 0"),
        ((2.5, None, None), "whole number"),
        ((5, None, 0), "rate must be more than 0"),
        ((float("nan"), None, None), "records must be"),
        ((float("inf"), None, None), "records must be"),
        ((None, 0.1, 1), "at least 1"),
        ((1_000_001, None, None), "at most 1,000,000"),
        ((100_000, None, 10), "take 167 minutes"),
    ],
    ids=str,
)
def test_invalid_run_parameters_are_rejected(order, why):
    """With the reason, before anything is sent."""
    with pytest.raises(UsageError, match=why):
        validate_parameters(*order)


def detail(summary=SUMMARY, state="success"):
    """A run whose task returned this."""
    return RunDetail(parse_run(FOUND | {"state": state}, summary), [], parse_ranges(summary), summary)


def reached(first, second):
    """The last covered offsets of the ledger in two partitions."""
    return [PartitionProgress(0, 0, 90, first), PartitionProgress(1, 0, 90, second)]


def test_the_progress_of_a_finished_run_is_known():
    """From its task's return value, and the ledger's last offsets."""
    assert compute_progress(detail(), [], None, reached(8, 3)) == RunProgress(9, 9, 8, 1, handled=8, waiting=0)
    assert compute_progress(detail(), [], None, reached(5, 0)) == RunProgress(9, 9, 8, 1, handled=2, waiting=6)
    assert compute_progress(detail(), [], None, reached(5, None)) == RunProgress(9, 9, 8, 1, handled=None, waiting=None)


def test_other_runs_records_hide_how_many_are_pending():
    """How many of its own are pending is unknown until none is."""
    among = detail(SUMMARY | {"produced": 5, "refused": 4})
    assert compute_progress(among, [], None, reached(5, 0)) == RunProgress(9, 9, 5, 4, handled=None, waiting=6)
    assert compute_progress(among, [], None, reached(80, 80)) == RunProgress(9, 9, 5, 4, handled=5, waiting=0)


def test_the_progress_of_an_active_run_is_known():
    """Fetched from its log, produced from its delivery log."""
    log = [
        TaskLogLine(None, "info", "response_fetched", "", {"fetched": "4", "asked": "9"}),
        TaskLogLine(None, "info", "x", "", {"fetched": "none"}),
    ]
    assert compute_progress(detail({}, "running"), log, AttemptProgress(4, 3), reached(0, 0)) == RunProgress(
        9, 4, 3, None, handled=None, waiting=None
    )


def test_the_lines_of_a_log_are_shortened():
    """What is the same in every entry is omitted, and so are the ends of groups; errors keep their place."""
    frames = [{"filename": "a.py", "lineno": 3, "name": "f", "locals": {"secret": "s"}}]
    entries = parse_log(
        [
            {"event": "::group::Pre Execute", "level": "info"},
            {"event": "::endgroup::"},
            {
                "event": "response_fetched",
                "timestamp": "t",
                "level": "info",
                "fetched": 5,
                "task_id": "x",
                "none": None,
            },
            {"event": "failed", "error_detail": [{"exc_type": "OSError", "exc_value": "full", "frames": frames}]},
        ]
    )
    assert entries[0] == TaskLogLine(None, "info", "Pre Execute", "")
    assert entries[1] == TaskLogLine("t", "info", "response_fetched", "", {"fetched": "5"})
    assert entries[1].text == "t info response_fetched fetched=5"
    assert entries[2].error == '  File "a.py", line 3, in f\nOSError: full'
    assert len(entries) == 3


def test_a_duration_ends_at_its_end_or_now():
    """What has not started has no duration."""
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert elapsed_s("2026-01-01T00:00:00Z", "2026-01-01T00:00:05+00:00", now) == 5
    assert elapsed_s("2026-01-01T00:00:00Z", None, now) == 60
    assert elapsed_s(None, None, now) is None
