"""Facts of nodes and files."""

from types import SimpleNamespace
from uuid import UUID

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import NoHostAvailable

from penstock.errors import CassandraUnreachable
from penstock.web.table import nodes
from penstock.web.table.nodes import TableFiles, Task

TABLE_ID = UUID(int=7)
FACTS = {
    "local_write_latency": [{"count": 800}],
    "local_read_latency": [{"count": 30}],
    "disk_usage": [{"mebibytes": 4}],
    "thread_pools": [{"pending_tasks": 2, "active_tasks": 1, "completed_tasks": 9}],
    "sstable_tasks": [
        {"keyspace_name": "k", "table_name": "t", "kind": "compaction", "progress": 1, "total": 4, "unit": "bytes"},
        {"keyspace_name": "k", "table_name": "u", "kind": "compaction", "progress": 1, "total": 4, "unit": "bytes"},
    ],
    "gossip_info": [{"address": "10.0.0.2", "load": "5"}, {"address": "10.0.0.1", "load": "1234.0"}],
    "tables": [{"id": TABLE_ID}],
}


class FakeNodes:
    """A cluster with two nodes: those in `away` do not respond."""

    def __init__(self, away: frozenset[str] = frozenset(), facts=FACTS) -> None:
        self._away, self._facts = away, facts
        hosts = [
            SimpleNamespace(address=item, endpoint=f"{item}:9042", datacenter="dc1", rack="r1", release_version="5.0.9")
            for item in ("10.0.0.2", "10.0.0.1")
        ]
        self.cluster = SimpleNamespace(metadata=SimpleNamespace(all_hosts=lambda: hosts))

    def execute(self, query, values=None, host=None):
        name = query.partition("FROM ")[2].split()[0].rpartition(".")[2]
        if host is not None and host.address in self._away:
            raise NoHostAvailable("away", {})
        rows = [{"broadcast_address": host and host.address}] if name == "local" else self._facts.get(name, [])
        return Rows(rows)


class Rows(list):
    """A result."""

    def one(self):
        return self[0] if self else None


def test_each_node_reports_its_own_facts(settings):
    """They are queried one by one: a virtual table is the node's own."""
    first, second = nodes.read_nodes(settings, FakeNodes(), "k", "t")
    assert (first.address, second.address) == ("10.0.0.1:9042", "10.0.0.2:9042")
    assert (first.writes, first.reads, first.table_mib, first.node_bytes) == (800, 30, 4, 1234.0)
    assert (first.compactions_pending, first.compactions_active, first.compactions_done) == (2, 1, 9)
    assert first.tasks == [Task("compaction", 1, 4, "bytes")]
    assert second.node_bytes == 5.0


def test_an_unavailable_node_does_not_hide_the_others(settings):
    """It has the reason; its counts are unknown."""
    first, second = nodes.read_nodes(settings, FakeNodes(frozenset({"10.0.0.1"})), "k", "t")
    assert "NoHostAvailable" in first.error
    assert first.writes is None
    assert (second.error, second.writes) == ("", 800)


def test_facts_that_a_node_does_not_report_are_unknown(settings):
    """Not zero."""
    first, _ = nodes.read_nodes(settings, FakeNodes(facts={}), "k", "t")
    assert (first.writes, first.table_mib, first.node_bytes, first.compactions_pending) == (None, None, None, None)


def test_without_nodes_cassandra_is_unavailable(settings):
    """Cassandra is unavailable."""
    broken = SimpleNamespace(execute=lambda *_, **__: (_ for _ in ()).throw(OperationTimedOut()))
    with pytest.raises(CassandraUnreachable):
        nodes.read_nodes(settings, broken, "k", "t")


def test_sstables_are_counted_in_the_tables_own_folder(settings, tmp_path):
    """An SSTable is several files; a dropped table of that name left another folder."""
    folder = tmp_path / "k" / f"t-{TABLE_ID.hex}"
    (folder / "backups").mkdir(parents=True)
    for name in ("nb-1-big-Data.db", "nb-1-big-Index.db", "nb-2-big-Data.db"):
        (folder / name).write_bytes(b"12345")
    (tmp_path / "k" / f"t-{UUID(int=8).hex}").mkdir()
    assert nodes.measure_table_files(settings, FakeNodes(), tmp_path, "k", "t") == TableFiles(2, 15)


@pytest.mark.parametrize("facts", [FACTS, {}])
def test_files_on_another_host_are_unknown(settings, tmp_path, facts):
    """No folder, or no table."""
    assert nodes.measure_table_files(settings, FakeNodes(facts=facts), tmp_path, "k", "t") is None
