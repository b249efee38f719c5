"""A keyspace as created and filled by commit 01f13c7, and one of a newer penstock, in the real Cassandra."""

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Session

from penstock import formats
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.order import TopicLayout
from penstock.dead_letters import resolutions
from penstock.errors import FormatTooNew
from penstock.pipeline import job
from penstock.sink import cassandra, lease, ledger, receipts
from penstock.sink.layouts import Layouts
from penstock.sink.progress import Progress
from tests.conftest import Stack

UNVERSIONED = Path(__file__).parents[1] / "data" / "unversioned"
TOPIC, TOPIC_ID, EPOCH_US = "users_created", "Xk3Z9q1wTmS0yB7dVhJ2Lg", 1_780_272_000_000_000


@pytest.fixture
def older(settings: Settings, unique: str) -> Settings:
    """Settings for a keyspace of commit 01f13c7, with a few rows in each table."""
    older = settings.model_copy(update={"cassandra_keyspace": unique})
    with cassandra.open_session(older) as session:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {unique} WITH replication = {replication}")
        for statement in (UNVERSIONED / "tables.cql").read_text().split(";\n"):
            if statement.strip():
                session.execute(statement.replace("unversioned.", f"{unique}."))
        for query, values in json.loads((UNVERSIONED / "rows.json").read_text()):
            statement = query.replace("unversioned.", f"{unique}.").replace("?", "%s")
            session.execute(statement, tuple(map(bound, values)))
    return older


@pytest.fixture
def session(older: Settings) -> Iterator[Session]:
    with cassandra.open_session(older) as session:
        yield session


def bound(value: Any) -> Any:
    """A value as the driver binds it."""
    if isinstance(value, dict):
        (kind, text), *_ = value.items()
        return datetime.fromisoformat(text) if kind == "time" else uuid.UUID(text)
    return dict(value) if isinstance(value, list) else value


def comments(session: Session, keyspace: str) -> dict[str, str]:
    query = "SELECT table_name, comment FROM system_schema.tables WHERE keyspace_name = %s"
    return {row["table_name"]: row["comment"] for row in session.execute(query, (keyspace,))}


def test_data_stored_by_an_older_penstock_is_read(older: Settings, session: Session, unique: str) -> None:
    """Timestamp base, ledger, receipt, resolutions, progress and lease are continued; only missing tables are
    created.
    """
    before = comments(session, unique)
    job.create_tables(session, older)
    after = comments(session, unique)
    assert after.keys() - before.keys() == {"layouts", "marks", "failing_batches", "key_formats", "created_users"}
    assert after["layouts"].endswith(f", format {formats.TABLES['layouts'].version}")
    assert ledger.begin_generation(session, unique, TOPIC, TOPIC_ID) == EPOCH_US
    book = ledger.Ledger(session, unique, TOPIC, EPOCH_US)
    (line,) = book.lines(OffsetRange(0, 0, 9))
    assert (line.summary.records, line.summary.nulls, line.summary.latencies, line.job) == (
        5,
        {"state": 2},
        {12: 3},
        "query-1",
    )
    assert (
        Layouts(session, unique, book, lambda: [OffsetRange(0, 0, 5)], lambda _spans: []).observe(1).newest.shift_us
        == 0
    )
    kept = receipts.read_latest_receipt(session, unique, TOPIC)
    assert kept is not None
    assert kept["counted"] == {"0": 5}
    assert [
        (resolution.state, resolution.who)
        for resolution in resolutions.read_resolutions(session, unique, TOPIC).values()
    ] == [("discarded", "ann")]
    assert [failure.error for failure in Progress(session, unique, TOPIC).failures()] == [
        "StreamingQueryException: refused"
    ]
    with lease.hold_lease(lease.Lease(session, unique, "checkpoint"), wait_s=0):
        assert lease.list_held_names(session, unique) == ["checkpoint"]
    session.execute(f"ALTER TABLE {unique}.layouts DROP partitioners")  # as versions in between created it
    assert ledger.read_layouts(session, unique, TOPIC, EPOCH_US) == [TopicLayout(1)]
    job.create_tables(session, older)
    assert cassandra.has_column(session, unique, "layouts", "partitioners")


def test_a_keyspace_of_a_newer_penstock_is_rejected(
    older: Settings, session: Session, stack: Stack, unique: str
) -> None:
    """By the job and by commands, with a way out, and unchanged."""
    session.execute(f"ALTER TABLE {unique}.ledger WITH comment = 'penstock 9.1, format 9'")
    before = comments(session, unique)
    with pytest.raises(FormatTooNew):
        job.create_tables(session, older)
    refused = stack.cli("verify", PENSTOCK_CASSANDRA_KEYSPACE=unique)
    assert refused.returncode == 1
    assert f"keyspace {unique}: the table ledger has format 9, written by penstock 9.1" in refused.stderr
    assert "try: install penstock 9.1 or newer, or set PENSTOCK_CASSANDRA_KEYSPACE" in refused.stderr
    assert comments(session, unique) == before
