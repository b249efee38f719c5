"""The DAG in the real Airflow."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.airflow.api_client import Airflow
from penstock.broker import topics
from penstock.config import Settings
from penstock.errors import NotFound
from penstock.produce import delivery_log
from penstock.produce.delivery_log import AttemptProgress
from penstock.sink.cassandra import open_session
from penstock.web.runs.dag import Dag, find_latest_number
from tests.conftest import Stack


def test_the_dag_is_loaded_with_its_parameters_and_asset(settings: Settings) -> None:
    """Airflow parses the file without an error: daily, no catch-up, one task, an asset for the topic."""
    with Airflow(settings) as airflow:
        assert airflow._send_request("GET", "/api/v2/importErrors")["import_errors"] == []
        dag = airflow._send_request("GET", "/api/v2/dags/user_automation/details")
        tasks = airflow._send_request("GET", "/api/v2/dags/user_automation/tasks")["tasks"]
        assets = airflow._send_request("GET", "/api/v2/assets")["assets"]
    assert (dag["timetable_summary"], dag["catchup"]) == ("0 0 * * *", False)
    assert set(dag["params"]) == {"records", "seconds", "rate", "source_url", "clock_offset_s", "pipeline"}
    assert [task["task_id"] for task in tasks] == ["stream_data"]
    assert "users_created" in [asset["name"] for asset in assets]


def test_a_run_with_a_duration_and_a_rate_sends_their_product(stack: Stack, settings: Settings) -> None:
    """Three seconds at 20 records/s send 60 records, and take three seconds."""
    with Airflow(settings) as airflow:
        airflow.unpause_dag()
        run_id = airflow.trigger_run({"records": None, "seconds": 3, "rate": 20})
        run = _ended(airflow, run_id)
        summary = airflow.fetch_summary(run_id)
    assert run["state"] == "success"
    assert (summary["asked"], summary["fetched"], summary["produced"]) == (60, 60, 60)
    assert summary["seconds"] >= 2.9
    assert summary["bytes"] > 60 * 200


def test_invalid_parameters_fail_the_run_without_a_retry(settings: Settings) -> None:
    """Another attempt would fail the same way."""
    with Airflow(settings) as airflow:
        airflow.unpause_dag()
        run_id = airflow.trigger_run({"records": 5, "seconds": 5})
        run = _ended(airflow, run_id)
        log = airflow.find_error(run_id, 1)
    assert run["state"] == "failed"
    assert "either `records`, or `seconds` and `rate`" in log


def test_a_run_of_another_pipeline_sends_nothing(
    stack: Stack, settings: Settings, pipeline_file: Callable[..., Path], unique: str
) -> None:
    """If the shell's pipeline differs from the stack's, `run` and `demo` trigger nothing; a run triggered elsewhere
    fails its task.
    """
    other = {"PENSTOCK_PIPELINE": str(pipeline_file())}
    before = topics.fetch_offset_ranges(settings, "users_created")
    with Airflow(settings) as airflow:
        airflow.unpause_dag()
        runs = len(airflow.list_runs(100))
        for command in ("run", "demo"):
            done = stack.cli(command, **other)
            assert done.returncode == 2, done.stderr
            assert "spark-job was started with topic 'users_created'" in done.stderr
            assert f"not topic '{unique}'" in done.stderr
            assert "try: ./penstock restart airflow-scheduler spark-job control-center watch, or" in done.stderr
        assert len(airflow.list_runs(100)) == runs
        with Airflow(settings.model_copy(update={"pipeline": other["PENSTOCK_PIPELINE"]})) as elsewhere:
            run_id = elsewhere.trigger_run({"records": 5})
        run = _ended(airflow, run_id)
        log = airflow.find_error(run_id, 1)
        assert [attempt["try_number"] for attempt in airflow.list_attempts(run_id)] == [1]
    assert run["state"] == "failed"
    assert f"nothing was fetched: the run was triggered for topic '{unique}'" in log
    assert topics.fetch_offset_ranges(settings, "users_created") == before


def test_a_missing_topic_is_named_at_once(stack: Stack, pipeline_file: Callable[..., Path], unique: str) -> None:
    """Without a local stack to compare with, `run` and `verify` name the topic and the command that creates it."""
    elsewhere = {"PENSTOCK_PIPELINE": str(pipeline_file()), "PENSTOCK_AIRFLOW_URL": stack.settings.airflow_url + "/"}
    for command in ("run", "verify"):
        began_s = time.monotonic()
        done = stack.cli(command, **elsewhere)
        assert time.monotonic() - began_s < 25  # Kafka's own time-out is 30 s
        assert done.returncode == 2, done.stderr
        assert f"topic '{unique}' does not exist" in done.stderr
        assert "./penstock up spark-job" in done.stderr


def test_the_dag_is_paused_and_unpaused(settings: Settings) -> None:
    """Airflow reports each change at once; the DAG is left as it was."""
    dag = Dag(settings)
    was = dag.read_schedule().paused
    try:
        dag.set_paused(True)
        assert dag.read_schedule().paused
        dag.set_paused(False)
        assert not dag.read_schedule().paused
    finally:
        dag.set_paused(was)
        dag.close()


def test_a_finished_run_can_be_read(stack: Stack, settings: Settings) -> None:
    """Its counts, offsets, attempts and log are available, and its receipt balances."""
    with Airflow(settings) as airflow:
        airflow.unpause_dag()
    run_id = stack.json("run", "--records", "20")["run_id"]
    dag = Dag(settings)
    dag_run = dag.read_run(run_id)
    assert (dag_run.run.state, dag_run.run.asked, dag_run.run.produced) == ("success", 20, 20)
    assert sum(span.records for span in dag_run.ranges) >= 20
    assert [(attempt.number, attempt.state) for attempt in dag_run.attempts] == [(1, "success")]
    log = dag.read_log(run_id, 1)
    assert find_latest_number(log, "fetched") == 20
    assert "run_finished" in [line.event for line in log]
    assert delivery_log.read_progress(delivery_log.folder_of(settings), run_id) == AttemptProgress(20, 20)
    with open_session(settings) as session:
        receipt = dag.create_receipt(run_id, session)
    assert (receipt.asked, receipt.produced, receipt.stored, receipt.missing) == (20, 20, 20, 0)
    with pytest.raises(NotFound):
        dag.read_run("manual__nothing")
    dag.close()


def _ended(airflow: Airflow, run_id: str) -> dict[str, object]:
    from penstock.reconcile.receipt import _wait_for_run

    return _wait_for_run(airflow, run_id, lambda _line: None)
