"""Airflow's REST API v2: trigger a run, follow it, read what its task gave and logged.

https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from collections.abc import Iterator
from typing import Any, Self

import httpx2

from penstock.config import Settings
from penstock.errors import AirflowUnreachable, PenstockError, RunFailed
from penstock.retry import bounded

DAG_ID = "user_automation"
TASK_ID = "stream_data"
_ENDED = {"success", "failed"}


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
        token = self._call("POST", "/auth/token", json=login)["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def unpause(self) -> None:
        """Let the DAG run, once Airflow has read its file. At first it starts the day's scheduled run too."""
        for attempt in bounded(RunFailed, attempts=20, timeout_s=self._settings.airflow_timeout_s):
            with attempt:
                self._call("PATCH", f"/api/v2/dags/{DAG_ID}", json={"is_paused": False})

    def trigger(self, parameters: dict[str, Any]) -> str:
        """The id of a new run with `parameters`."""
        body = {"logical_date": None, "conf": parameters}
        return str(self._call("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", json=body)["dag_run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """The run as Airflow knows it: state, queued_at, start_date, end_date, ..."""
        return self._call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}")

    def has_ended(self, run: dict[str, Any]) -> bool:
        """Whether the run will not change any more."""
        return run["state"] in _ENDED

    def summary(self, run_id: str) -> dict[str, Any]:
        """What the run's task returned; empty when it did not get so far."""
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{TASK_ID}/xcomEntries/return_value"
        try:
            return dict(self._call("GET", path, params={"deserialize": "true"})["value"])
        except RunFailed:
            return {}

    def summaries(self, newest: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and summary of each successful run among the `newest` ones."""
        query = {"limit": str(newest), "order_by": "-run_after", "state": "success"}
        for run in self._call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns", params=query)["dag_runs"]:
            if summary := self.summary(run["dag_run_id"]):
                yield str(run["dag_run_id"]), summary

    def task(self, run_id: str) -> tuple[str, int]:
        """State and number of the newest attempt of the run's task."""
        found = self._call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{TASK_ID}")
        return str(found["state"] or "waiting"), int(found["try_number"])

    def error(self, run_id: str, attempt: int) -> str:
        """The error that ended an attempt of the run's task, as its log tells it; empty when there was none."""
        task = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{TASK_ID}"
        entries = self._call("GET", f"{task}/logs/{attempt}")["content"]
        errors = [
            entry["error_detail"][0] for entry in entries if isinstance(entry, dict) and entry.get("error_detail")
        ]
        return f"{errors[-1]['exc_type']}: {errors[-1]['exc_value']}" if errors else ""

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **arguments)
        except httpx2.TransportError as error:
            raise AirflowUnreachable(
                f"no answer from Airflow at {self._settings.airflow_url}: {error}", hint="./penstock status"
            ) from error
        if answer.status_code == httpx2.codes.NOT_FOUND:
            raise RunFailed(f"Airflow does not know {path}", hint="./penstock logs airflow-dags")
        if answer.is_error:
            raise PenstockError(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:300]}")
        return dict(answer.json())
