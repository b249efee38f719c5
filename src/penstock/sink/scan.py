"""Full table scans, page by page. A page with too many tombstones is retried with fewer rows.

A null column and a deleted row are tombstones, and a server fails a page with more of them than its
`tombstone_failure_threshold`, 100,000 by default.
"""

from collections.abc import Iterator
from typing import Any

from cassandra import ReadFailure
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from penstock.errors import PenstockError
from penstock.log import get_logger
from penstock.sink.cassandra import TUPLES

log = get_logger(__name__)

PAGE_ROWS = 5000
_GOOD_PAGES = 10
"""Number of successful pages after which the page size is doubled again."""
_HINT = "nodetool garbagecollect removes what was deleted; or raise tombstone_failure_threshold in cassandra.yaml"


def scan(session: Session, query: str) -> Iterator[list[tuple[Any, ...]]]:
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
