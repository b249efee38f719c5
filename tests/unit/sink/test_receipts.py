from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from penstock.sink import receipts
from tests.unit.fakes import FakeSession, created

AT = datetime(2026, 1, 1, tzinfo=UTC)


class FakeTable:
    """The table `receipts`; the responses of a `FakeSession`."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, datetime], str] = {}

    def __call__(self, query, values):
        if query.startswith("INSERT"):
            self.rows[values[:2]] = values[2]
        if not query.startswith("SELECT"):
            return []
        newest = sorted((name for name in self.rows if name[0] == values[0]), reverse=True)
        return [{"receipt": self.rows[name]} for name in newest][:1]


def session_of(*tables: str) -> FakeSession:
    session = FakeSession(FakeTable())
    session.cluster.metadata.keyspaces = {"lab": SimpleNamespace(tables=set(tables))}
    return session


def test_the_newest_receipt_of_the_topic_is_found():
    """Each topic has its own, unchanged."""
    session = session_of("receipts")
    for hours, topic in ((0, "t"), (2, "t"), (1, "t"), (5, "other")):
        receipts.write_receipt(session, "lab", topic, AT + timedelta(hours=hours), {"produced": hours})
    assert receipts.read_latest_receipt(session, "lab", "t")["produced"] == 2
    assert receipts.read_latest_receipt(session, "lab", "none") is None
    assert "lab.receipts" in session.executed[0][0]


def test_without_the_table_there_is_no_receipt():
    """A missing table or keyspace is not queried."""
    for session, keyspace in ((session_of("ledger"), "lab"), (session_of("receipts"), "other")):
        assert receipts.read_latest_receipt(session, keyspace, "t") is None
        assert not any(f"{keyspace}.receipts" in query for query, _ in session.executed)


def test_receipts_are_kept_newest_first_for_90_days():
    """The server expires older ones by itself; creating the table again changes nothing."""
    session = session_of()
    receipts.create_table(session, "lab")
    (query,) = created(session)
    assert "CREATE TABLE IF NOT EXISTS lab.receipts" in query
    assert "CLUSTERING ORDER BY (at DESC)" in query
    assert f"default_time_to_live = {90 * 24 * 3600}" in query
