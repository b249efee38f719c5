"""The DAG's file with stand-ins for Airflow: importing the real one takes seconds, and integration tests do it."""

import ast
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from penstock import config
from penstock.errors import KafkaUnreachable, TooManyFailed
from penstock.pipeline import ingest
from penstock.pipelines import users
from penstock.pipelines.users import PIPELINE
from penstock.source import HttpSource

FILE = Path(__file__).parents[2] / "dags" / "kafka_producer.py"


def keep(name: str, made: dict):
    """A stand-in for one of Airflow's decorators: it records its arguments, and returns the function."""

    def decorator(**arguments):
        made[name] = arguments
        return lambda function: function

    return decorator


@pytest.fixture
def dag(monkeypatch):
    """The DAG's module, and what it passed to Airflow."""
    made: dict = {}
    sdk = ModuleType("airflow.sdk")
    sdk.Asset = lambda name: SimpleNamespace(name=name)
    sdk.Param = lambda default, **schema: SimpleNamespace(default=default, **schema)
    sdk.dag, sdk.task = keep("dag", made), keep("task", made)
    sdk.exceptions = ModuleType("airflow.sdk.exceptions")
    sdk.exceptions.AirflowFailException = GiveUp
    for module in (ModuleType("airflow"), sdk, sdk.exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(ingest, "run", lambda *arguments: made["runs"].append(arguments) or Told())
    spec = spec_from_file_location("kafka_producer", FILE)
    module = module_from_spec(spec)
    made["runs"] = []
    spec.loader.exec_module(module)
    made["runs"].clear()  # where Airflow would note the task, the stand-in runs it
    return module, made


class GiveUp(Exception):
    """Stands for Airflow's AirflowFailException: no more attempts."""


class Told:
    """Stands for a run's summary."""

    def as_dict(self):
        return {"asked": 5}


def test_the_file_is_short_and_imports_nothing_heavy():
    """At most 60 lines, and at import nothing of penstock's: the DAG is parsed repeatedly."""
    text = FILE.read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 60
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for statement in ast.parse(text).body
        for node in (statement.body if isinstance(statement, ast.Try) else [statement])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"datetime", "typing", "pendulum", "airflow.sdk", "airflow.sdk.exceptions"}


def test_the_dag_runs_daily_without_catch_up(dag):
    """The names and the schedule are the user's."""
    module, made = dag
    assert module.user_automation.__name__ == "user_automation"
    assert module.stream_data.__name__ == "stream_data"
    assert (made["dag"]["schedule"], made["dag"]["catchup"]) == ("@daily", False)


def test_the_task_is_retried_with_back_off(dag):
    """Its outlet is the topic."""
    _, made = dag
    assert made["task"]["retries"] > 0
    assert made["task"]["retry_exponential_backoff"] is True
    assert [asset.name for asset in made["task"]["outlets"]] == ["users_created"]


def test_every_parameter_is_one_of_a_run(dag):
    """The DAG has exactly the parameters of a run; by default, they request 500 records."""
    module, _ = dag
    parameters = {name: value.default for name, value in module.PARAMETERS.items()}
    assert ingest.RunOrder(run_id="r", **parameters).asked == 500
    assert {"run_id", *parameters} == set(ingest.RunOrder.__dataclass_fields__)


def test_the_task_runs_what_is_requested(dag):
    """The task's run id and parameters are passed on; the run's summary is the task's return value."""
    module, made = dag
    assert module.stream_data(params={"records": 5, "source_url": None}, run_id="manual__1") == {"asked": 5}
    ((_, pipeline, order),) = made["runs"]
    assert pipeline is PIPELINE
    assert order == ingest.RunOrder(run_id="manual__1", records=5)


def test_the_tasks_clock_can_be_set_wrong(dag):
    """Only a drill passes the parameter."""
    module, made = dag
    assert module.PARAMETERS["clock_offset_s"].default is None
    module.stream_data(params={"records": 5, "clock_offset_s": -3600}, run_id="r")
    ((_, _, order),) = made["runs"]
    assert order == ingest.RunOrder(run_id="r", records=5, clock_offset_s=-3600)


def test_invalid_parameters_are_not_retried(dag, monkeypatch):
    """What another attempt would not fix fails the task at once, with what is wrong."""
    module, _ = dag
    monkeypatch.setattr(ingest, "run", lambda _settings, _pipeline, order: order.asked)
    with pytest.raises(GiveUp, match="either `records`, or `seconds` and `rate`"):
        module.stream_data(params={"records": None}, run_id="r")
    monkeypatch.setattr(
        ingest, "run", lambda settings, _pipeline, order: HttpSource.configured(settings, order.source_url)
    )
    monkeypatch.setenv("PENSTOCK_SOURCE_HOSTS", "api.test")
    config.load.cache_clear()
    with pytest.raises(GiveUp, match=r"'evil\.test' is not allowed.*\n.*PENSTOCK_SOURCE_HOSTS"):
        module.stream_data(params={"records": 1, "source_url": "http://evil.test/"}, run_id="r")
    monkeypatch.setenv("PENSTOCK_KAFKA_PORT", "x")
    config.load.cache_clear()
    with pytest.raises(GiveUp, match="PENSTOCK_KAFKA_PORT"):
        module.stream_data(params={"records": 1}, run_id="r")


def test_an_invalid_pipeline_is_not_retried(dag, monkeypatch, tmp_path):
    """An invalid file stays invalid: the task fails at once, and says file, field and what to write."""
    module, made = dag
    file = tmp_path / "orders.py"
    text = Path(users.__file__).read_text()
    file.write_text(text.replace("dob: Annotated[Moment, Meta(", "dob: Annotated[datetime, Meta(tz=False, "))
    monkeypatch.setenv("PENSTOCK_PIPELINE", str(file))
    config.load.cache_clear()
    with pytest.raises(GiveUp, match=r"field dob: .* write `dob: Annotated\[datetime, Meta\(tz=True, \.\.\.\)\]`"):
        module.stream_data(params={"records": 1}, run_id="r")
    assert made["runs"] == []


def test_a_run_with_too_many_failed_entries_is_not_retried(dag, monkeypatch):
    """The same entries would fail again; Airflow shows how many failed, why, and what to do."""
    module, _ = dag

    def run(*_):
        raise TooManyFailed("45 of 200 entries", hint="correct from_source")

    monkeypatch.setattr(ingest, "run", run)
    with pytest.raises(GiveUp, match="45 of 200 entries\n  try: correct from_source"):
        module.stream_data(params={"records": 1}, run_id="r")


def test_any_other_error_is_retried(dag, monkeypatch):
    """An unavailable service may be back at the next attempt: the error is unchanged."""
    module, _ = dag

    def run(*_):
        raise KafkaUnreachable("away")

    monkeypatch.setattr(ingest, "run", run)
    with pytest.raises(KafkaUnreachable):
        module.stream_data(params={"records": 1}, run_id="r")


def test_airflow_2_is_rejected_by_name(monkeypatch):
    """The list of import errors says what is required, not which module is missing."""
    monkeypatch.setitem(sys.modules, "airflow.sdk", None)
    with pytest.raises(ImportError, match="needs Airflow 3 or newer"):
        exec(compile(FILE.read_text(), str(FILE), "exec"), {"__name__": "user_automation"})
