"""Readiness probes: return if the service is ready, else raise a subclass of `Unreachable`.

A probe exercises the service's purpose with short timeouts: it requests metadata from Kafka, a row from Cassandra. It
receives the start time of the service's process, so that a response of an earlier process does not count.
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
    PenstockError,
    RegistryUnreachable,
    SourceUnreachable,
    Unreachable,
)
from penstock.stack import stuck

TIMEOUT_S = 3.0
HEARTBEAT_SLACK_S = 1.0


def probe_kafka(settings: Settings, _started_s: float) -> None:
    """Check that Kafka answers a metadata request."""
    _check_accepts(settings.kafka_port, KafkaUnreachable)
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    address = f"{LOOPBACK}:{settings.kafka_port}"
    client = AdminClient({"bootstrap.servers": address, "log_level": 0, "error_cb": lambda _: None})
    try:
        brokers = client.list_topics(timeout=TIMEOUT_S).brokers
    except KafkaException as error:
        raise KafkaUnreachable(f"{address}: {error.args[0].str()}") from None
    if not brokers:
        raise KafkaUnreachable(f"{address}: no broker registered yet")


def probe_zookeeper(settings: Settings, _started_s: float) -> None:
    """Check that ZooKeeper serves requests."""
    try:
        with socket.create_connection((LOOPBACK, settings.zookeeper_port), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(b"srvr")
            response = connection.recv(4096).decode(errors="replace")
    except OSError as error:
        raise Unreachable(f"{LOOPBACK}:{settings.zookeeper_port}: {error}") from None
    if "Mode: standalone" not in response:
        raise Unreachable(f"unexpected response from ZooKeeper: {response.strip()[:80]!r}")


def probe_registry(settings: Settings, _started_s: float) -> None:
    """Check that the registry is healthy and lists its subjects."""
    health = f"http://{LOOPBACK}:{settings.registry_management_port}/health/ready"
    if _get_json(health, RegistryUnreachable).get("status") != "UP":
        raise RegistryUnreachable(f"{health}: the status is not UP")
    _fetch_url(f"{_registry_url(settings)}/subjects", RegistryUnreachable)


def set_backward_compatibility(settings: Settings) -> None:
    """Call `refuse_what_breaks` for the registry of the local stack."""
    ensure_backward_compatibility(_registry_url(settings), settings.registry_timeout_s)


def ensure_backward_compatibility(registry: str, timeout_s: float) -> None:
    """Set the registry's compatibility level to BACKWARD, so that it rejects breaking schemas. Its default is NONE."""
    address = f"{registry}/config"
    if _get_json(address, RegistryUnreachable).get("compatibilityLevel") == "BACKWARD":
        return
    try:
        response = httpx2.put(address, json={"compatibility": "BACKWARD"}, timeout=timeout_s)
        response.raise_for_status()
    except httpx2.HTTPError as error:
        raise RegistryUnreachable(f"{address}: {error}") from None


def _registry_url(settings: Settings) -> str:
    return f"http://{LOOPBACK}:{settings.registry_port}/apis/ccompat/v7"


def probe_cassandra(settings: Settings, _started_s: float) -> None:
    """Check that Cassandra answers a query."""
    _check_accepts(settings.cassandra_port, CassandraUnreachable)
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
    with _silence_logger("cassandra"), contextlib.closing(_Shutdown(cluster)):
        try:
            cluster.connect().execute("SELECT release_version FROM system.local", timeout=TIMEOUT_S)
        except (DriverException, NoHostAvailable, OperationTimedOut, RequestExecutionException, OSError) as error:
            raise CassandraUnreachable(f"{LOOPBACK}:{settings.cassandra_port}: {error}") from None


class _Shutdown:
    """Adapt a Cassandra cluster to `contextlib.closing`, which requires `close`."""

    def __init__(self, cluster: Any) -> None:
        self.close = cluster.shutdown


@contextlib.contextmanager
def _silence_logger(name: str) -> Iterator[None]:
    """Silence a driver's logger, whose messages the probe's error repeats."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def probe_spark_master(settings: Settings, _started_s: float) -> None:
    """Check that Spark's master is alive."""
    status = _get_json(_master_url(settings), Unreachable).get("status")
    if status != "ALIVE":
        raise Unreachable(f"Spark's master is {status}")


def probe_spark_worker(settings: Settings, _started_s: float) -> None:
    """Check that the master has a live worker and that the worker's page answers."""
    workers = _get_json(_master_url(settings), Unreachable).get("workers", [])
    if not any(worker.get("state") == "ALIVE" for worker in workers):
        raise Unreachable("Spark's master has no live worker")
    _fetch_url(f"http://{LOOPBACK}:{settings.spark_worker_ui_port}/json/", Unreachable)


