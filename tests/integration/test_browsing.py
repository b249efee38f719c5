"""Rows, nodes, subjects and traces as the pages show them, from the real Cassandra, Kafka and registry."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from cassandra.cluster import Session

from penstock import pipelines
from penstock.config import Settings
from penstock.errors import NotFound
from penstock.reconcile import trace
from penstock.sink import cassandra
from penstock.web.schemas import schema_usage
from penstock.web.schemas.subjects import Catalogue
from penstock.web.table import nodes
from penstock.web.table.table_reader import TableReader
from tests.conftest import Stack

RECORDS = 60


@pytest.fixture(scope="module")
def session(stack: Stack) -> Iterator[Session]:
    """A session; the table holds at least this many rows."""
    stack.json("run", "--records", str(RECORDS))
    with cassandra.open_session(stack.settings) as session:
        yield session


@pytest.fixture
def table(settings: Settings, session: Session) -> TableReader:
    """The users' table."""
    return TableReader(settings, session, pipelines.of(settings))


def test_pages_contain_every_row_once(settings: Settings, session: Session, table: TableReader) -> None:
    """As many rows as a scan finds, in token order."""
    page = table.read_page(rows=25)
    ids = [row["id"] for row in page.rows]
    while page.next is not None:
        before, page = page.passed, table.read_page(page.next, rows=25)
        assert page.passed > before
        ids += [row["id"] for row in page.rows]
    scanned = [row["id"] for row in session.execute(f"SELECT id FROM {table.name}")]
    assert len(scanned) >= RECORDS
    assert ids == scanned


def test_a_row_leads_to_its_trace(settings: Settings, session: Session, table: TableReader) -> None:
    """The trace is that of the row's own record, stage by stage, without reading the whole topic."""
    first = table.read_page(rows=1).rows[0]
    record_id = str(first["id"])
    row = table.read_row(record_id)
    assert row.columns == first
    assert row.written_us is not None
    passage = trace.trace_row(settings, session, record_id)
    assert passage is not None
    assert (passage.partition, passage.offset) == (first["kafka_partition"], first["kafka_offset"])
    assert [hop.name for hop in passage.hops] == ["fetched", "produced", "recorded", "stored"]
    assert passage in trace.trace_record(settings, session, record_id)


def test_an_unknown_id_has_no_row_and_no_trace(settings: Settings, session: Session, table: TableReader) -> None:
    """Neither a row nor a trace is found."""
    record_id = str(uuid4())
    with pytest.raises(NotFound):
        table.read_row(record_id)
    assert trace.trace_row(settings, session, record_id) is None


def test_the_table_definition_and_node_facts_are_read(settings: Settings, session: Session, table: TableReader) -> None:
    """The definition is Cassandra's own; SSTables appear after a flush."""
    assert table.read_definition().startswith(f"CREATE TABLE {table.name} (")
    keyspace, _, name = table.name.partition(".")
    (node,) = nodes.read_nodes(settings, session, keyspace, name)
    assert node.error == ""
    assert (node.writes or 0) >= RECORDS
    assert (node.node_bytes or 0) > 0
    assert node.compactions_pending is not None
    result = nodes.measure_table_files(settings, session, settings.home / "data" / "cassandra" / "data", keyspace, name)
    assert result is not None
    assert (result.sstables > 0) == (result.bytes > 0)


def test_the_schema_of_the_topic_is_in_use(settings: Settings, session: Session) -> None:
    """The sample has messages with the subject's version, under its name."""
    catalogue = Catalogue(settings, httpx2.Client(trust_env=False))
    subject = catalogue.read_subject(pipelines.of(settings).subject)
    sample = schema_usage.sample_schemas(settings, subject.name)
    assert sample.looked >= RECORDS
    names = {name for use in sample.uses if use.schema_id for name in catalogue.find_names(use.schema_id)}
    assert f"{subject.name} version {subject.versions[-1]}" in names


@pytest.fixture
def draft(settings: Settings, unique: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A subject with one version, and that version."""
    name, first = f"{unique}-value", {"type": "object", "properties": {"a": {"type": "string"}}}
    address = f"{settings.registry_url}/subjects/{name}"
    body = {"schema": json.dumps(first), "schemaType": "JSON"}
    httpx2.post(f"{address}/versions", json=body).raise_for_status()
    yield name, first
    httpx2.delete(address).raise_for_status()
    httpx2.delete(address, params={"permanent": "true"})


def test_a_draft_is_checked_by_the_registry(settings: Settings, draft: tuple[str, dict[str, Any]]) -> None:
    """It is checked at the effective compatibility level, and not registered."""
    name, first = draft
    catalogue = Catalogue(settings, httpx2.Client(trust_env=False))
    assert catalogue.read_subject(name).compatibility == "BACKWARD"
    assert catalogue.check_draft(name, json.dumps(first | {"title": "T"})).is_compatible
    assert not catalogue.check_draft(name, json.dumps(first | {"properties": {"a": {"type": "integer"}}})).is_compatible
    assert catalogue.read_subject(name).versions == [1]
