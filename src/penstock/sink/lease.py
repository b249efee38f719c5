"""One job per checkpoint: a lease in Cassandra, which ends by itself when its owner no longer renews it.

The lease keeps two live jobs apart. It is not what makes rows right: their write timestamps are, and Spark's own check
of its offset log is the last line.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cassandra import DriverException, OperationTimedOut, Timeout, Unavailable
from cassandra.cluster import NoHostAvailable, Session

from penstock.contract import cql
from penstock.errors import JobRunning
from penstock.log import get_logger
from penstock.retry import bounded
from penstock.sink.cassandra import create_missing, has_table

log = get_logger(__name__)

TTL_S = 15
RENEW_S = 5.0
WAIT_S = TTL_S + 5.0
_POLL_S = 1.0
_NO_ANSWER = (NoHostAvailable, OperationTimedOut, Timeout, Unavailable)

_TABLE = """
CREATE TABLE IF NOT EXISTS {keyspace}.leases (
  name text PRIMARY KEY,
  owner text,
  since timestamp
)
"""


class Owner(msgspec.Struct, frozen=True):
    """A process: `started` tells it from a later one of the same id, `space` says where such ids mean the same."""

    host: str
    pid: int
    started: str
    space: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Owner:
    """The owner that this process is."""
    return Owner(socket.gethostname(), os.getpid(), _started(os.getpid()), _space())


def _started(pid: int) -> str:
    """When a process started, in ticks of this kernel; empty when it is dead, or the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _space() -> str:
    """This boot of the machine and this container; empty when the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _is_dead(owner: Owner, me: Owner) -> bool:
    """Whether the owner is known to be dead; of another machine's nothing is known."""
    near = bool(me.space) and (owner.host, owner.space) == (me.host, me.space)
    return near and _started(owner.pid) != owner.started


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by its name."""
    return {"leases": _TABLE.format(keyspace=cql.name(keyspace))}


def create_table(session: Session, keyspace: str) -> None:
    """Create the table when it is not there."""
    create_missing(session, keyspace, statements(keyspace))


@dataclass(frozen=True)
class Holder:
    """Who has a lease, and since when; `is_dead` when it is known to run no more."""

    owner: Owner
    since: datetime
    is_dead: bool


def holder(session: Session, keyspace: str, name: str) -> Holder | None:
    """Who has the lease of `name`; None when nobody has it. Changes nothing."""
    if not has_table(session, keyspace, "leases"):
        return None
    row = session.execute(f"SELECT owner, since FROM {cql.name(keyspace)}.leases WHERE name = %s", (name,)).one()
    if row is None or row["owner"] is None:
        return None
    owner = _owner(row)
    return Holder(owner, row["since"].replace(tzinfo=UTC), _is_dead(owner, this_process()))


def names(session: Session, keyspace: str) -> list[str]:
    """The names that somebody has the lease of."""
    if not has_table(session, keyspace, "leases"):
        return []
    rows = session.execute(f"SELECT name, owner FROM {cql.name(keyspace)}.leases")
    return sorted(row["name"] for row in rows if row["owner"] is not None)


class Lease:
    """The lease of one name. `on_lost` is called once, from another thread, when somebody else has taken it."""

    def __init__(
        self, session: Session, keyspace: str, name: str, *, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.me = this_process()
        self._session = session
        self._on_lost = on_lost
        self._lost_to: dict[str, Any] = {}
        self._renewed_s = 0.0
        self._since = datetime.now(UTC)
        self._lock = threading.Lock()
        table = cql.table_name(keyspace, "leases")
        self._insert = f"INSERT INTO {table} (name, owner, since) VALUES (%s, %s, %s) IF NOT EXISTS USING TTL {TTL_S}"
        self._update = f"UPDATE {table} USING TTL {TTL_S} SET owner = %s, since = %s WHERE name = %s IF owner = %s"
        self._delete = f"DELETE FROM {table} WHERE name = %s IF owner = %s"

    def take(self, wait_s: float = WAIT_S) -> None:
        """Return once the lease is ours: at once from a dead process of this machine, else when it has ended.

        Raises `JobRunning` when somebody still has it after `wait_s`.
        """
        deadline_s = time.monotonic() + wait_s
        self._since = datetime.now(UTC)
        waits_for = ""
        while holder := self._surely_claim():
            if time.monotonic() >= deadline_s:
                raise self._running(holder)
            if waits_for != holder["owner"]:
                log.info("waiting_for_lease", name=self.name, owner=str(_owner(holder)), at_most_s=wait_s)
                waits_for = holder["owner"]
            time.sleep(_POLL_S)
        log.info("lease_taken", name=self.name)

    def _surely_claim(self) -> dict[str, Any]:
        """As `_claim`, asked again when no answer came: a Cassandra that has just started is slow to give one."""
        for attempt in bounded(_NO_ANSWER, attempts=4, timeout_s=60):
            with attempt:
                holder = self._claim()
        return holder

    def _claim(self) -> dict[str, Any]:
        """Take the lease when nobody has it, or a process that is dead; empty when it is ours, else who has it."""
        holder = self._put(self._insert, (self.name, _text(self.me), self._since))
        if not (holder and _is_dead(_owner(holder), self.me)):
            return holder
        log.warning("lease_of_a_dead_process", name=self.name, owner=str(_owner(holder)))
        changed = self._put(self._update, (_text(self.me), self._since, self.name, holder["owner"]))
        return self._claim() if changed else {}

    def _put(self, query: str, values: tuple[Any, ...]) -> dict[str, Any]:
        """Ask for the lease; empty when it is ours now, else Cassandra's answer.

        An answer that got lost may have been a yes: then the row is ours.
        """
        asked_s = time.monotonic()
        answer: dict[str, Any] = self._session.execute(query, values).one()
        if answer["[applied]"] or answer.get("owner") == _text(self.me):
            self._renewed_s = asked_s
            return {}
        return answer

    def renew(self) -> None:
        """Keep the lease, or take it again when it ended and nobody has it. Raises the driver's errors."""
        with self._lock:
            if self._lost_to:
                return
            changed = self._put(self._update, (_text(self.me), self._since, self.name, _text(self.me)))
            holder = self._claim() if changed else {}
            if holder:
                self._lost_to = holder
                log.error("lease_lost", name=self.name, owner=str(_owner(holder)))
                self._on_lost()

    def confirm(self) -> None:
        """Return when the lease is ours. Raises `JobRunning` when it is not, the driver's errors when nobody knows."""
        if time.monotonic() - self._renewed_s > TTL_S:
            self.renew()
        self.check_kept()

    def check_kept(self) -> None:
        """Return unless the lease was lost. Raises `JobRunning`; asks nobody."""
        if self._lost_to:
            raise self._running(self._lost_to)

    def release(self) -> None:
        """Give the lease back. Cassandra may be away: then it ends by itself."""
        try:
            self._session.execute(self._delete, (self.name, _text(self.me)))
        except (NoHostAvailable, DriverException) as error:
            log.warning("lease_not_released", name=self.name, error=str(error))

    def _running(self, holder: dict[str, Any]) -> JobRunning:
        since = f"{holder['since']:%Y-%m-%d %H:%M:%S} UTC"
        owner = _owner(holder)
        return JobRunning(
            f"another job owns the checkpoint {self.name}: {owner}, since {since}",
            hint="./penstock status spark-job",
            owner=str(owner),
        )


@contextmanager
def held(lease: Lease, wait_s: float = WAIT_S) -> Iterator[None]:
    """The lease for the length of a `with` block, renewed by a thread, given back at the end. Raises `JobRunning`."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(RENEW_S):
            try:
                lease.renew()
            except (NoHostAvailable, DriverException) as error:
                log.warning("lease_not_renewed", name=lease.name, error=str(error))

    lease.take(wait_s)
    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(TTL_S + RENEW_S)
        lease.release()


def _text(owner: Owner) -> str:
    return msgspec.json.encode(owner).decode()


def _owner(holder: dict[str, Any]) -> Owner:
    return msgspec.json.decode(holder["owner"], type=Owner)
