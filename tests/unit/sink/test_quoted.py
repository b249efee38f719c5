"""Every statement of the sink quotes a keyspace that needs it."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from penstock.config import read
from penstock.contract.names import OWN_TABLES
from penstock.dead_letters import resolutions
from penstock.pipelines.users import PIPELINE
from penstock.sink import accepted, cassandra, lease, ledger, progress, receipts
from tests.unit.fakes import FakeSession

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEYSPACE = "Lab"


class Statements(FakeSession):
    """A session that records each statement, including prepared ones, and has every table."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster.metadata.keyspaces = {KEYSPACE: SimpleNamespace(tables=OWN_TABLES)}
        self.prepared: list[str] = []

    def prepare(self, query):
        self.prepared.append(query)
        return super().prepare(query)

    def of_tables(self) -> list[str]:
        """The statements on tables of the keyspace."""
        asked = self.prepared + [query for query, _ in self.executed]
        return [query for query in asked if "system_schema" not in query]


def use_ledger(session):
    ledger.create_tables(session, KEYSPACE)
    ledger.begin_generation(session, KEYSPACE, "t", "id")
    ledger.Ledger(session, KEYSPACE, "t", 1)


def use_receipts(session):
    receipts.create_table(session, KEYSPACE)
    receipts.write_receipt(session, KEYSPACE, "t", AT, {})
    receipts.read_latest_receipt(session, KEYSPACE, "t")


def use_accepted(session):
    accepted.create_table(session, KEYSPACE)
    accepted.write_accepted(session, KEYSPACE, "t", 1, [])
    accepted.read_accepted(session, KEYSPACE, "t", 1)


def use_progress(session):
    progress.create_tables(session, KEYSPACE)
    kept = progress.Progress(session, KEYSPACE, "t")
    kept.keep([progress.Batch(1, AT, 2, 3.0, 4.0, {}, {})])
    kept.failed("no", "trace")
    kept.failures()
    kept.batches(1)


def use_settled(session):
    resolutions.create_table(session, KEYSPACE)
    resolutions.read_resolutions(session, KEYSPACE, "t")
    resolutions.read_resolutions_of(session, KEYSPACE, "t", ["t:0:0"])
    resolutions.ResolutionStore(session, KEYSPACE, "t")


def use_leases(session):
    lease.create_table(session, KEYSPACE)
    lease.read_holder(session, KEYSPACE, "/c")
    lease.list_held_names(session, KEYSPACE)


def use_table(session):
    settings = read(cassandra_keyspace=KEYSPACE)
    cassandra.create_keyspace(session, settings, PIPELINE)
    cassandra.create_table(session, settings, PIPELINE)


@pytest.mark.parametrize(
    "use", [use_ledger, use_receipts, use_accepted, use_progress, use_settled, use_leases, use_table]
)
def test_every_statement_has_its_keyspace_quoted(use):
    """Otherwise Cassandra would use another keyspace for a name with capitals."""
    session = Statements()
    use(session)
    assert session.of_tables()
    assert all(f'"{KEYSPACE}"' in query for query in session.of_tables()), session.of_tables()


def test_a_lease_is_acquired_in_its_keyspace():
    """The conditional statements are quoted too."""
    ours = lease.Lease(Statements(), KEYSPACE, "/c")
    assert all(f'"{KEYSPACE}".leases' in query for query in (ours._insert, ours._update, ours._delete))


def test_a_table_is_truncated_by_its_quoted_name(monkeypatch):
    """Keyspace and table are both quoted."""
    asked: list[str] = []
    session = SimpleNamespace(execute=lambda query, timeout: asked.append(query))
    settings = read(cassandra_keyspace="order")
    cassandra.truncate_table(session, settings, PIPELINE)
    assert asked == ['TRUNCATE "order".created_users']
