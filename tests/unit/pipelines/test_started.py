from dataclasses import replace
from pathlib import Path

import pytest

from penstock import pipelines
from penstock.config import Settings, read
from penstock.errors import WrongSettings
from penstock.pipelines import started
from penstock.pipelines.identity import identify_pipeline
from penstock.pipelines.users import PIPELINE

SERVICES = ("airflow-scheduler", "spark-job", "control-center", "watch")
OTHERS = replace(PIPELINE, topic="orders", table="orders")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read(home=tmp_path)


def note(settings: Settings, *services: str) -> None:
    """Record the identity as `up` does."""
    for service in services:
        path = started.path_of(settings, service)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(started.render_identity(settings))


def test_a_stack_started_with_the_same_pipeline_matches(settings):
    """So does a machine without a stack, which has nothing to compare with."""
    started.check_started(settings)
    note(settings, *SERVICES)
    started.check_started(settings)


def test_another_pipeline_is_rejected_with_both_names_and_a_way_out(settings, monkeypatch):
    """The message says what each service was started with, and the hint which services to restart."""
    note(settings, *SERVICES)
    monkeypatch.setattr(started, "of", lambda _settings: OTHERS)
    with pytest.raises(WrongSettings) as refused:
        started.check_started(settings)
    assert refused.value.message.splitlines()[1:] == [
        f"  {name} was started with topic 'users_created', table 'created_users', not topic 'orders', table 'orders'"
        for name in ("airflow-scheduler", "spark-job")
    ]
    assert refused.value.hint.startswith("./penstock restart airflow-scheduler spark-job control-center watch, or")


def test_a_changed_record_only_needs_a_new_job(settings, monkeypatch):
    """Airflow reads the pipeline's file for each run: it need not be restarted for another contract."""
    note(settings, "airflow-scheduler", "spark-job")
    monkeypatch.setattr("penstock.pipelines.identity.contract_digest", lambda _pipeline: "0123456789ab")
    with pytest.raises(WrongSettings, match="spark-job was started with contract") as refused:
        started.check_started(settings)
    assert "airflow-scheduler" not in str(refused.value)
    assert refused.value.hint.startswith("./penstock restart spark-job, or")


def test_the_requesting_service_is_restarted_too(settings, monkeypatch):
    """The page's own process may be the one that still has the old pipeline."""
    note(settings, "spark-job")
    monkeypatch.setattr(started, "of", lambda _settings: OTHERS)
    with pytest.raises(WrongSettings) as refused:
        started.check_started(settings, asking="control-center")
    assert refused.value.hint.startswith("./penstock restart spark-job control-center, or")


def test_another_airflow_is_not_compared_with_this_stack(settings, monkeypatch):
    """A local stack in the data directory says nothing about an Airflow elsewhere: the run's task compares."""
    note(settings, *SERVICES)
    monkeypatch.setattr(started, "of", lambda _settings: OTHERS)
    started.check_started(settings.model_copy(update={"airflow_url": "http://airflow.test:8080"}))


def test_an_unreadable_file_is_no_reason_to_reject(settings):
    """It counts as missing: the run's task still compares."""
    note(settings, "spark-job")
    started.path_of(settings, "spark-job").write_text("{")
    started.check_started(settings)


def test_the_recorded_identity_is_the_effective_pipelines(settings):
    """Under these settings."""
    assert f'"topic":"{identify_pipeline(settings, pipelines.of(settings)).topic}"' in started.render_identity(settings)
