"""Tables are read page by page, in pages that the server can read."""

from types import SimpleNamespace

import pytest
from cassandra import ReadFailure

from penstock.errors import PenstockError
from penstock.sink.cassandra import TUPLES
from penstock.sink.scan import PAGE_ROWS, scan_rows


class Server:
    """Rows, of which those in `costly` have one tombstone each; a page with more than `threshold` fails."""

    def __init__(self, rows: int, costly: range = range(0), threshold: int = 0) -> None:
        self._rows, self._costly, self._threshold = rows, costly, threshold
        self.sizes: list[int] = []

    def execute(self, statement, paging_state, execution_profile):
        assert execution_profile == TUPLES
        first = paging_state or 0
        page = range(first, min(self._rows, first + statement.fetch_size))
        self.sizes.append(len(page))
        if len([row for row in page if row in self._costly]) > self._threshold:
            raise ReadFailure("TombstoneOverwhelmingException")
        end = page.stop if page.stop < self._rows else None
        return SimpleNamespace(current_rows=[(row,) for row in page], paging_state=end)


def ids(server: Server) -> list[int]:
    return [row for page in scan_rows(server, "SELECT id FROM t") for (row,) in page]


def test_a_table_without_tombstones_is_read_in_full_pages():
    """Nothing is requested twice."""
    server = Server(2 * PAGE_ROWS + 1)
    assert ids(server) == list(range(2 * PAGE_ROWS + 1))
    assert server.sizes == [PAGE_ROWS, PAGE_ROWS, 1]


@pytest.mark.parametrize("threshold", [1, 100, 3000])
def test_a_page_that_fails_is_halved(threshold):
    """Until the server can read it, down to one row; every row is read once."""
    server = Server(PAGE_ROWS, range(1000, 5000), threshold)
    assert ids(server) == list(range(PAGE_ROWS))


def test_pages_grow_again_after_the_tombstones():
    """A range of them does not make the rest of the table slow."""
    server = Server(40 * PAGE_ROWS, range(PAGE_ROWS), 1000)
    assert ids(server) == list(range(40 * PAGE_ROWS))
    assert server.sizes.count(PAGE_ROWS) > 30
    assert len(server.sizes) < 80


def test_a_row_that_cannot_be_read_is_an_error_with_a_remedy():
    """If a page of one row fails, no smaller one can be requested."""
    server = Server(10, range(5, 6), 0)
    with pytest.raises(PenstockError, match="cannot read the next row") as raised:
        ids(server)
    assert "garbagecollect" in raised.value.hint
    assert server.sizes[-1] == 1


def test_an_empty_table_has_no_rows():
    """One page is enough to know."""
    assert ids(Server(0)) == []
