"""API and metrics of the stack's control center."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families as parsed

from penstock import pipelines
from tests.conftest import Stack

WAIT_S = 60.0


@pytest.fixture
def asking(stack: Stack) -> httpx2.Client:
    """An HTTP client on this machine."""
    return httpx2.Client(base_url=f"http://127.0.0.1:{stack.settings.control_port}", timeout=20, trust_env=False)


def samples(asking: httpx2.Client) -> dict[tuple[str, ...], float]:
    text = asking.get("/metrics").raise_for_status().text
    return {(sample.name, *sample.labels.values()): sample.value for item in parsed(text) for sample in item.samples}


def until(wanted: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not wanted():
        assert time.monotonic() < end_s, what
        time.sleep(0.5)  # between two looks of the control center


def test_it_is_live_and_ready(asking: httpx2.Client) -> None:
    """Supervisors and load balancers can see that."""
    assert asking.get("/health/live").json() == {"status": "live"}
    assert asking.get("/health/ready").json()["status"] == "ready"


def test_every_route_without_parameters_responds_as_documented(asking: httpx2.Client) -> None:
    """Each returns JSON with 200, or 404 with an error if there is nothing; no optional query parameter is required."""
    document = asking.get("/api/v1/openapi.json").raise_for_status().json()
    asked = 0
    for path, methods in document["paths"].items():
        assert set(methods) == {"get"}, path
        needed = [item for item in methods["get"].get("parameters", []) if item.get("required")]
        if "{" in path or needed:
            continue
        answer = asking.get(f"/api/v1{path}")
        asked += 1
        assert answer.status_code in {200, 404}, (path, answer.text)
        assert answer.status_code == 200 or answer.json()["error"], path
    assert asked


def test_invalid_requests_are_rejected(asking: httpx2.Client) -> None:
    """An invalid value is rejected before any service is asked; what does not exist is not found."""
    assert asking.get("/api/v1/pipeline/history?every=x").status_code == 422
    assert asking.get("/api/v1/nothing").status_code == 404
    assert asking.post("/api/v1/pipeline").status_code == 405


def test_metrics_count_the_records_of_a_run(stack: Stack, asking: httpx2.Client) -> None:
    """Each stage's count grows by the run's records; latencies count the rows; services are up."""
    before = samples(asking)
    assert {before["penstock_service_up", name] for name in ("kafka", "cassandra", "airflow", "registry")} == {1.0}
    stack.json("run", "--records", "30")
    hops = ("fetched", "produced", "read", "stored")

    def grew(*name: str) -> float:
        return samples(asking).get(name, 0.0) - before.get(name, 0.0)

    for hop in hops:
        until(lambda hop=hop: grew(f"penstock_{hop}_records_total") >= 30, hop)  # type: ignore[misc]
    until(lambda: grew("penstock_kafka_records_total", pipelines.of(stack.settings).topic) >= 30, "kafka")
    until(lambda: grew("penstock_latency_seconds_bucket", "+Inf") >= 30, "latency")
    assert grew("penstock_produced_bytes_total") > 30 * 100
    lags = [value for (name, *_), value in samples(asking).items() if name == "penstock_lag_records"]
    assert len(lags) == stack.settings.kafka_partitions


def test_dead_letters_are_counted_by_reason(stack: Stack, asking: httpx2.Client) -> None:
    """A value that is not JSON is counted under that reason, with its bytes, soon after it was dead-lettered."""
    counted = "penstock_rejected_records_total", "json_malformed"
    until(lambda: samples(asking).get(counted) is not None, "the first look")
    before = samples(asking)[counted]
    producer = Producer({"bootstrap.servers": stack.settings.kafka_bootstrap})
    end_s = time.monotonic() + WAIT_S
    while samples(asking)[counted] <= before:  # what comes before the first look is not counted
        producer.produce(pipelines.of(stack.settings).topic, key=b"x", value=b"neither frame nor JSON")
        producer.flush(10)
        assert time.monotonic() < end_s
        time.sleep(2)


def test_no_secret_is_exposed(stack: Stack, asking: httpx2.Client) -> None:
    """Neither in the API nor in the metrics."""
    secrets = re.findall(r'"([^"]{12,})"\s*[,}]', (stack.settings.home / "secrets.json").read_text())
    assert secrets
    output = json.dumps(_everything(asking))
    assert [secret for secret in secrets if secret in output] == []


def _everything(asking: httpx2.Client) -> list[Any]:
    document = asking.get("/api/v1/openapi.json").json()
    paths = [path for path in document["paths"] if "{" not in path]
    return [document, asking.get("/metrics").text, *(asking.get(f"/api/v1{path}").text for path in paths)]
