"""Full table scans, page by page. A page with too many tombstones is retried with fewer rows, or fewer tokens.

A null column and a deleted row are tombstones. So is each column of a row that has expired, until compaction removes it
after `gc_grace_seconds`. A server fails a page with more of them than its `tombstone_failure_threshold`, 100,000 by
default.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from cassandra import ReadFailure
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from penstock.contract import cql
from penstock.contract.table import Table
from penstock.errors import PenstockError
from penstock.log import get_logger
from penstock.sink.cassandra import TUPLES

log = get_logger(__name__)

PAGE_ROWS = 5000
_GOOD_PAGES = 10
"""Number of successful pages after which the page size is doubled again."""
ALL_TOKENS = -(2**63), 2**63 - 1
_HINT = (
    "nodetool garbagecollect removes what was deleted; or raise tombstone_failure_threshold in cassandra.yaml; "
    "or lower gc_grace_seconds of a table whose rows expire, so that compaction removes them earlier"
)


def scan_rows(session: Session, query: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the pages of a query's rows. Raises `PenstockError` if the server cannot read even a page of one row."""
    size, good, position = PAGE_ROWS, 0, None
    while True:
        try:
            statement = SimpleStatement(query, fetch_size=size)
            page = session.execute(statement, paging_state=position, execution_profile=TUPLES)
        except ReadFailure as error:
            if size == 1:
                raise PenstockError(f"Cassandra cannot read the next row of {query!r}: {error}", hint=_HINT) from error
            size, good = size // 2, 0
            log.info("page_shrunk", rows=size)
            continue
        yield page.current_rows
        position = page.paging_state
        if position is None:
            return
        good += 1
        if good >= _GOOD_PAGES:
            size, good = min(PAGE_ROWS, size * 2), 0


def scan_tokens(
    session: Session, table: Table, selected: Iterable[str], tokens: tuple[int, int] = ALL_TOKENS
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the pages of a table's rows with tokens in `tokens`, both ends included.

    For tables with a row per partition, whose rows expire: between two rows, any number may have expired, so a page is
    retried with half of the tokens. Raises `PenstockError` if the server cannot read those of a single token.
    """
    token = cql.render_token(table)
    select = f"SELECT {', '.join([*selected, token])} FROM {cql.render_name(table)}"
    ranges = [tokens]
    while ranges:
        first, last = ranges.pop()
        try:
            for page in _iter_pages(session, f"{select} WHERE {token} >= {first} AND {token} <= {last}"):
                yield [row[:-1] for row in page]
                first = page[-1][-1] + 1 if page else first
        except ReadFailure as error:
            if first > last:  # all rows were read
                continue
            if first == last:
                raise PenstockError(
                    f"Cassandra cannot read token {first} of {table.name}: {error}", hint=_HINT
                ) from error
            middle = (first + last) // 2
            log.info("range_split", first=first, last=last)
            ranges += [(middle + 1, last), (first, middle)]


def _iter_pages(session: Session, query: str) -> Iterator[list[tuple[Any, ...]]]:
    position = None
    while True:
        statement = SimpleStatement(query, fetch_size=PAGE_ROWS)
        page = session.execute(statement, paging_state=position, execution_profile=TUPLES)
        yield page.current_rows
        position = page.paging_state
        if position is None:
            return
