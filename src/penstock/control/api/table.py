"""The table's rows and nodes, and the way of one record."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import FastAPI, Query

from penstock.contract.masking import masked
from penstock.control.api import ShowsPersonal
from penstock.control.desk import Desk
from penstock.errors import Unreachable
from penstock.observe import nodes, trace
from penstock.observe.nodes import Files, Node
from penstock.observe.services import quick
from penstock.observe.table import MOST_ROWS, PAGE_ROWS, Page, Row, Table
from penstock.observe.trace import Passage
from penstock.sink import cassandra

SEARCH_S = 20.0
_SEARCHES = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Definition:
    """The table: its name, and the statement that makes it."""

    name: str
    definition: str


@dataclass(frozen=True)
class Nodes:
    """The nodes, and the table's files when they are on this machine; else `nodetool tablestats` tells of them."""

    nodes: list[Node]
    files: Files | None


@dataclass(frozen=True)
class Way:
    """The passages of the records of one id through Kafka.

    `is_whole`: the whole topic was searched, `read` of the `held` records; else only the record that the row is of.
    """

    id: str
    passages: list[Passage]
    is_whole: bool
    read: int | None = None
    held: int | None = None


def register(api: FastAPI, desk: Desk) -> None:
    """Serve /table and what is below it, and /trace/{id}."""

    @api.get("/table")
    def definition() -> Definition:
        """The table's name and its definition in CQL."""
        found = table(desk)
        return Definition(found.name, found.definition())

    @api.get("/table/rows")
    def rows(
        page: Annotated[str, Query(description="The `next` of another page; empty: the first.")] = "",
        size: Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows of a page.")] = PAGE_ROWS,
        personal: ShowsPersonal = False,
    ) -> Page:
        """Some rows, in the order of their tokens. Personal data are hidden unless `personal` is true."""
        return hidden(table(desk).page(page, size), desk, masks=not personal)

    @api.get("/table/rows/{record_id}")
    def row(record_id: str, personal: ShowsPersonal = False) -> Row:
        """One row. Personal data are hidden unless `personal` is true."""
        found = table(desk).row(record_id)
        return found if personal else replace(found, columns=masked(found.columns, desk.pipeline.stored))

    @api.get("/table/nodes")
    def told() -> Nodes:
        """What each Cassandra node says of itself and of the table."""
        return node_facts(desk)

    @api.get("/trace/{record_id}")
    def way(
        record_id: str,
        whole: Annotated[bool, Query(description="Search the whole topic, for 20 s at most.")] = False,
    ) -> Way:
        """The way of the record that made the row of an id; with `whole` that of every record of the id."""
        return search(desk, record_id) if whole else way_of_row(desk, record_id)


def table(desk: Desk) -> Table:
    """The pipeline's table. Raises `CassandraUnreachable`."""
    return Table(desk.settings, desk.cassandra(), desk.pipeline)


def hidden(page: Page, desk: Desk, *, masks: bool) -> Page:
    """The page, personal data hidden when `masks`."""
    return replace(page, rows=[masked(row, desk.pipeline.stored) for row in page.rows]) if masks else page


def node_facts(desk: Desk) -> Nodes:
    """Nodes and files. Raises `CassandraUnreachable`."""
    settings, session, name = desk.settings, desk.cassandra(), desk.pipeline.table
    found = nodes.read(settings, session, desk.keyspace, name)
    folder = settings.home / "data" / "cassandra" / "data"
    files = nodes.files(settings, session, folder, desk.keyspace, name) if desk.host.is_local else None
    return Nodes(found, files)


def way_of_row(desk: Desk, record_id: str) -> Way:
    """The way of the record that the row is of. Raises `WrongUse` for no id, and what trace raises."""
    with cassandra.asking(desk.settings):
        found = trace.trace_row(quick(desk.settings), desk.cassandra(), record_id)
    return Way(record_id, [] if found is None else [found], is_whole=False)


def search(desk: Desk, record_id: str, begun: Callable[[trace.Search], None] = lambda _: None) -> Way:
    """The ways of all records of an id, as far as they are found in time; `begun` is given the search as it begins.

    Raises `Unreachable` while two other searches are under way.
    """
    if not _SEARCHES.acquire(blocking=False):
        raise Unreachable("two searches of the whole topic are under way: try again when one has ended")
    try:
        with cassandra.asking(desk.settings):
            search = trace.Search(quick(desk.settings), desk.cassandra(), record_id, SEARCH_S)
            begun(search)
            found = search.carry_out()
    finally:
        _SEARCHES.release()
    return Way(record_id, found, search.is_whole, search.read, search.held)
