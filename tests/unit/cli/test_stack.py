import socket
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from penstock.airflow import runs
from penstock.cli import app
from penstock.errors import AirflowUnreachable
from penstock.stack import launch


@pytest.fixture
def done(monkeypatch) -> list[tuple[str, ...]]:
    """Record the services of each `down`. Empty means all."""
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(launch, "stop_services", lambda _settings, names, _report: done.append(tuple(names)))
    return done


@pytest.fixture
def airflow_listens(monkeypatch) -> Iterator[None]:
    """A process that listens on Airflow's port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("PENSTOCK_AIRFLOW_PORT", str(listener.getsockname()[1]))
        yield


def down(*services: str) -> str:
    result = CliRunner().invoke(app, ["down", *services])
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.mark.usefixtures("airflow_listens")
@pytest.mark.parametrize("services", [(), ("airflow-scheduler",)], ids=["all", "airflow"])
def test_down_names_the_unfinished_runs(monkeypatch, done, services):
    """If Airflow is stopped, `down` lists unfinished runs and still stops the stack."""
    monkeypatch.setattr(runs, "list_unfinished", lambda _settings: ["manual__2", "scheduled__1"])
    assert down(*services) == ("2 unfinished runs: manual__2, scheduled__1\n  resume: ./penstock up\n")
    assert done == [services]


@pytest.mark.usefixtures("airflow_listens")
def test_down_truncates_a_long_list(monkeypatch, done):
    """A long list is truncated, with the number of further runs."""
    monkeypatch.setattr(runs, "list_unfinished", lambda _settings: [f"r{number}" for number in range(9)])
    assert "9 unfinished runs: r0, r1, r2, r3, r4 and 4 more\n" in down()


@pytest.mark.usefixtures("airflow_listens")
def test_down_continues_without_a_response_of_airflow(monkeypatch, done):
    """An Airflow that does not respond is stopped too, and `down` says that its runs are unknown."""

    def hangs(_settings):
        raise AirflowUnreachable("no response from Airflow")

    monkeypatch.setattr(runs, "list_unfinished", hangs)
    assert down() == "cannot check for unfinished runs: no response from Airflow\n"
    assert done == [()]


def test_down_queries_airflow_only_if_it_stops_it(monkeypatch, done):
    """`down` does not query Airflow if it is not running or not stopped."""
    monkeypatch.setattr(runs, "list_unfinished", lambda _settings: pytest.fail("asked"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PENSTOCK_AIRFLOW_PORT", str(free.getsockname()[1]))
    assert down() == ""
    assert down("spark-job") == ""
    assert done == [(), ("spark-job",)]
