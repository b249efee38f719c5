"""The table's rows and Cassandra nodes, and the trace of a record."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import FastAPI, Query

from penstock.contract.masking import MASK, has_personal_key, mask_row
from penstock.errors import Unreachable
from penstock.monitoring.services import with_short_timeouts
from penstock.reconcile import trace
from penstock.reconcile.trace import Passage
from penstock.sink import cassandra
from penstock.web.api import ShowsPersonal
from penstock.web.app_context import AppContext
from penstock.web.table import nodes
from penstock.web.table.nodes import Node, TableFiles
from penstock.web.table.table_reader import MOST_ROWS, PAGE_ROWS, Page, TableReader, TableRow

SEARCH_S = 20.0
_SEARCHES = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Definition:
    """The table's name and its `CREATE TABLE` statement."""

    name: str
    definition: str


@dataclass(frozen=True)
class Nodes:
    """Cassandra's nodes, and the table's files.

    `files` is null unless the files are on this machine: use `nodetool tablestats` instead.
    """

    nodes: list[Node]
    files: TableFiles | None


@dataclass(frozen=True)
class RecordPassages:
    """The paths of the records with one id.

    `is_whole` is whether the search reached the end of the topic. It read `read` of the topic's `held` records; both
    are null if only the row's own record was traced.
    """

    id: str
    passages: list[Passage]
    is_whole: bool
    read: int | None = None
    held: int | None = None


def register(api: FastAPI, context: AppContext) -> None:
    """Add the routes under /table, and /trace/{id}."""

    @api.get("/table")
    def definition() -> Definition:
        """Get the table's name and its definition in CQL."""
        described = open_table(context)
        return Definition(described.name, described.read_definition())

    @api.get("/table/rows")
    def rows(
        page: Annotated[str, Query(description="The `next` value of another page; empty for the first page.")] = "",
        size: Annotated[int, Query(ge=1, le=MOST_ROWS, description="Number of rows per page.")] = PAGE_ROWS,
        personal: ShowsPersonal = False,
    ) -> Page:
        """List a page of rows in token order. Personal data is masked unless `personal` is true."""
        return mask_page(open_table(context).read_page(page, size), context, masks=not personal)

    @api.get("/table/rows/{record_id:path}")
    def row(record_id: str, personal: ShowsPersonal = False) -> TableRow:
        """Get a row. An id of several fields is a JSON object. Personal data is masked unless `personal` is true."""
        stored_row = open_table(context).read_row(record_id)
        return stored_row if personal else replace(stored_row, columns=mask_columns(stored_row.columns, context))

    @api.get("/table/nodes")
    def cassandra_nodes() -> Nodes:
        """Get what each Cassandra node reports about itself and the table."""
        return read_node_facts(context)

    @api.get("/trace/{record_id:path}")
    def record_trace(
        record_id: str,
        whole: Annotated[bool, Query(description="Search the whole topic, for at most 20 s.")] = False,
    ) -> RecordPassages:
        """Trace the record that the row was written from, or with `whole` every record of the id."""
        return search_topic(context, record_id) if whole else trace_row(context, record_id)


def open_table(context: AppContext) -> TableReader:
    """Return the pipeline's table. Raises `CassandraUnreachable`."""
    return TableReader(context.settings, context.cassandra(), context.pipeline)


def mask_page(page: Page, context: AppContext, *, masks: bool) -> Page:
    """Mask personal data in a page of rows if `masks`."""
    if not masks:
        return page
    ids = [MASK] * len(page.ids) if has_personal_key(context.pipeline.stored) else page.ids
    return replace(page, rows=[mask_columns(row, context) for row in page.rows], ids=ids)


def mask_columns(columns: dict[str, Any], context: AppContext) -> dict[str, Any]:
    """Mask personal data in the columns of a row."""
    return mask_row(columns, context.pipeline.build_table(context.pipeline.keyspace))


def read_node_facts(context: AppContext) -> Nodes:
    """Read the state of the nodes and the table's files. Raises `CassandraUnreachable`."""
    settings, session, name = context.settings, context.cassandra(), context.pipeline.table
    statuses = nodes.read_nodes(settings, session, context.keyspace, name)
    folder = settings.home / "data" / "cassandra" / "data"
    files = (
        nodes.measure_table_files(settings, session, folder, context.keyspace, name) if context.host.is_local else None
    )
    return Nodes(statuses, files)


def trace_row(context: AppContext, record_id: str) -> RecordPassages:
    """Trace the record that the row was written from. Raises `UsageError` for an invalid id, and as `trace`."""
    with cassandra.translate_errors(context.settings):
        passage = trace.trace_row(with_short_timeouts(context.settings), context.cassandra(), record_id)
    return RecordPassages(record_id, [] if passage is None else [passage], is_whole=False)


def search_topic(
    context: AppContext, record_id: str, begun: Callable[[trace.TraceSearch], None] = lambda _: None
) -> RecordPassages:
    """Search the whole topic for the records of an id, for at most `SEARCH_S` seconds.

    `begun` is called with the search when it starts, e.g. to show its progress or stop it. Raises `Unreachable` while
    two other searches are running.
    """
    if not _SEARCHES.acquire(blocking=False):
        raise Unreachable("two searches of the whole topic are already running: try again when one has finished")
    try:
        with cassandra.translate_errors(context.settings):
            search = trace.TraceSearch(with_short_timeouts(context.settings), context.cassandra(), record_id, SEARCH_S)
            begun(search)
            passages = search.carry_out()
    finally:
        _SEARCHES.release()
    return RecordPassages(record_id, passages, search.is_whole, search.read, search.held)
