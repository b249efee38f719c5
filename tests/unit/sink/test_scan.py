"""Tables are read page by page, in pages that the server can read."""

import re
from collections.abc import Iterable
from types import SimpleNamespace

import pytest
from cassandra import ReadFailure
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.table import build_table
from penstock.errors import PenstockError
from penstock.sink import scan
from penstock.sink.cassandra import TUPLES
from penstock.sink.scan import PAGE_ROWS, scan_rows
from tests.unit.records import Reading


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


class Ring:
    """Rows by token, among others that have expired; a page fails after more than `threshold` of those."""

    def __init__(self, live: Iterable[int], expired: Iterable[int], threshold: int) -> None:
        self._rows = sorted([(token, True) for token in live] + [(token, False) for token in expired])
        self._threshold = threshold
        self.failed = 0

    def execute(self, statement, paging_state, execution_profile):
        assert execution_profile == TUPLES
        assert statement.query_string.startswith("SELECT a, token(sensor) FROM lab.readings WHERE token(sensor) >= ")
        first, last = map(int, re.findall(r">= (-?\d+) AND .* <= (-?\d+)", statement.query_string)[0])
        page, expired = [], 0
        for token, is_live in self._rows:
            if not max(first, paging_state or first) <= token <= last:
                continue
            if len(page) == statement.fetch_size:
                return SimpleNamespace(current_rows=page, paging_state=token)
            expired += not is_live
            if expired > self._threshold:
                self.failed += 1
                raise ReadFailure("TombstoneOverwhelmingException")
            if is_live:
                page.append((f"a{token}", token))
        return SimpleNamespace(current_rows=page, paging_state=None)


READINGS = build_table("lab", "readings", Reading)
tokens = st.integers(-(2**63), 2**63 - 1)


@given(st.sets(tokens, max_size=40), st.sets(tokens, max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_every_row_among_expired_ones_is_read_once(live, expired, threshold, page_rows):
    """However many have expired between two of them, in token order."""
    ring = Ring(live, expired - live, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "PAGE_ROWS", page_rows)
        rows = [row for page in scan.scan_tokens(ring, READINGS, ["a"]) for row in page]
    assert rows == [(f"a{token}",) for token in sorted(live)]


def test_rows_that_all_have_expired_are_read_as_none():
    """A table of which nothing is left is read as well, in ranges of tokens that the server can read."""
    ring = Ring([], range(0, 2**63, 2**53), threshold=100)
    assert [row for page in scan.scan_tokens(ring, READINGS, ["a"], (-5, 2**63 - 1)) for row in page] == []
    assert 10 <= ring.failed <= 20


def test_a_token_that_cannot_be_read_is_an_error_with_a_remedy():
    """It cannot be split further."""
    with pytest.raises(PenstockError, match="cannot read token 7 of readings") as raised:
        list(scan.scan_tokens(Ring([1], [7], 0), READINGS, ["a"]))
    assert "gc_grace_seconds" in raised.value.hint
