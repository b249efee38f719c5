"""The table of failing batches: what is written is read, and deleted only by its checkpoint."""

from datetime import UTC, datetime

from penstock.contract.failing import FailingBatch
from penstock.sink.failing_batches import FailingBatches, statements
from tests.unit.fakes import FakeSession

AT = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = FailingBatch("/c", 7, {0: 17}, {0: 20}, 2, AT, AT, "retrying", "StoreFailed", "StoreFailed: no")


def row(query: str, values: tuple[object, ...]) -> list[dict[str, object]]:
    """A row as Cassandra returns it: times without a zone, and null for an empty map."""
    if "failing_batches" not in query or "system_schema" in query:
        return [{"table_name": "failing_batches"}]
    at = AT.replace(tzinfo=None)
    return [
        {"topic": "t", "checkpoint": "/c", "batch_id": 7, "first_offsets": {0: 17}, "end_offsets": {0: 20}}
        | {"failures": 2, "first_at": at, "last_at": at, "state": "retrying"}
        | {"cause": "StoreFailed", "message": "StoreFailed: no"},
        {"topic": "t", "checkpoint": "/d", "batch_id": 7, "first_offsets": None, "end_offsets": None}
        | {"failures": 2, "first_at": at, "last_at": at, "state": "retrying"}
        | {"cause": "StoreFailed", "message": "StoreFailed: no"},
    ]


def test_a_written_row_is_read_back() -> None:
    """Every field, in the order of the columns."""
    session = FakeSession(row)
    table = FailingBatches(session, "ks", "t")  # type: ignore[arg-type]
    table.write(BATCH)
    query, values = session.executed[-1]
    columns = [name.strip() for name in query.partition("(")[2].partition(")")[0].split(",")]
    written = dict(zip(columns, values, strict=True))
    result, without = table.read()
    assert result == BATCH
    assert (without.first, without.end) == ({}, {})
    assert written["first_offsets"] == {0: 17}
    assert (written["topic"], written["checkpoint"], written["state"]) == ("t", "/c", "retrying")
    assert all(name in statements("ks")["failing_batches"] for name in columns)


def test_a_missing_table_is_no_error() -> None:
    """A keyspace of an older penstock has none until its job starts."""
    session = FakeSession()
    assert FailingBatches(session, "ks", "t").read() == []  # type: ignore[arg-type]
    assert len(session.executed) == 1


def test_a_batch_is_resolved_by_its_checkpoint() -> None:
    """Those of other jobs on the topic stay."""
    session = FakeSession()
    FailingBatches(session, "ks", "t").resolve("/c")  # type: ignore[arg-type]
    ((query, values),) = session.executed
    assert query == "DELETE FROM ks.failing_batches WHERE topic = %s AND checkpoint = %s"
    assert values == ("t", "/c")
