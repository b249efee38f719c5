"""What Prometheus gets, and the files that name its metrics."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed
from starlette.testclient import TestClient

from penstock.config import Settings
from penstock.monitoring.monitor import PipelineState
from penstock.web import metrics
from penstock.web.metrics import METRICS
from penstock.web.metrics_poller import MetricsPoller
from tests.unit.web import contexts

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
UNIT = re.compile(r"_(records|bytes|seconds|timestamp_seconds|up|balanced|firing|stuck|info)(_total)?$")


@pytest.fixture(autouse=True)
def _nothing_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetricsPoller, "schedule_poll", lambda *_: None)


def answer(settings: Settings, result: PipelineState, accept: str = "text/plain") -> str:
    app = FastAPI()
    metrics.register(app, contexts.context(settings, result))
    with TestClient(app) as client:
        output = client.get("/metrics", headers={"Accept": accept})
    assert output.status_code == 200
    return str(output.text)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """The values by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parsed(text)
        for sample in family.samples
        if sample.name.startswith("penstock")
    }


def test_each_stage_has_metrics(settings: Settings) -> None:
    """Records of each stage, lag per partition, services, the receipt and alerts."""
    output = samples(answer(settings, contexts.state(contexts.snapshot())))
    assert output["penstock_fetched_records_total",] == 10
    assert output["penstock_produced_bytes_total",] == 200
    assert output["penstock_kafka_records_total", "users_created"] == 8
    assert output["penstock_kafka_records_total", "users_created.dlq"] == 5
    assert output["penstock_stored_records_total",] == 6
    assert output["penstock_lag_records", "0"] == 2
    assert (output["penstock_service_up", "kafka"], output["penstock_service_up", "airflow"]) == (1, 0)
    assert output["penstock_receipt_balanced",] == 0
    assert output["penstock_receipt_excused_records", "expired"] == 3
    assert ("penstock_receipt_excused_records", "pruned") not in output, "a receipt of an earlier version"
    assert output["penstock_alerts_firing", "lag", "warning"] == 1
    assert output["penstock_alerts_firing", "no_data", "warning"] == 0
    assert output["penstock_rejected_records_total", "contract_broken"] == 0


def test_unknown_values_are_omitted(settings: Settings) -> None:
    """An unavailable service does not result in a zero."""
    output = samples(answer(settings, contexts.state(contexts.unknown())))
    names = {name for name, *_ in output}
    assert not names & {"penstock_kafka_records_total", "penstock_stored_records_total", "penstock_kafka_held_records"}
    assert ("penstock_lag_records", "1") not in samples(answer(settings, contexts.state(contexts.snapshot())))
    assert "penstock_batch_seconds" not in names
    assert "penstock_service_up" in names


@pytest.mark.parametrize(
    "found", [PipelineState(), contexts.state(contexts.snapshot(time.time() - 60))], ids=["none", "old"]
)
def test_an_old_poll_exports_only_its_time(settings: Settings, found: PipelineState) -> None:
    """Without current polls, nothing is claimed."""
    names = {name for name, *_ in samples(answer(settings, found))}
    assert names - {metrics.LAST_POLL} == {metrics.BUILD}
    assert (metrics.LAST_POLL in names) == bool(found.snapshots)


def test_latencies_are_cumulative_buckets_in_seconds(settings: Settings) -> None:
    """The last bucket counts all; the sum, which is unknown, is omitted."""
    output = samples(answer(settings, contexts.state(contexts.snapshot())))
    buckets = [(labels[0], value) for (name, *labels), value in output.items() if name == f"{metrics.LATENCY}_bucket"]
    assert dict(buckets) | {"0.01": 0, "0.025": 1, "0.05": 3, "86400.0": 3, "+Inf": 4} == dict(buckets)
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert not [name for name, *_ in output if name in {f"{metrics.LATENCY}_sum", f"{metrics.LATENCY}_count"}]


def test_both_formats_can_be_parsed(settings: Settings) -> None:
    """The stricter parser accepts it, too, and finds the same names."""
    result = contexts.state(contexts.snapshot())
    strict = {
        sample.name
        for family in parsed_openmetrics(answer(settings, result, OPEN_METRICS))
        for sample in family.samples
    }
    plain = {sample.name for family in parsed(answer(settings, result)) for sample in family.samples}
    assert strict == plain


def test_names_have_units_and_help() -> None:
    """Counters end in _total, each name says what it counts, each is documented."""
    for metric in METRICS:
        assert UNIT.search(metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.meaning.endswith("."), metric.name


def test_the_documentation_lists_all_metrics() -> None:
    """docs/metrics.md has the generated table."""
    assert metrics.render_page() in (ROOT / "docs" / "metrics.md").read_text()


def exported() -> set[str]:
    """Every name that a sample can have."""
    return {metric.name for metric in METRICS} | {metrics.BUILD, metrics.LAST_POLL, f"{metrics.LATENCY}_bucket"}


def expressions(result: Any) -> Iterator[str]:
    """All PromQL in a dashboard or in rules."""
    if isinstance(result, dict):
        yield from (value for key, value in result.items() if key == "expr")
        result = list(result.values())
    if isinstance(result, list):
        for item in result:
            yield from expressions(item)


FILES = {"grafana-dashboard.json": json.loads, "prometheus-alerts.yml": yaml.safe_load}


@pytest.mark.parametrize("name", FILES)
def test_dashboard_and_rules_use_existing_metrics(name: str) -> None:
    """Each metric that they name is exported."""
    result = list(expressions(FILES[name]((DEPLOY / name).read_text())))
    named = {word for item in result for word in re.findall(r"\bpenstock_\w+", item)}
    assert result
    assert named - exported() == set()


def test_the_dashboard_shows_every_metric_of_the_pipeline() -> None:
    """No stage is omitted."""
    text = " ".join(expressions(json.loads((DEPLOY / "grafana-dashboard.json").read_text())))
    left_out = {"penstock_batch_timestamp_seconds", metrics.BUILD, metrics.LAST_POLL}
    assert [item for item in sorted(exported() - left_out) if item not in text] == []


def test_the_dashboard_is_complete() -> None:
    """Panels have unique ids, do not overlap, and query the data source that the viewer selects."""
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for record in panels:
        at = record["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, record["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    asked = {target["datasource"]["uid"] for panel in panels for target in panel.get("targets", [])}
    assert asked == {"${datasource}"}
    assert "datasource" in {item["name"] for item in board["templating"]["list"]}


def test_prometheus_scrapes_the_control_center(settings: Settings) -> None:
    """The configuration has the port of the settings, and the rules' file next to it."""
    result = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = result["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{settings.control_port}"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert [name for name in result["rule_files"] if not (DEPLOY / name).exists()] == []


@pytest.mark.parametrize("path", sorted(filter(Path.is_file, DEPLOY.iterdir())), ids=lambda path: str(path.name))
def test_no_file_names_another_host(path: Path) -> None:
    """They work without the Internet."""
    text = path.read_text()
    assert re.findall(r"https?://[^\s\"]+", text) == []
    assert set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text)) <= {"127.0.0.1"}
