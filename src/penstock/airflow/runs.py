"""The DAG's runs, with the request and the result of each. Results of finished runs are cached."""

from dataclasses import dataclass
from typing import Any

from penstock.airflow.api_client import PIPELINE, Airflow
from penstock.config import Settings
from penstock.errors import without_userinfo

NEWEST = 100
ASKING_S = 5.0
"""Timeout of one request to Airflow, where a user waits for the answer."""
COUNTS = ("fetched", "produced", "refused", "bytes")
"""The counts in a run's summary; `bytes` are those of the acknowledged values."""


@dataclass(frozen=True)
class DagRun:
    """A run of the DAG. Times are ISO 8601, UTC.

    Counts are null until the run's task has succeeded; `asked` is known earlier if the run's parameters contain it.
    """

    run_id: str
    state: str
    kind: str
    """`manual` or `scheduled`."""
    queued_at: str | None
    started_at: str | None
    ended_at: str | None
    parameters: dict[str, Any]
    asked: int | None = None
    fetched: int | None = None
    produced: int | None = None
    refused: int | None = None

    @property
    def is_active(self) -> bool:
        """Return whether the run has not ended yet."""
        return self.state in {"queued", "running"}


class Runs:
    """Queries Airflow for the newest runs, repeatedly with a single sign-in."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.model_copy(update={"airflow_timeout_s": ASKING_S})
        self._client: Airflow | None = None
        self._summaries: dict[str, dict[str, Any]] = {}
        self._is_known = False

    def totals(self) -> dict[str, int]:
        """Return the totals of all runs seen, by `COUNTS`; they never decrease. Empty before the first answer."""
        summaries = list(self._summaries.values())
        return (
            {count: sum(summary.get(count) or 0 for summary in summaries) for count in COUNTS} if self._is_known else {}
        )

    def read(self, newest: int = NEWEST) -> list[DagRun]:
        """Return the newest runs, newest first.

        Raises `AirflowUnreachable`, or `PenstockError` if Airflow rejects the request.
        """
        try:
            airflow = self._get_client()
            runs = [self._read_run(airflow, description) for description in airflow.list_runs(newest)]
        except Exception:
            self.close()  # also renews an expired token
            raise
        self._is_known = True
        return runs

    def _get_client(self) -> Airflow:
        if self._client is None:
            client = Airflow(self._settings)
            client.__enter__()
            self._client = client
        return self._client

    def _read_run(self, airflow: Airflow, description: dict[str, Any]) -> DagRun:
        run_id = str(description["dag_run_id"])
        if description["state"] == "success" and run_id not in self._summaries:
            self._summaries[run_id] = airflow.fetch_summary(run_id)
        return parse_run(description, self._summaries.get(run_id, {}))

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None


def list_unfinished(settings: Settings) -> list[str]:
    """Return the ids of the newest runs that have not ended, newest first; wait at most twice `ASKING_S`.

    Raises `AirflowUnreachable`, or `PenstockError` if Airflow rejects the request.
    """
    with Airflow(settings.model_copy(update={"airflow_timeout_s": ASKING_S})) as airflow:
        runs = [parse_run(description, {}) for description in airflow.list_runs(NEWEST)]
    return [run.run_id for run in runs if run.is_active]


def _strip_userinfo(value: Any) -> Any:
    return without_userinfo(value) if isinstance(value, str) else value


def parse_run(description: dict[str, Any], summary: dict[str, Any]) -> DagRun:
    """Return a run from Airflow's description and its task's result, which may be empty."""
    conf = dict(description.get("conf") or {})
    parameters = {name: _strip_userinfo(value) for name, value in conf.items() if name != PIPELINE}
    return DagRun(
        run_id=str(description["dag_run_id"]),
        state=str(description["state"]),
        kind=str(description["run_type"]),
        queued_at=description.get("queued_at"),
        started_at=description.get("start_date"),
        ended_at=description.get("end_date"),
        parameters=parameters,
        asked=summary.get("asked") or parameters.get("records"),
        fetched=summary.get("fetched"),
        produced=summary.get("produced"),
        refused=summary.get("refused"),
    )
