"""Health of the services in the settings: checked concurrently, with short timeouts, over persistent connections."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import httpx2
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable, Session
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from penstock.broker import kafka
from penstock.config import LOOPBACK, Settings
from penstock.errors import (
    AirflowUnreachable,
    KafkaUnreachable,
    RegistryUnreachable,
    Unreachable,
)
from penstock.sink import cassandra

TIMEOUT_S = 3.0
LONGEST_S = 5.0
"""Maximum time for all checks together."""


def with_short_timeouts(settings: Settings) -> Settings:
    """Return settings for interactive use, with which unavailable services fail fast."""
    return settings.model_copy(
        update={"kafka_timeout_s": TIMEOUT_S, "cassandra_timeout_s": TIMEOUT_S, "registry_timeout_s": TIMEOUT_S}
    )


class Connections:
    """Persistent clients. The Cassandra session is created on first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = with_short_timeouts(settings)
        self.kafka = AdminClient(kafka.build_config(self.settings) | {"log_level": 0})
        # a proxy is only for the webhook and for remote services
        self.http = httpx2.Client(timeout=TIMEOUT_S, mounts={f"all://{LOOPBACK}": None, "all://localhost": None})
        self._session: Session | None = None

    def session(self) -> Session:
        """Return the Cassandra session. Raises `CassandraUnreachable`."""
        if self._session is None:
            self._session = cassandra.connect(self.settings)
        return self._session

    def drop_session(self) -> None:
        """Close the session, so that a new one is created on next use.

        The old session would wait longer and longer between attempts to reconnect.
        """
        session, self._session = self._session, None
        if session is not None:
            cassandra.close(session)

    def close(self) -> None:
        """Close all connections."""
        self.drop_session()
        self.http.close()


Check = Callable[[Connections], None]
"""Returns if the service is available, else raises a kind of `Unreachable`."""


def _check_kafka(connections: Connections) -> None:
    """Check that Kafka has brokers."""
    connections.kafka.poll(0)  # otherwise its events pile up
    try:
        brokers = connections.kafka.list_topics(timeout=TIMEOUT_S).brokers
    except KafkaException as error:
        address = connections.settings.kafka_bootstrap
        raise KafkaUnreachable(f"no response from {address}: {error.args[0].str()}") from None
    if not brokers:
        raise KafkaUnreachable("no brokers registered")


def _check_registry(connections: Connections) -> None:
    """Check that the registry returns its configuration."""
    settings, auth = connections.settings, None
    if settings.registry_username:
        auth = (settings.registry_username, settings.registry_password.get_secret_value())
    _fetch_url(connections, f"{settings.registry_url}/config", RegistryUnreachable, auth=auth)


def _check_cassandra(connections: Connections) -> None:
    """Check that Cassandra answers a query."""
    try:
        connections.session().execute("SELECT release_version FROM system.local")
    except (DriverException, NoHostAvailable, OSError) as error:
        connections.drop_session()
        raise cassandra.build_unreachable_error(connections.settings, error) from None


def _check_airflow(connections: Connections) -> None:
    """Check that no part of Airflow reports itself unhealthy."""
    address = f"{connections.settings.airflow_url}/api/v2/monitor/health"
    try:
        parts = _fetch_url(connections, address, AirflowUnreachable).json()
    except ValueError:
        raise AirflowUnreachable(f"{address}: the response is not JSON") from None
    ill = [name for name, part in parts.items() if part and part.get("status") == "unhealthy"]
    if ill:
        raise AirflowUnreachable(f"unhealthy: {', '.join(ill)}")


def _spark_job(connections: Connections) -> None:
    """Check that the job's UI responds."""
    _fetch_url(connections, f"http://{LOOPBACK}:{connections.settings.spark_job_ui_port}/api/v1/version", Unreachable)


def _fetch_url(connections: Connections, address: str, kind: type[Unreachable], **more: Any) -> httpx2.Response:
    shown = httpx2.URL(address).copy_with(userinfo=b"")
    try:
        answer = connections.http.get(address, **more)
    except httpx2.HTTPError as error:
        raise kind(f"no response from {shown}: {str(error) or type(error).__name__}") from None
    if not answer.is_success:
        raise kind(f"{shown} responded with HTTP {answer.status_code}")
    return answer


def build_checks(settings: Settings) -> dict[str, Check]:
    """Return a check for each service; for the job's UI only with the local stack, elsewhere its address is unknown."""
    checks_by_name: dict[str, Check] = {
        "kafka": _check_kafka,
        "registry": _check_registry,
        "cassandra": _check_cassandra,
        "airflow": _check_airflow,
    }
    if settings.spark_master == f"spark://{LOOPBACK}:{settings.spark_port}":
        checks_by_name["spark-job"] = _spark_job
    return checks_by_name


class Services:
    """Checks all services concurrently. A slow check does not delay the others, and is not started twice."""

    def __init__(self, connections: Connections, asked: Mapping[str, Check]) -> None:
        self._connections = connections
        self._checks = asked
        self._pool = ThreadPoolExecutor(len(asked), thread_name_prefix="check")
        self._pending: dict[str, Future[str]] = {}
        self._began_s: dict[str, float] = {}

    def read(self, longest_s: float = LONGEST_S) -> dict[str, str]:
        """Return the error of each service, or an empty string, after at most `longest_s`."""
        for name in self._checks.keys() - self._pending.keys():
            self._pending[name] = self._pool.submit(self._run_check, name)
            self._began_s[name] = time.monotonic()
        wait(self._pending.values(), timeout=longest_s)
        return {name: self._get_result(name) for name in self._checks}

    def _run_check(self, name: str) -> str:
        try:
            self._checks[name](self._connections)
        except Unreachable as error:
            return error.message
        return ""

    def _get_result(self, name: str) -> str:
        if not self._pending[name].done():
            return f"no response for {time.monotonic() - self._began_s[name]:.0f} s"
        answer = self._pending.pop(name)
        error = answer.exception()
        return f"{type(error).__name__}: {error}" if error else answer.result()

    def close(self) -> None:
        """Stop checking."""
        self._pool.shutdown(wait=False, cancel_futures=True)
