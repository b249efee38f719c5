"""Is a service ready? Each probe returns when it is and raises a kind of `Unreachable` when it is not.

A probe asks for what the service is there for, with short timeouts: Kafka for metadata, Cassandra for a row. It is
told when the service's process started, so that the answer of an earlier process does not count.
"""

import contextlib
import logging
import socket
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

import httpx2

from penstock.config import LOOPBACK, Settings
from penstock.errors import (
    AirflowUnreachable,
    CassandraUnreachable,
    KafkaUnreachable,
    RegistryUnreachable,
    SourceUnreachable,
    Unreachable,
)

TIMEOUT_S = 3.0
HEARTBEAT_SLACK_S = 1.0


def kafka(settings: Settings, _started_s: float) -> None:
    """Kafka answers a question about its brokers."""
    _accepts(settings.kafka_port, KafkaUnreachable)
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    address = f"{LOOPBACK}:{settings.kafka_port}"
    client = AdminClient({"bootstrap.servers": address, "log_level": 0, "error_cb": lambda _: None})
    try:
        brokers = client.list_topics(timeout=TIMEOUT_S).brokers
    except KafkaException as error:
        raise KafkaUnreachable(f"{address}: {error.args[0].str()}") from None
    if not brokers:
        raise KafkaUnreachable(f"{address}: no broker is registered yet")


