import json

import httpx2
import pytest
import stamina

from penstock.airflow import api_client as airflow
from penstock.airflow import runs
from penstock.airflow.api_client import Airflow
from penstock.config import read
from penstock.errors import AirflowUnreachable, PenstockError, RunFailed
from penstock.pipelines.identity import identify_pipeline
from penstock.pipelines.users import PIPELINE

DAG = "/api/v2/dags/user_automation"
TASK = f"{DAG}/dagRuns/r1/taskInstances/stream_data"


class FakeServer:
    """Airflow's API: responses by method and path; of a list one after the other."""

    def __init__(self) -> None:
        self.answers = {("POST", "/auth/token"): {"access_token": "t0ken"}}
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.get((request.method, request.url.path), 404)
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx2.Response(answer, text="what went wrong")
        return httpx2.Response(200, json=answer)


@pytest.fixture
def server(monkeypatch):
    server = FakeServer()
    real = httpx2.Client

    def client(**arguments):
        return real(transport=httpx2.MockTransport(server), **arguments)

    monkeypatch.setattr(airflow.httpx2, "Client", client)
    return server


def test_the_client_signs_in(server):
    """The configured user gets a token, and every request has it."""
    server.answers["GET", f"{DAG}/dagRuns/r1"] = {"state": "running"}
    with Airflow(read(airflow_username="me", airflow_password="secret", airflow_url="http://af:1")) as client:
        client.describe_run("r1")
    sign_in, call = server.requests
    assert json.loads(sign_in.content) == {"username": "me", "password": "secret"}
    assert str(call.url) == f"http://af:1{DAG}/dagRuns/r1"
    assert call.headers["Authorization"] == "Bearer t0ken"


def test_a_run_is_triggered_with_its_parameters(server):
    """Unpause, then a run now, with the parameters as its conf, and the pipeline for which it is triggered."""
    server.answers |= {("PATCH", DAG): {}, ("POST", f"{DAG}/dagRuns"): {"dag_run_id": "manual__1"}}
    with Airflow(read()) as client:
        client.unpause_dag()
        assert client.trigger_run({"records": 5}) == "manual__1"
    _, unpause, trigger = server.requests
    assert json.loads(unpause.content) == {"is_paused": False}
    expected = identify_pipeline(read(), PIPELINE).as_dict()
    assert json.loads(trigger.content) == {"logical_date": None, "conf": {"records": 5, "pipeline": expected}}


def test_unfinished_runs_are_listed(server):
    """The newest first; a client that only mentions them waits a few seconds at most."""
    states = {"r4": "queued", "r3": "success", "r2": "running", "r1": "failed"}
    result = [{"dag_run_id": name, "state": state, "run_type": "manual"} for name, state in states.items()]
    server.answers["GET", f"{DAG}/dagRuns"] = {"dag_runs": result}
    assert runs.list_unfinished(read()) == ["r4", "r2"]
    assert server.requests[-1].extensions["timeout"]["read"] == runs.ASKING_S


def test_a_dag_that_airflow_has_not_parsed_yet_is_awaited(server):
    """Airflow responds some seconds before it has parsed its first DAG file."""
    server.answers["PATCH", DAG] = [404, 404, {}]
    with stamina.set_testing(True, attempts=5, cap=True), Airflow(read()) as client:
        client.unpause_dag()
    assert [request.method for request in server.requests].count("PATCH") == 3


@pytest.mark.parametrize(
    ("state", "ended"), [("queued", False), ("running", False), ("success", True), ("failed", True)]
)
def test_a_run_has_ended_in_a_final_state(server, state, ended):
    """Success and failure are the ends of a run."""
    with Airflow(read()) as client:
        assert client.has_ended({"state": state}) is ended


def test_the_return_value_of_the_task_is_read(server):
    """Unchanged; a task that did not get so far has none."""
    with Airflow(read()) as client:
        assert client.fetch_summary("r1") == {}
        server.answers["GET", f"{TASK}/xcomEntries/return_value"] = {"value": {"asked": 5}}
        assert client.fetch_summary("r1") == {"asked": 5}
    assert server.requests[-1].url.params["deserialize"] == "true"


def test_summaries_of_the_newest_successful_runs_are_listed(server):
    """Each with its id, in Airflow's order; one whose task returned nothing is skipped."""
    given = f"{DAG}/dagRuns/{{}}/taskInstances/stream_data/xcomEntries/return_value"
    server.answers |= {
        ("GET", f"{DAG}/dagRuns"): {"dag_runs": [{"dag_run_id": run} for run in ("r3", "r2", "r1")]},
        ("GET", given.format("r3")): {"value": {"produced": 3}},
        ("GET", given.format("r1")): {"value": {"produced": 1}},
    }
    with Airflow(read()) as client:
        assert list(client.iter_summaries(7)) == [("r3", {"produced": 3}), ("r1", {"produced": 1})]
    asked = next(request for request in server.requests if request.url.path == f"{DAG}/dagRuns")
    assert dict(asked.url.params) == {"limit": "7", "order_by": "-run_after", "state": "success"}


