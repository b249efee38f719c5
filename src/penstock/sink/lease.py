"""One job per checkpoint: a lease in Cassandra that expires unless its owner renews it.

The lease keeps two live jobs apart. Correctness of rows does not depend on it but on their write timestamps, and
Spark's own check of its offset log is the last line of defence.
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

from penstock import remedies
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
    """A process. `started` tells it from a later one with the same pid; pids are comparable within a `space`."""

    host: str
    pid: int
    started: str
    space: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Owner:
    """Return the owner that represents this process."""
    return Owner(socket.gethostname(), os.getpid(), _read_start_time(os.getpid()), _read_boot_id())


def _read_start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot, or '' if it is dead or the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _read_boot_id() -> str:
    """Return an identifier of this boot of the machine and this container, or '' if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _is_dead(owner: Owner, me: Owner) -> bool:
    """Return whether the owner is known to be dead. Nothing is known about processes of other machines."""
    near = bool(me.space) and (owner.host, owner.space) == (me.host, me.space)
    return near and _read_start_time(owner.pid) != owner.started


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by table name."""
    return {"leases": _TABLE.format(keyspace=cql.name(keyspace))}


def create_table(session: Session, keyspace: str) -> None:
    """Create the table if it does not exist."""
    create_missing(session, keyspace, statements(keyspace))


@dataclass(frozen=True)
class Holder:
    """The owner of a lease, and since when. `is_dead` if its process is known to have ended."""

    owner: Owner
    since: datetime
    is_dead: bool


def holder(session: Session, keyspace: str, name: str) -> Holder | None:
    """Return the holder of the lease of `name`, or None if it is free. Changes nothing."""
    if not has_table(session, keyspace, "leases"):
        return None
    row = session.execute(f"SELECT owner, since FROM {cql.name(keyspace)}.leases WHERE name = %s", (name,)).one()
    if row is None or row["owner"] is None:
        return None
    owner = _decode_owner(row)
    return Holder(owner, row["since"].replace(tzinfo=UTC), _is_dead(owner, this_process()))


def names(session: Session, keyspace: str) -> list[str]:
    """Return the names whose lease is held."""
    if not has_table(session, keyspace, "leases"):
        return []
    rows = session.execute(f"SELECT name, owner FROM {cql.name(keyspace)}.leases")
    return sorted(row["name"] for row in rows if row["owner"] is not None)


class Lease:
    """The lease of one name. `on_lost` is called once, from another thread, when another process has taken it."""

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
        """Acquire the lease: at once from a dead process of this machine, otherwise when it has expired.

        Raises `JobRunning` if another process still holds it after `wait_s`.
        """
        deadline_s = time.monotonic() + wait_s
        self._since = datetime.now(UTC)
        waits_for = ""
        while holder := self._surely_claim():
            if time.monotonic() >= deadline_s:
                raise self._build_running_error(holder)
            if waits_for != holder["owner"]:
                log.info("waiting_for_lease", name=self.name, owner=str(_decode_owner(holder)), at_most_s=wait_s)
                waits_for = holder["owner"]
            time.sleep(_POLL_S)
        log.info("lease_taken", name=self.name)

    def _surely_claim(self) -> dict[str, Any]:
        """Call `_claim_row`, with retries if there is no response: Cassandra is slow to respond just after a start."""
        for attempt in bounded(_NO_ANSWER, attempts=4, timeout_s=60):
            with attempt:
                holder = self._claim_row()
        return holder

    def _claim_row(self) -> dict[str, Any]:
        """Claim the lease if it is free or its owner is dead. Returns {} if it is ours, otherwise the holder's row."""
        holder = self._request_lease(self._insert, (self.name, _encode_owner(self.me), self._since))
        if not (holder and _is_dead(_decode_owner(holder), self.me)):
            return holder
        log.warning("lease_of_a_dead_process", name=self.name, owner=str(_decode_owner(holder)))
        changed = self._request_lease(self._update, (_encode_owner(self.me), self._since, self.name, holder["owner"]))
        return self._claim_row() if changed else {}

    def _request_lease(self, query: str, values: tuple[Any, ...]) -> dict[str, Any]:
        """Request the lease. Returns {} if it is ours now, otherwise Cassandra's response.

        The write may have applied even if the response was lost.
        """
        asked_s = time.monotonic()
        answer: dict[str, Any] = self._session.execute(query, values).one()
        if answer["[applied]"] or answer.get("owner") == _encode_owner(self.me):
            self._renewed_s = asked_s
            return {}
        return answer

    def renew(self) -> None:
        """Extend the lease, or take it again if it expired and is free. Raises the driver's errors."""
        with self._lock:
            if self._lost_to:
                return
            changed = self._request_lease(
                self._update, (_encode_owner(self.me), self._since, self.name, _encode_owner(self.me))
            )
            holder = self._claim_row() if changed else {}
            if holder:
                self._lost_to = holder
                log.error("lease_lost", name=self.name, owner=str(_decode_owner(holder)))
                self._on_lost()

    def confirm(self) -> None:
        """Check that the lease is ours. Raises `JobRunning` if it is not, the driver's errors if that is unknown."""
        if time.monotonic() - self._renewed_s > TTL_S:
            self.renew()
        self.check_kept()

    def check_kept(self) -> None:
        """Raise `JobRunning` if the lease was lost. Sends no query."""
        if self._lost_to:
            raise self._build_running_error(self._lost_to)

    def release(self) -> None:
        """Release the lease. If Cassandra is unavailable, it expires by itself."""
        try:
            self._session.execute(self._delete, (self.name, _encode_owner(self.me)))
        except (NoHostAvailable, DriverException) as error:
            log.warning("lease_not_released", name=self.name, error=str(error))

    def _build_running_error(self, holder: dict[str, Any]) -> JobRunning:
        since = f"{holder['since']:%Y-%m-%d %H:%M:%S} UTC"
        owner = _decode_owner(holder)
        return JobRunning(
            f"another job owns the checkpoint {self.name}: {owner}, since {since}",
            hint=remedies.show_status("spark-job"),
            owner=str(owner),
        )


@contextmanager
def held(lease: Lease, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lease for a `with` block: a thread renews it, and leaving the block releases it. Raises `JobRunning`."""
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


def _encode_owner(owner: Owner) -> str:
    return msgspec.json.encode(owner).decode()


def _decode_owner(holder: dict[str, Any]) -> Owner:
    return msgspec.json.decode(holder["owner"], type=Owner)
