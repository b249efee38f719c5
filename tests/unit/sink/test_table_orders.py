"""What a table is ordered by: fixed when it is first written, and an error if a pipeline declares something else."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from penstock.errors import PenstockError
from penstock.sink.table_orders import fix_order
from tests.unit.fakes import FakeSession
from tests.unit.records import READINGS, Versioned

VERSIONS = replace(READINGS, table="versions", record=Versioned)


class Keyspace:
    """The tables of a keyspace, and the order entries, in memory."""

    def __init__(self, *tables: str, rows: int = 0, **entries: str) -> None:
        self.tables = set(tables) | ({"table_orders"} if entries else set())
        self.rows, self.entries = rows, entries
        self.asked = 0

    def _answer(self, query, values):
        if query.lstrip().startswith("CREATE"):
            self.tables.add("table_orders")
            return []
        if query.startswith("INSERT"):
            assert query.endswith("IF NOT EXISTS")
            self.entries.setdefault(*values)
            return []
        if "table_orders" in query:
            return [{"order_by": self.entries[values[0]]}] if values[0] in self.entries else []
        return [{"id": number} for number in range(self.rows)]

    def fix(self, order_by: str) -> None:
        session = FakeSession(self._answer)
        session.cluster.metadata.keyspaces = {"lab": SimpleNamespace(tables=self.tables)}
        fix_order(session, "lab", replace(VERSIONS, order_by=order_by))
        self.asked = len(session.executed)


def test_the_default_sends_one_query_and_writes_nothing():
    """Whether the table of entries exists; if it does, which entry the table has."""
    plain = Keyspace("versions", rows=3)
    plain.fix("offset")
    assert (plain.asked, plain.tables, plain.entries) == (1, {"versions"}, {})
    shared = Keyspace("versions", rows=3, others="timestamp")
    shared.fix("offset")
    assert (shared.asked, shared.entries) == (2, {"others": "timestamp"})


@pytest.mark.parametrize("order_by", ["timestamp", "number"])
@pytest.mark.parametrize("tables", [(), ("versions",), ("versions", "table_orders")])
def test_a_table_without_rows_gets_the_declared_order(order_by, tables):
    """The entry is written once; another start finds it, with rows or without."""
    keyspace = Keyspace(*tables)
    keyspace.fix(order_by)
    assert keyspace.entries == {"versions": order_by}
    keyspace.rows = 5
    keyspace.fix(order_by)
    assert keyspace.entries == {"versions": order_by}


@pytest.mark.parametrize(
    ("keyspace", "declared", "known"),
    [
        (Keyspace("versions", rows=1), "timestamp", "offset"),
        (Keyspace("versions", rows=1), "number", "offset"),
        (Keyspace("versions", rows=1, versions="timestamp"), "number", "timestamp"),
        (Keyspace("versions", rows=0, versions="number"), "timestamp", "number"),
        (Keyspace("versions", rows=0, versions="number"), "offset", "number"),
        (Keyspace("versions", rows=9, versions="timestamp"), "offset", "timestamp"),
    ],
)
def test_another_order_is_rejected_with_a_way_out(keyspace, declared, known):
    """Rows without an entry were ordered by offset; an entry applies to an empty table too."""
    before = dict(keyspace.entries)
    with pytest.raises(PenstockError) as refused:
        keyspace.fix(declared)
    assert f"lab.versions is ordered by '{known}', but the pipeline declares order_by='{declared}'" in str(
        refused.value
    )
    assert "another table" in refused.value.hint
    assert "./penstock replay" in refused.value.hint
    assert keyspace.entries == before


def test_one_of_two_concurrent_processes_fixes_the_order():
    """The other is rejected if it declares something else."""
    keyspace = Keyspace("versions")
    slow = Keyspace("versions")
    slow.entries = keyspace.entries
    answer, slow_first = slow._answer, []

    def _late(query, values):
        if query.startswith("INSERT") and not slow_first:
            slow_first.append(keyspace.fix("timestamp"))
        return answer(query, values)

    slow._answer = _late
    with pytest.raises(PenstockError, match="is ordered by 'timestamp'"):
        slow.fix("number")