def test_the_state_and_number_of_the_newest_attempt_are_read(server):
    """A task that no worker has taken yet has no state: it is queued."""
    server.answers["GET", TASK] = {"state": "running", "try_number": 2}
    with Airflow(read()) as client:
        assert client.fetch_task_state("r1") == ("running", 2)
        server.answers["GET", TASK] = {"state": None, "try_number": 0}
        assert client.fetch_task_state("r1") == ("pending", 0)


def test_the_error_that_ended_an_attempt_is_read(server):
    """The last error of the attempt's log, its type and its message; None if the log has none."""
    detail = [{"exc_type": "SourceUnreachable", "exc_value": "did not answer"}, {"exc_type": "OSError"}]
    content = ["first", {"event": "x"}, {"event": "failed", "error_detail": detail}, {"event": "::endgroup::"}]
    server.answers |= {("GET", f"{TASK}/logs/2"): {"content": content}, ("GET", f"{TASK}/logs/1"): {"content": []}}
    with Airflow(read()) as client:
        assert client.find_error("r1", 2) == "SourceUnreachable: did not answer"
        assert client.find_error("r1", 1) == ""


def test_the_dag_is_paused_and_unpaused(server):
    """And its state is read."""
    server.answers |= {("PATCH", DAG): {}, ("GET", DAG): {"is_paused": True}}
    with Airflow(read()) as client:
        client.set_paused(True)
        assert client.describe_dag() == {"is_paused": True}
    assert json.loads(server.requests[1].content) == {"is_paused": True}


def test_the_attempts_of_a_run_are_listed(server):
    """As Airflow lists them."""
    server.answers["GET", f"{TASK}/tries"] = {"task_instances": [{"try_number": 1}, {"try_number": 2}]}
    with Airflow(read()) as client:
        assert [attempt["try_number"] for attempt in client.list_attempts("r1")] == [1, 2]


def test_a_log_is_a_list_of_entries(server):
    """A line that is plain text becomes an entry too."""
    server.answers["GET", f"{TASK}/logs/2"] = {"content": ["first", {"event": "x", "level": "info"}]}
    with Airflow(read()) as client:
        assert client.fetch_log("r1", 2) == [{"event": "first"}, {"event": "x", "level": "info"}]


def test_an_expired_token_is_renewed(server):
    """Once: if Airflow rejects the new one too, that is reported as an error."""
    server.answers["GET", f"{DAG}/dagRuns/r1"] = [401, {"state": "running"}, 401, 401]
    with Airflow(read()) as client:
        assert client.describe_run("r1") == {"state": "running"}
        with pytest.raises(PenstockError, match="responded with HTTP 401"):
            client.describe_run("r1")
    assert [request.url.path for request in server.requests].count("/auth/token") == 3


def test_a_run_id_cannot_escape_its_path(server):
    """It may come from a link: its content is quoted, and dots have no effect."""
    with Airflow(read()) as client:
        with pytest.raises(RunFailed):
            client.describe_run("../../pools?x=1")
        assert server.requests[-1].url.raw_path.endswith(b"/dagRuns/..%2F..%2Fpools%3Fx%3D1")
        with pytest.raises(RunFailed, match="invalid run id"):
            client.describe_run("..")


@pytest.mark.parametrize("error", [httpx2.ConnectError("refused"), httpx2.ReadTimeout("late")], ids=repr)
def test_an_unavailable_airflow_is_unreachable(server, error):
    """The error says at which address, and why."""
    server.answers["POST", "/auth/token"] = error
    with pytest.raises(AirflowUnreachable, match=rf"http://127.0.0.1:8080: {error}"), Airflow(read()):
        pass


def test_an_unknown_run_or_dag_is_named(server):
    """The error names a run or DAG that does not exist."""
    with Airflow(read()) as client, pytest.raises(RunFailed, match=r"not found in Airflow: .*/dagRuns/r9"):
        client.describe_run("r9")


@pytest.mark.parametrize("status", [401, 422, 500])
def test_other_responses_of_airflow_are_reported(server, status):
    """With status and text, and never with the password."""
    server.answers["POST", "/auth/token"] = status
    output = f"responded with HTTP {status} to POST /auth/token: what went wrong"
    with pytest.raises(PenstockError, match=output) as failed, Airflow(read(airflow_password="secret")):
        pass
    assert type(failed.value) is PenstockError
    assert "secret" not in str(failed.value)
