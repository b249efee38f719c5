"""What all pages and API routes share: settings, clients and the latest snapshot of the pipeline."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from cassandra.cluster import Session as Cassandra

from penstock import pipelines
from penstock.broker.registry import Registry
from penstock.config import Settings
from penstock.log import get_logger
from penstock.monitoring.monitor import Monitor, PipelineState
from penstock.monitoring.services import Connections
from penstock.sink import cassandra
from penstock.web.audit_log import AuditLog
from penstock.web.host import Host, create_host
from penstock.web.runs.dag import Dag
from penstock.web.sessions import Sessions
from penstock.web.topics.inventory import Inventory

log = get_logger(__name__)

T = TypeVar("T")
POLL_EVERY_S = 2.0
ACTING_THREADS, ASKING_THREADS = 8, 64
"""Asking threads mostly wait for services; asyncio's default pool is sized by the number of cores."""


class AppContext:
    """Settings, long-lived clients, the monitor and the audit log. Thread-safe.

    Actions run in their own pool, `acting`: they may take minutes and must not block readers.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pipeline = pipelines.of(settings)
        self.keyspace = cassandra.keyspace_of(settings, self.pipeline)
        self.sessions = Sessions()
        self.audit_log = AuditLog(settings)
        self.host: Host = create_host(settings)
        self._connections = Connections(settings)
        self.registry = Registry(self._connections.settings)
        self.acting = ThreadPoolExecutor(ACTING_THREADS, thread_name_prefix="act")
        self._lock = threading.Lock()
        self._singletons: dict[Any, Any] = {}
        self._making = threading.RLock()
        """Held while a singleton is created, because it may need another one."""
        self._monitor = Monitor(settings)
        self._stop = threading.Event()
        self._poller = threading.Thread(target=self._run_poller, name="monitor", daemon=True)

    def get_shared(self, make: Callable[["AppContext"], T]) -> T:
        """Return `make(self)`, created on first use and shared by all pages and the API."""
        with self._making:
            if make not in self._singletons:
                self._singletons[make] = make(self)
            return cast(T, self._singletons[make])

    @property
    def state(self) -> PipelineState:
        """Return what the last poll of the pipeline found."""
        return self._monitor.state

    @property
    def kafka(self) -> Any:
        """Return the Kafka admin client."""
        return self._connections.kafka

    @property
    def http(self) -> Any:
        """Return an HTTP client with short timeouts that bypasses proxies for loopback addresses."""
        return self._connections.http

    def cassandra(self) -> Cassandra:
        """Return the Cassandra session, reconnecting if the latest snapshot saw Cassandra unavailable.

        Raises `CassandraUnreachable`.
        """
        with self._lock:
            now = self.state.now
            if now is not None and now.services.get("cassandra"):
                self._connections.drop_session()
            return self._connections.session()

    def start(self) -> None:
        """Start polling the pipeline."""
        self._poller.start()

    def _run_poller(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._monitor.poll()
            except Exception:
                log.exception("poll_failed")  # the thread's edge: the next poll may succeed
            self._stop.wait(max(0.2, began_s + POLL_EVERY_S - time.monotonic()))

    def close(self) -> None:
        """Stop polling and close every connection."""
        self._stop.set()
        if self._poller.is_alive():
            self._poller.join(10)
        self.acting.shutdown(wait=False)
        self._monitor.close()
        self._connections.close()


def create_inventory(context: AppContext) -> Inventory:
    """Return a new `Inventory` of topics; share it with `AppContext.get_shared`."""
    return Inventory(context.kafka, context.settings)


def create_dag(context: AppContext) -> Dag:
    """Return a new client of the DAG; share it with `AppContext.get_shared`."""
    return Dag(context.settings)
