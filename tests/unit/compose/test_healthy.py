"""The health checks of containers."""

import json
import os
import time

import pytest

from penstock.compose import healthy
from penstock.compose.healthy import NotHealthy

HEALTH = json.dumps({"scheduler": {"status": "healthy"}, "triggerer": {"status": None}})


@pytest.mark.parametrize(
    ("address", "wanted", "text"),
    [
        ("http://x/health/ready", "", "{}"),
        ("http://x/json/", "ALIVE", '{"status": "ALIVE"}'),
        ("http://x/api/v2/monitor/health", "scheduler", HEALTH),
    ],
)
def test_an_expected_response_is_healthy(monkeypatch, address, wanted, text):
    """A response, a text in it, or a component of Airflow is healthy."""
    monkeypatch.setattr(healthy, "_fetch_text", lambda _: text)
    assert healthy.main([address, wanted]) == 0


@pytest.mark.parametrize(
    ("address", "wanted", "message"),
    [
        ("http://x/json/", "ALIVE", "does not contain ALIVE"),
        ("http://x/api/v2/monitor/health", "triggerer", "triggerer is None"),
        ("http://x/api/v2/monitor/health", "dag_processor", "dag_processor is None"),
    ],
)
def test_another_response_is_unhealthy(monkeypatch, capsys, address, wanted, message):
    """The reason for a failure is on stderr, which `docker inspect` shows."""
    monkeypatch.setattr(healthy, "_fetch_text", lambda _: HEALTH)
    assert healthy.main([address, wanted]) == 1
    assert message in capsys.readouterr().err


def test_a_closed_port_is_unhealthy(free_port):
    """A closed port fails with the address."""
    with pytest.raises(NotHealthy, match=f"127.0.0.1:{free_port}"):
        healthy.check_target(f"http://127.0.0.1:{free_port}/")


def test_a_recently_touched_file_is_healthy(tmp_path):
    """A file is healthy while it is recent, and not before it exists."""
    heartbeat = tmp_path / "beat"
    with pytest.raises(NotHealthy, match="does not exist yet"):
        healthy.check_target(str(heartbeat), "60")
    heartbeat.touch()
    healthy.check_target(str(heartbeat), "60")
    os.utime(heartbeat, (time.time() - 100,) * 2)
    with pytest.raises(NotHealthy, match="100 s ago"):
        healthy.check_target(str(heartbeat), "60")


@pytest.mark.parametrize("text", ["<html>502</html>", "[]", '{"triggerer": 1}', ""])
def test_an_unexpected_response_for_airflow_is_unhealthy(monkeypatch, capsys, text):
    """An unexpected response, e.g. of a proxy, is shown without a traceback."""
    address = "http://x/api/v2/monitor/health"
    monkeypatch.setattr(healthy, "_fetch_text", lambda _: text)
    assert healthy.main([address, "triggerer"]) == 1
    assert capsys.readouterr().err == f"{address} did not return Airflow's health: {text!r}\n"
