"""The state of each Cassandra node and of one table, from virtual tables; and the table's files on disk.

https://cassandra.apache.org/doc/5.0/cassandra/managing/operating/virtualtables.html
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.pool import Host

from penstock.config import Settings
from penstock.sink import cassandra

_COMPACTION = "CompactionExecutor"


@dataclass(frozen=True)
class Task:
    """A compaction or another SSTable operation in progress."""

    kind: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class Node:
    """A Cassandra node. What it does not report is null, and `error` says why.

    `writes` and `reads` count the operations on the table that this node performed as a replica since it was started.
    """

    address: str
    datacenter: str
    rack: str
    version: str
    error: str = ""
    writes: int | None = None
    reads: int | None = None
    table_mib: int | None = None
    """Size of the table's files, rounded; 0 if less than half a MiB."""
    node_bytes: float | None = None
    """Size of the files of all tables, as last gossiped by the node."""
    compactions_pending: int | None = None
    compactions_active: int | None = None
    compactions_done: int | None = None
    tasks: list[Task] = field(default_factory=list)


@dataclass(frozen=True)
class TableFiles:
    """Number of the table's SSTables on this machine, and the total size of their files."""

    sstables: int
    bytes: int


def read_nodes(settings: Settings, session: Session, keyspace: str, table: str) -> list[Node]:
    """Return each node that the cluster knows; an unavailable node has an `error`.

    Raises `CassandraUnreachable` if no node is available.
    """
    with cassandra.translate_errors(settings):
        session.execute("SELECT key FROM system.local")
    hosts = sorted(session.cluster.metadata.all_hosts(), key=lambda host: str(host.address))
    return [_read_node(session, host, keyspace, table) for host in hosts]


def _read_node(session: Session, host: Host, keyspace: str, table: str) -> Node:
    name: dict[str, Any] = {
        "address": str(host.endpoint),
        "datacenter": str(host.datacenter or ""),
        "rack": str(host.rack or ""),
        "version": str(host.release_version or ""),
    }
    try:
        return Node(**name, **_read_facts(_Asked(session, host), keyspace, table))
    except (DriverException, NoHostAvailable) as error:
        return Node(**name, error=f"{type(error).__name__}: {error}")


class _Asked:
    """A node that is queried directly."""

    def __init__(self, session: Session, host: Host) -> None:
        self._session, self._host = session, host

    def rows(self, query: str, *values: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        return list(self._session.execute(query, values or None, host=self._host))

    def read_column(self, column: str, query: str, *values: str) -> Any:
        """Return a column of the first row, or None if there is no row."""
        return next((row[column] for row in self.rows(query, *values)), None)


def _read_facts(node: _Asked, keyspace: str, table: str) -> dict[str, Any]:
    of_table = "WHERE keyspace_name = %s AND table_name = %s"
    names = keyspace, table
    pools = node.rows("SELECT * FROM system_views.thread_pools WHERE name = %s", _COMPACTION)
    pool = pools[0] if pools else {}
    tasks = node.rows("SELECT * FROM system_views.sstable_tasks")
    return {
        "writes": node.read_column("count", f"SELECT count FROM system_views.local_write_latency {of_table}", *names),
        "reads": node.read_column("count", f"SELECT count FROM system_views.local_read_latency {of_table}", *names),
        "table_mib": node.read_column("mebibytes", f"SELECT mebibytes FROM system_views.disk_usage {of_table}", *names),
        "node_bytes": _read_load(node),
        "compactions_pending": pool.get("pending_tasks"),
        "compactions_active": pool.get("active_tasks"),
        "compactions_done": pool.get("completed_tasks"),
        "tasks": [_parse_task(row) for row in tasks if (row["keyspace_name"], row["table_name"]) == names],
    }


def _read_load(node: _Asked) -> float | None:
    """Return the node's own load, from gossip."""
    own = node.rows("SELECT broadcast_address FROM system.local")
    rows = node.rows("SELECT address, load FROM system_views.gossip_info")
    addresses = {str(row["broadcast_address"]) for row in own}
    return next((float(row["load"]) for row in rows if str(row["address"]) in addresses and row["load"]), None)


def _parse_task(row: dict[str, Any]) -> Task:
    return Task(str(row["kind"]), int(row["progress"]), int(row["total"]), str(row["unit"]))


def measure_table_files(
    settings: Settings, session: Session, data: Path, keyspace: str, table: str
) -> TableFiles | None:
    """Return the table's files within `data`, the node's data directory, or None if they are not there.

    Raises `CassandraUnreachable`.
    """
    query = "SELECT id FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"
    with cassandra.translate_errors(settings):
        row = session.execute(query, (keyspace, table)).one()
    folder = data / keyspace / f"{table}-{row['id'].hex}" if row else data
    return _measure_files(folder.iterdir()) if row and folder.is_dir() else None


def _measure_files(paths: Iterable[Path]) -> TableFiles:
    """Count SSTables and bytes of the files in one folder. A compaction may delete a file at any time."""
    sstables, total_bytes = 0, 0
    for path in paths:
        try:
            total_bytes += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
        sstables += path.name.endswith("-Data.db")
    return TableFiles(sstables, total_bytes)