def zookeeper(settings: Settings, _started_s: float) -> None:
    """ZooKeeper says that it serves."""
    try:
        with socket.create_connection((LOOPBACK, settings.zookeeper_port), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(b"srvr")
            answer = connection.recv(4096).decode(errors="replace")
    except OSError as error:
        raise Unreachable(f"{LOOPBACK}:{settings.zookeeper_port}: {error}") from None
    if "Mode: standalone" not in answer:
        raise Unreachable(f"ZooKeeper answers {answer.strip()[:80]!r}")


def registry(settings: Settings, _started_s: float) -> None:
    """The registry is healthy and lists its subjects."""
    health = f"http://{LOOPBACK}:{settings.registry_management_port}/health/ready"
    if _json(health, RegistryUnreachable).get("status") != "UP":
        raise RegistryUnreachable(f"{health}: not UP")
    _get(f"{_ccompat(settings)}/subjects", RegistryUnreachable)


def set_backward_compatibility(settings: Settings) -> None:
    """As `refuse_what_breaks`, in the registry of the local stack."""
    refuse_what_breaks(_ccompat(settings), settings.registry_timeout_s)


def refuse_what_breaks(registry: str, timeout_s: float) -> None:
    """Make the registry refuse a schema that cannot read what the one before it wrote; its own default is NONE."""
    address = f"{registry}/config"
    if _json(address, RegistryUnreachable).get("compatibilityLevel") == "BACKWARD":
        return
    try:
        response = httpx2.put(address, json={"compatibility": "BACKWARD"}, timeout=timeout_s)
        response.raise_for_status()
    except httpx2.HTTPError as error:
        raise RegistryUnreachable(f"{address}: {error}") from None


def _ccompat(settings: Settings) -> str:
    return f"http://{LOOPBACK}:{settings.registry_port}/apis/ccompat/v7"


def cassandra(settings: Settings, _started_s: float) -> None:
    """Cassandra answers a query."""
    _accepts(settings.cassandra_port, CassandraUnreachable)
    from cassandra import DriverException, OperationTimedOut, RequestExecutionException
    from cassandra.cluster import Cluster, NoHostAvailable

    cluster = Cluster(
        [LOOPBACK],
        port=settings.cassandra_port,
        connect_timeout=TIMEOUT_S,
        control_connection_timeout=TIMEOUT_S,
        schema_metadata_enabled=False,
        token_metadata_enabled=False,
        executor_threads=1,
    )
    with _quiet("cassandra"), contextlib.closing(_Shutdown(cluster)):
        try:
            cluster.connect().execute("SELECT release_version FROM system.local", timeout=TIMEOUT_S)
        except (DriverException, NoHostAvailable, OperationTimedOut, RequestExecutionException, OSError) as error:
            raise CassandraUnreachable(f"{LOOPBACK}:{settings.cassandra_port}: {error}") from None


class _Shutdown:
    """Gives a Cassandra cluster the `close` that `contextlib.closing` wants."""

    def __init__(self, cluster: Any) -> None:
        self.close = cluster.shutdown


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A driver's logger kept from repeating what the probe says anyway."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def spark_master(settings: Settings, _started_s: float) -> None:
    """The master is alive."""
    status = _json(_master(settings), Unreachable).get("status")
    if status != "ALIVE":
        raise Unreachable(f"Spark's master is {status}")


def spark_worker(settings: Settings, _started_s: float) -> None:
    """The master counts a worker that is alive, and the worker's page answers."""
    workers = _json(_master(settings), Unreachable).get("workers", [])
    if not any(worker.get("state") == "ALIVE" for worker in workers):
        raise Unreachable("Spark's master has no worker that is alive")
    _get(f"http://{LOOPBACK}:{settings.spark_worker_ui_port}/json/", Unreachable)


def spark_job(settings: Settings, _started_s: float) -> None:
    """The job's own page lists a query that streams, and an executor that works for it."""
    page = f"http://{LOOPBACK}:{settings.spark_job_ui_port}"
    if "Active Streaming Queries" not in _get(f"{page}/StreamingQuery/", Unreachable).text:
        raise Unreachable("the Spark job does not stream yet")
    address = f"{page}/api/v1/applications"
    for application in _json(address, Unreachable):
        executors = _json(f"{address}/{application['id']}/executors", Unreachable)
        local = settings.spark_master.startswith("local")
        if any(each["isActive"] for each in executors if local or each["id"] != "driver"):
            return
    raise Unreachable("the Spark job has no executor yet")


def _master(settings: Settings) -> str:
    return f"http://{LOOPBACK}:{settings.spark_ui_port}/json/"


def airflow_api(settings: Settings, _started_s: float) -> None:
    """The API server answers and reaches its database."""
    _healthy(settings, "metadatabase")


def airflow_scheduler(settings: Settings, started_s: float) -> None:
    """The scheduler's heart has beaten since it was started."""
    _healthy(settings, "scheduler", started_s)


def airflow_dags(settings: Settings, started_s: float) -> None:
    """The DAG processor's heart has beaten since it was started."""
    _healthy(settings, "dag_processor", started_s)


def airflow_triggerer(settings: Settings, started_s: float) -> None:
    """The triggerer's heart has beaten since it was started."""
    _healthy(settings, "triggerer", started_s)


def _healthy(settings: Settings, part: str, started_s: float | None = None) -> None:
    address = f"http://{LOOPBACK}:{settings.airflow_port}/api/v2/monitor/health"
    health = _json(address, AirflowUnreachable).get(part) or {}
    if health.get("status") != "healthy":
        raise AirflowUnreachable(f"Airflow's {part} is {health.get('status')}")
    if started_s is None:
        return
    beat = health.get(f"latest_{part}_heartbeat")
    if not beat or datetime.fromisoformat(beat).timestamp() < started_s - HEARTBEAT_SLACK_S:
        raise AirflowUnreachable(f"Airflow's {part} has not beaten since it was started")


def source(settings: Settings, _started_s: float) -> None:
    """The stand-in API answers with a record."""
    _get(f"http://{LOOPBACK}:{settings.source_port}/api/?results=1", SourceUnreachable)


def control(settings: Settings, _started_s: float) -> None:
    """The control center answers, and has looked at the pipeline."""
    _get(f"http://{LOOPBACK}:{settings.control_port}/health/ready", Unreachable)


def answers(address: str) -> None:
    """Something answers at an address, whatever it says."""
    try:
        httpx2.get(address, timeout=TIMEOUT_S)
    except httpx2.HTTPError as error:
        raise SourceUnreachable(f"{address}: {error}") from None


def _accepts(port: int, kind: type[Unreachable]) -> None:
    """A cheap look before a driver is loaded."""
    try:
        socket.create_connection((LOOPBACK, port), TIMEOUT_S).close()
    except OSError as error:
        raise kind(f"{LOOPBACK}:{port}: {error.strerror or error}") from None


@cache
def _client() -> httpx2.Client:
    """One client for every probe: each new one would read all certificates again."""
    return httpx2.Client(timeout=TIMEOUT_S, trust_env=False)


def _get(address: str, kind: type[Unreachable]) -> httpx2.Response:
    try:
        response = _client().get(address)
    except httpx2.HTTPError as error:
        raise kind(f"{address}: {error}") from None
    if response.status_code != httpx2.codes.OK:
        raise kind(f"{address}: {response.status_code}")
    return response


def _json(address: str, kind: type[Unreachable]) -> Any:
    try:
        return _get(address, kind).json()
    except ValueError:
        raise kind(f"{address}: the answer is not JSON") from None
