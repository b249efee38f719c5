"""The desk: what every page and every answer of the API is made from."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from cassandra.cluster import Session as Cassandra

from penstock import pipelines
from penstock.broker.registry import Registry
from penstock.config import Settings
from penstock.control.host import Host, host_of
from penstock.control.sessions import Sessions
from penstock.control.trail import Trail
from penstock.log import get_logger
from penstock.observe.dag import Dag
from penstock.observe.flow import Flow, View
from penstock.observe.inventory import Inventory
from penstock.observe.services import Connections
from penstock.sink import cassandra

log = get_logger(__name__)

T = TypeVar("T")
LOOK_EVERY_S = 2.0
ACTING_THREADS, ASKING_THREADS = 8, 64
"""Most of those that ask wait for a service. Without a number of ours there are as few as the machine has cores."""


class Desk:
    """Settings, clients that are kept, the flow, and who did what. Its methods may be called from any thread.

    `acting` has the threads of deeds, which may take minutes: nobody who only looks waits for one of them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pipeline = pipelines.of(settings)
        self.keyspace = cassandra.keyspace_of(settings, self.pipeline)
        self.sessions = Sessions()
        self.trail = Trail(settings)
        self.host: Host = host_of(settings)
        self._connections = Connections(settings)
        self.registry = Registry(self._connections.settings)
        self.acting = ThreadPoolExecutor(ACTING_THREADS, thread_name_prefix="act")
        self._lock = threading.Lock()
        self._ones: dict[Any, Any] = {}
        self._flow = Flow(settings)
        self._stop = threading.Event()
        self._looking = threading.Thread(target=self._look, name="flow", daemon=True)

    def one(self, make: Callable[["Desk"], T]) -> T:
        """What `make` makes of this desk: once, for all pages and the API."""
        if make not in self._ones:
            self._ones[make] = make(self)
        return cast(T, self._ones[make])

    @property
    def view(self) -> View:
        """What the last look at the pipeline found."""
        return self._flow.view

    @property
    def kafka(self) -> Any:
        """The admin client of Kafka."""
        return self._connections.kafka

    @property
    def http(self) -> Any:
        """An HTTP client with short timeouts, which asks loopback without a proxy."""
        return self._connections.http

    def cassandra(self) -> Cassandra:
        """The session with Cassandra, made again after it went away. Raises `CassandraUnreachable`."""
        with self._lock:
            now = self.view.now
            if now is not None and now.services.get("cassandra"):
                self._connections.drop_session()
            return self._connections.session()

    def start(self) -> None:
        """Look at the pipeline from now on."""
        self._looking.start()

    def _look(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._flow.look()
            except Exception:
                log.exception("look_failed")  # the thread's edge: the next look may fare better
            self._stop.wait(max(0.2, began_s + LOOK_EVERY_S - time.monotonic()))

    def close(self) -> None:
        """Look no more, and end every connection."""
        self._stop.set()
        if self._looking.is_alive():
            self._looking.join(10)
        self.acting.shutdown(wait=False)
        self._flow.close()
        self._connections.close()


def inventory_of(desk: Desk) -> Inventory:
    """The desk's list of topics."""
    return Inventory(desk.kafka, desk.settings)


def dag_of(desk: Desk) -> Dag:
    """The desk's client of the DAG."""
    return Dag(desk.settings)
