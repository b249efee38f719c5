"""The Spark application that runs the stream, as reported by the UIs of the job and of the master.

https://spark.apache.org/docs/latest/monitoring.html#rest-api
"""

from dataclasses import dataclass
from typing import Any

import httpx2

from penstock import remedies
from penstock.config import LOOPBACK, Settings
from penstock.errors import Unreachable


@dataclass(frozen=True)
class Executor:
    """A process of the application; the `driver` plans the work.

    Memory is JVM heap: `peak_heap_bytes` is its peak, `storage_bytes` the limit for Spark's own storage.
    """

    id: str
    address: str
    is_active: bool
    cores: int
    active_tasks: int
    failed_tasks: int
    completed_tasks: int
    peak_heap_bytes: int | None
    storage_bytes: int
    busy_ms: int
    gc_ms: int


@dataclass(frozen=True)
class Application:
    """The running application. `started_at` is ISO 8601, UTC."""

    id: str
    name: str
    spark_version: str
    started_at: str
    executors: list[Executor]


@dataclass(frozen=True)
class Master:
    """The Spark cluster that the application runs on. `waiting` counts the applications without cores yet."""

    url: str
    status: str
    workers: int
    cores: int
    cores_used: int
    memory_mib: int
    memory_used_mib: int
    running: int
    waiting: int


@dataclass(frozen=True)
class Pages:
    """URLs of Spark's own UIs."""

    job: str
    master: str
    worker: str


def ui_urls(settings: Settings) -> Pages | None:
    """Return the URLs of Spark's UIs; None if the master is not the local stack's, because they are unknown then."""
    if settings.spark_master != f"spark://{LOOPBACK}:{settings.spark_port}":
        return None
    return Pages(
        job=f"http://{LOOPBACK}:{settings.spark_job_ui_port}",
        master=f"http://{LOOPBACK}:{settings.spark_ui_port}",
        worker=f"http://{LOOPBACK}:{settings.spark_worker_ui_port}",
    )


def fetch_application(http: httpx2.Client, page: str) -> Application:
    """Return the application whose UI is at `page`. Raises `Unreachable` if it is not running or still starting."""
    api = f"{page}/api/v1/applications"
    applications = _fetch_json(http, api, remedies.show_status("spark-job"))
    if not applications:
        raise Unreachable(f"{api} lists no application", hint=remedies.show_status("spark-job"))
    newest = applications[0]
    executors = _fetch_json(http, f"{api}/{newest['id']}/executors", remedies.show_status("spark-job"))
    began = newest["attempts"][-1]
    return Application(
        id=str(newest["id"]),
        name=str(newest["name"]),
        spark_version=str(began.get("appSparkVersion", "")),
        started_at=str(began["startTime"]).replace("GMT", "+00:00"),
        executors=[_parse_executor(executor) for executor in executors],
    )


def fetch_master(http: httpx2.Client, page: str) -> Master:
    """Return the master whose UI is at `page`. Raises `Unreachable`."""
    state = _fetch_json(http, f"{page}/json/", remedies.show_status("spark-master"))
    active = list(state.get("activeapps") or [])
    return Master(
        url=str(state["url"]),
        status=str(state["status"]).lower(),
        workers=int(state["aliveworkers"]),
        cores=int(state["cores"]),
        cores_used=int(state["coresused"]),
        memory_mib=int(state["memory"]),
        memory_used_mib=int(state["memoryused"]),
        running=sum(1 for application in active if application.get("state") == "RUNNING"),
        waiting=sum(1 for application in active if application.get("state") == "WAITING"),
    )


def _parse_executor(executor: dict[str, Any]) -> Executor:
    return Executor(
        id=str(executor["id"]),
        address=str(executor["hostPort"]),
        is_active=bool(executor["isActive"]),
        cores=int(executor["totalCores"]),
        active_tasks=int(executor["activeTasks"]),
        failed_tasks=int(executor["failedTasks"]),
        completed_tasks=int(executor["completedTasks"]),
        peak_heap_bytes=(executor.get("peakMemoryMetrics") or {}).get("JVMHeapMemory"),
        storage_bytes=int(executor["maxMemory"]),
        busy_ms=int(executor["totalDuration"]),
        gc_ms=int(executor["totalGCTime"]),
    )


def _fetch_json(http: httpx2.Client, address: str, hint: str) -> Any:
    try:
        answer = http.get(address)
    except httpx2.HTTPError as error:
        raise Unreachable(f"no response from {address}: {str(error) or type(error).__name__}", hint=hint) from None
    if not answer.is_success:
        raise Unreachable(f"{address} returned status {answer.status_code}", hint=hint)
    try:
        return answer.json()
    except ValueError:
        raise Unreachable(f"{address}: the response is not JSON", hint=hint) from None
