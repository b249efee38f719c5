"""Airflow's REST API v2: trigger a run, follow it, read its task's result and log.

https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import quote

import httpx2

from penstock import pipelines, remedies
from penstock.config import Settings
from penstock.errors import AirflowUnreachable, PenstockError, RunFailed
from penstock.pipelines.identity import identify
from penstock.retry import bounded

DAG_ID = "user_automation"
TASK_ID = "stream_data"
PIPELINE = "pipeline"
"""The run parameter that holds the identity of the pipeline that the run was triggered for."""
_ENDED = {"success", "failed"}
_DAG = f"/api/v2/dags/{DAG_ID}"
_SIGN_IN = "/auth/token"


class Airflow:
    """A signed-in client of the Airflow in `settings`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx2.Client(base_url=settings.airflow_url, timeout=settings.airflow_timeout_s)

    def __enter__(self) -> Self:
        self._sign_in()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _sign_in(self) -> None:
        login = {
            "username": self._settings.airflow_username,
            "password": self._settings.airflow_password.get_secret_value(),
        }
        token = self._send_request("POST", _SIGN_IN, json=login)["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def unpause_dag(self) -> None:
        """Unpause the DAG once Airflow has parsed its file.

        The first time, this also starts the day's scheduled run.
        """
        for attempt in bounded(RunFailed, attempts=20, timeout_s=self._settings.airflow_timeout_s):
            with attempt:
                self.set_paused(False)

    def set_paused(self, paused: bool) -> None:
        """Pause the DAG, so that no run starts and existing runs stay queued; or unpause it."""
        self._send_request("PATCH", _DAG, json={"is_paused": paused})

    def describe_dag(self) -> dict[str, Any]:
        """Return the DAG as Airflow describes it: is_paused, timetable_description, next_dagrun_run_after, ..."""
        return self._send_request("GET", _DAG)

    def trigger_run(self, parameters: dict[str, Any]) -> str:
        """Trigger a run and return its id. Its task fails at once if Airflow has another pipeline than this process."""
        expected = identify(self._settings, pipelines.of(self._settings)).as_dict()
        body = {"logical_date": None, "conf": {**parameters, PIPELINE: expected}}
        return str(self._send_request("POST", f"{_DAG}/dagRuns", json=body)["dag_run_id"])

    def describe_run(self, run_id: str) -> dict[str, Any]:
        """Return a run as Airflow describes it: state, queued_at, start_date, end_date, ..."""
        return self._send_request("GET", _run_path(run_id))

    def has_ended(self, run: dict[str, Any]) -> bool:
        """Return whether the run has reached a final state."""
        return run["state"] in _ENDED

    def fetch_summary(self, run_id: str) -> dict[str, Any]:
        """Return the result of the run's task, or {} if it has not returned one."""
        path = f"{_task_path(run_id)}/xcomEntries/return_value"
        try:
            return dict(self._send_request("GET", path, params={"deserialize": "true"})["value"])
        except RunFailed:
            return {}

    def list_runs(self, newest: int, **which: str) -> list[dict[str, Any]]:
        """Return the `newest` runs as Airflow describes them, newest first. `which` are filters of its API."""
        query = {"limit": str(newest), "order_by": "-run_after", **which}
        return list(self._send_request("GET", f"{_DAG}/dagRuns", params=query)["dag_runs"])

    def iter_summaries(self, newest: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield id and summary of each of the `newest` successful runs that has a summary."""
        for run in self.list_runs(newest, state="success"):
            if summary := self.fetch_summary(run["dag_run_id"]):
                yield str(run["dag_run_id"]), summary

    def fetch_task_state(self, run_id: str) -> tuple[str, int]:
        """Return state and number of the latest attempt of the run's task."""
        instance = self._send_request("GET", _task_path(run_id))
        return str(instance["state"] or "pending"), int(instance["try_number"])

    def list_attempts(self, run_id: str) -> list[dict[str, Any]]:
        """Return the task's attempts as Airflow describes them: try_number, state, start_date, end_date, ..."""
        return list(self._send_request("GET", f"{_task_path(run_id)}/tries")["task_instances"])

    def fetch_log(self, run_id: str, attempt: int) -> list[dict[str, Any]]:
        """Return the log entries of an attempt, oldest first: timestamp, level, event, and other fields."""
        content = self._send_request("GET", f"{_task_path(run_id)}/logs/{attempt}")["content"]
        return [entry if isinstance(entry, dict) else {"event": str(entry)} for entry in content]

    def find_error(self, run_id: str, attempt: int) -> str:
        """Return the error that ended an attempt of the run's task, from its log; empty if there was none."""
        errors = [entry["error_detail"][0] for entry in self.fetch_log(run_id, attempt) if entry.get("error_detail")]
        return f"{errors[-1]['exc_type']}: {errors[-1]['exc_value']}" if errors else ""

    def _send_request(self, method: str, path: str, *, again: bool = False, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **arguments)
        except httpx2.TransportError as error:
            raise AirflowUnreachable(
                f"no response from Airflow at {self._settings.airflow_url}: {error}", hint=remedies.show_status()
            ) from error
        if answer.status_code == httpx2.codes.UNAUTHORIZED and path != _SIGN_IN and not again:
            self._sign_in()  # a token lasts for a day
            return self._send_request(method, path, again=True, **arguments)
        if answer.status_code == httpx2.codes.NOT_FOUND:
            raise RunFailed(f"not found in Airflow: {path}", hint=remedies.show_logs("airflow-dags"))
        if answer.is_error:
            raise PenstockError(
                f"Airflow responded with HTTP {answer.status_code} to {method} {path}: {answer.text[:300]}"
            )
        return dict(answer.json())


def _run_path(run_id: str) -> str:
    """Return the API path of a run. The id may come from a link; it is quoted, so it cannot address anything else."""
    if not run_id.strip("."):
        raise RunFailed(f"invalid run id {run_id!r}")
    return f"{_DAG}/dagRuns/{quote(run_id, safe='')}"


def _task_path(run_id: str) -> str:
    return f"{_run_path(run_id)}/taskInstances/{TASK_ID}"
