"""A full disk, as a process sees it: its files can no longer grow.

Simulated by lowering RLIMIT_FSIZE of running processes, which needs no privileges: writes beyond it fail with "File too
large", as writes to a full disk fail with "No space left".
"""

import resource
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from penstock.drill.plan import Drill, Fault, LogEvidence
from penstock.drill.target import Target
from penstock.errors import PenstockError
from penstock.sink import cassandra

FULL_S = 20.0
_EVERY_S = 0.05

Trigger = Callable[[Target], None]
"""Makes the service write to disk immediately."""


def fill_disk(service: str, spur: Trigger) -> Fault:
    """Return the fault that keeps a service's files from growing, also those of a process that replaces it."""

    @contextmanager
    def fault(target: Target) -> Iterator[None]:
        over = threading.Event()
        limiter = threading.Thread(target=_keep_limited, args=(target, service, over), daemon=True)
        limiter.start()
        try:
            spur(target)
            yield
        finally:
            over.set()
            limiter.join()
            _limit_file_size(target.tree(service), resource.RLIM_INFINITY)

    return fault


def _keep_limited(target: Target, service: str, over: threading.Event) -> None:
    """Limit all processes of the service repeatedly until `over` is set, since replacements start unlimited."""
    while not over.wait(_EVERY_S):
        _limit_file_size(target.tree(service), 0)


def _limit_file_size(processes: list[psutil.Process], limit_bytes: int) -> None:
    """Set the soft file-size limit of each process, in bytes. `RLIM_INFINITY` raises it to the hard limit."""
    for process in processes:
        try:
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            soft = hard if limit_bytes == resource.RLIM_INFINITY else limit_bytes
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        except ProcessLookupError:
            continue


def _rely_on_load(_target: Target) -> None:
    """Do nothing: the load makes the service write."""


def _change_schema(target: Target) -> None:
    """Change the schema, which Cassandra flushes to disk immediately. That may fail, as the fault intends."""
    name, replication = f"drill_{uuid.uuid4().hex[:12]}", "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    try:
        with cassandra.connected(target.settings) as session:
            session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
            session.execute(f"DROP KEYSPACE {name}")
    except PenstockError as error:
        target.say(f"Cassandra could not write: {error.message}")


DRILLS = (
    Drill(
        "disk-full-cassandra",
        "for 20 s Cassandra's files cannot grow, nor those of a process that replaces it",
        fill_disk("cassandra", _change_schema),
        hold_s=FULL_S,
        evidence=(LogEvidence("cassandra.log", r"File too large|No space left|FSWriteError"),),
    ),
    Drill(
        "disk-full-checkpoint",
        "for 20 s the files of the Spark job's driver cannot grow, including its checkpoint",
        fill_disk("spark-job", _rely_on_load),
        hold_s=FULL_S,
        evidence=(LogEvidence("spark-job.log", r"File too large|No space left"),),
    ),
)
