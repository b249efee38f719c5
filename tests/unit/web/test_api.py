"""The API's description, and its responses about the whole pipeline."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from penstock.config import Settings, read
from penstock.monitoring.monitor import PipelineState
from penstock.web import api
from tests.unit.web import contexts


def client(settings: Settings, result: PipelineState) -> TestClient:
    app = FastAPI()
    api.register(app, contexts.context(settings, result))
    return TestClient(app)


@pytest.fixture(scope="module")
def document() -> Any:
    return client(read(home=Path("unused")), contexts.state()).get("/api/v1/openapi.json").json()


def routes(document: Any) -> Any:
    return [(path, method, route) for path, value in document["paths"].items() for method, route in value.items()]


def test_the_api_is_read_only(document: Any) -> None:
    """All routes are GET."""
    assert routes(document)
    assert {method for _, method, _ in routes(document)} == {"get"}


def test_every_route_is_documented(document: Any) -> None:
    """Each has a description, and a model of its response."""
    for path, _, route in routes(document):
        assert route.get("description"), path
        output = route["responses"]["200"]["content"]
        shape = next(iter(output.values())).get("schema", {})
        assert shape, path
        assert route["summary"], path


def test_every_query_parameter_is_explained_or_obvious(document: Any) -> None:
    """Personal data are hidden by default, on every route that has them."""
    for path, _, route in routes(document):
        for item in route.get("parameters", []):
            assert item["schema"], (path, item["name"])
            if item["name"] == "personal":
                assert item["schema"]["default"] is False, path


def test_the_pipeline_has_a_summary_and_numbers(settings: Settings) -> None:
    """Each stage, the summary, and the newest poll."""
    output = client(settings, contexts.state(contexts.snapshot())).get("/api/v1/pipeline").json()
    assert [hop["name"] for hop in output["hops"]] == ["api", "airflow", "kafka", "spark", "cassandra", "rejected"]
    assert output["verdict"]["tone"] == "bad"
    assert output["now"]["counts"]["kafka"] == 8
    assert set(output["rates_s"]) == set(output["now"]["counts"])


def test_before_the_first_poll_nothing_is_known(settings: Settings) -> None:
    """The response is complete, and says that nothing is known yet."""
    output = client(settings, PipelineState()).get("/api/v1/pipeline").json()
    assert (output["now"], output["hops"]) == (None, [])
    assert output["verdict"]["text"]


def test_the_history_can_be_requested_in_parts(settings: Settings) -> None:
    """Polls after a time, and every nth."""
    asking = client(settings, contexts.state(*(contexts.snapshot(1000.0 + at) for at in range(10))))
    times = [point["at_s"] for point in asking.get("/api/v1/pipeline/history?after_s=1003&every=2").json()["points"]]
    assert times == [1004, 1006, 1008]
    assert asking.get("/api/v1/pipeline/history?every=0").status_code == 422


def test_a_missing_receipt_says_how_to_create_one(settings: Settings) -> None:
    """404, and the command."""
    none = client(settings, PipelineState()).get("/api/v1/receipt")
    assert (none.status_code, none.json()["hint"]) == (404, "./penstock verify")
    assert client(settings, contexts.state()).get("/api/v1/receipt").json() == {"receipt": contexts.RECEIPT}


def test_showing_personal_data_is_recorded() -> None:
    """Requesting them adds an entry to the audit log with who and what."""
    noted: list[tuple[str, ...]] = []
    context = SimpleNamespace(audit_log=SimpleNamespace(record=lambda *entry: noted.append(entry)))
    request: Any = SimpleNamespace(
        scope={},
        client=SimpleNamespace(host="10.0.0.1"),
        url=SimpleNamespace(path="/api/v1/x"),
        app=SimpleNamespace(state=SimpleNamespace(context=context)),
    )
    assert api._shows_personal(request, False) is False
    assert noted == []
    assert api._shows_personal(request, True) is True
    assert noted == [("api@10.0.0.1", "personal_data", "/api/v1/x", "shown")]
