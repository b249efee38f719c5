"""A full disk, as a process sees it: no file may grow any more.

The limit is RLIMIT_FSIZE of the running processes, which needs no privileges: a write beyond it fails with "File too
large", as one on a full quota fails with "No space left".
"""

import resource
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from penstock.drill.ground import Ground
from penstock.drill.plan import Drill, Evidence, Fault
from penstock.errors import PenstockError
from penstock.sink import cassandra

FULL_S = 20.0
_EVERY_S = 0.05

Spur = Callable[[Ground], None]
"""Makes the service write, now."""


def full(service: str, spur: Spur) -> Fault:
    """The fault of a service whose files may not grow, nor those of the process that takes its place."""

    @contextmanager
    def fault(ground: Ground) -> Iterator[None]:
        over = threading.Event()
        keeper = threading.Thread(target=_keep, args=(ground, service, over), daemon=True)
        keeper.start()
        try:
            spur(ground)
            yield
        finally:
            over.set()
            keeper.join()
            _limit(ground.tree(service), resource.RLIM_INFINITY)

    return fault


def _keep(ground: Ground, service: str, over: threading.Event) -> None:
    """Limit whatever process there is, until it is over."""
    while not over.wait(_EVERY_S):
        _limit(ground.tree(service), 0)


def _limit(processes: list[psutil.Process], limit_bytes: int) -> None:
    """Set the soft limit of each process to so many bytes, or to its hard limit when that is less."""
    for process in processes:
        try:
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            soft = hard if limit_bytes == resource.RLIM_INFINITY else limit_bytes
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        except ProcessLookupError:
            continue


def _nothing(_ground: Ground) -> None:
    """The load makes it write."""


def _new_table(ground: Ground) -> None:
    """A change of the schema, which Cassandra writes to a file at once. It may fail: that is the fault."""
    name, replication = f"drill_{uuid.uuid4().hex[:12]}", "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    try:
        with cassandra.connected(ground.settings) as session:
            session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
            session.execute(f"DROP KEYSPACE {name}")
    except PenstockError as error:
        ground.say(f"Cassandra could not write: {error.message}")


DRILLS = (
    Drill(
        "disk-full-cassandra",
        "for 20 s Cassandra's files cannot grow, nor those of the process that takes its place",
        full("cassandra", _new_table),
        hold_s=FULL_S,
        evidence=(Evidence("cassandra.log", r"File too large|No space left|FSWriteError"),),
    ),
    Drill(
        "disk-full-checkpoint",
        "for 20 s the files of the Spark job's driver cannot grow, its checkpoint among them",
        full("spark-job", _nothing),
        hold_s=FULL_S,
        evidence=(Evidence("spark-job.log", r"File too large|No space left"),),
    ),
)