def probe_spark_job(settings: Settings, started_s: float) -> None:
    """Check that the job's page lists an active streaming query and an executor.

    A job that stands by, since its transform failed after the start, counts as up: `status` reports it as stuck.
    """
    page = f"http://{LOOPBACK}:{settings.spark_job_ui_port}"
    if "Active Streaming Queries" not in _fetch_url(f"{page}/StreamingQuery/", Unreachable).text:
        if _is_standing_by(settings, started_s):
            return
        raise Unreachable("the Spark job has no active streaming query yet")
    address = f"{page}/api/v1/applications"
    for application in _get_json(address, Unreachable):
        executors = _get_json(f"{address}/{application['id']}/executors", Unreachable)
        local = settings.spark_master.startswith("local")
        if any(executor["isActive"] for executor in executors if local or executor["id"] != "driver"):
            return
    raise Unreachable("the Spark job has no executor yet")


def _is_standing_by(settings: Settings, started_s: float) -> bool:
    try:
        batches = stuck.find_stuck_batches(settings)
    except PenstockError:
        return False
    return any(batch.state == "transform_failed" and batch.last_at.timestamp() >= started_s for batch in batches)


def _master_url(settings: Settings) -> str:
    return f"http://{LOOPBACK}:{settings.spark_ui_port}/json/"


def probe_airflow_api(settings: Settings, _started_s: float) -> None:
    """Check that Airflow's API server answers and reaches its database."""
    _check_healthy(settings, "metadatabase")


def probe_airflow_scheduler(settings: Settings, started_s: float) -> None:
    """Check for a heartbeat of the scheduler since its start."""
    _check_healthy(settings, "scheduler", started_s)


def probe_airflow_dags(settings: Settings, started_s: float) -> None:
    """Check for a heartbeat of the DAG processor since its start."""
    _check_healthy(settings, "dag_processor", started_s)


def probe_airflow_triggerer(settings: Settings, started_s: float) -> None:
    """Check for a heartbeat of the triggerer since its start."""
    _check_healthy(settings, "triggerer", started_s)


def _check_healthy(settings: Settings, component: str, started_s: float | None = None) -> None:
    address = f"http://{LOOPBACK}:{settings.airflow_port}/api/v2/monitor/health"
    health = _get_json(address, AirflowUnreachable).get(component) or {}
    if health.get("status") != "healthy":
        raise AirflowUnreachable(f"Airflow's {component} is {health.get('status')}")
    if started_s is None:
        return
    heartbeat = health.get(f"latest_{component}_heartbeat")
    if not heartbeat or datetime.fromisoformat(heartbeat).timestamp() < started_s - HEARTBEAT_SLACK_S:
        raise AirflowUnreachable(f"Airflow's {component} has sent no heartbeat since its start")


def probe_source(settings: Settings, _started_s: float) -> None:
    """Check that the stand-in API answers with a record."""
    _fetch_url(f"http://{LOOPBACK}:{settings.source_port}/api/?results=1", SourceUnreachable)


def probe_control(settings: Settings, _started_s: float) -> None:
    """Check that the control center answers and has polled the pipeline."""
    _fetch_url(f"http://{LOOPBACK}:{settings.control_port}/health/ready", Unreachable)


def probe_url(address: str) -> None:
    """Check that a server answers at an address, with any response."""
    try:
        httpx2.get(address, timeout=TIMEOUT_S)
    except httpx2.HTTPError as error:
        raise SourceUnreachable(f"{address}: {error}") from None


def _check_accepts(port: int, kind: type[Unreachable]) -> None:
    """Check that a port accepts connections, before loading a driver."""
    try:
        socket.create_connection((LOOPBACK, port), TIMEOUT_S).close()
    except OSError as error:
        raise kind(f"{LOOPBACK}:{port}: {error.strerror or error}") from None


@cache
def _get_client() -> httpx2.Client:
    """Return the HTTP client shared by all probes. Each new client would load all certificates again."""
    return httpx2.Client(timeout=TIMEOUT_S, trust_env=False)


def _fetch_url(address: str, kind: type[Unreachable]) -> httpx2.Response:
    try:
        response = _get_client().get(address)
    except httpx2.HTTPError as error:
        raise kind(f"{address}: {error}") from None
    if response.status_code != httpx2.codes.OK:
        raise kind(f"{address}: {response.status_code}")
    return response


def _get_json(address: str, kind: type[Unreachable]) -> Any:
    try:
        return _fetch_url(address, kind).json()
    except ValueError:
        raise kind(f"{address}: the response is not JSON") from None
