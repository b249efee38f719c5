"""Where a page of rows begins, in a text that a URL can have.

A table without clustering columns has a row per token: a page begins after a token. With clustering columns it begins
after a row, in the order of its partition: after an id, or, if ids are personal data, after a number of the partition's
rows, which are read again.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from penstock import remedies
from penstock.contract import cql
from penstock.contract.identity import Identity
from penstock.contract.masking import has_personal_key
from penstock.contract.table import KeyColumn, Table
from penstock.errors import UsageError

TOKENS = 2**64
_TOKEN = re.compile(r"(-?[0-9]{1,19})(?::([0-9]{1,9}))?")


class Piece(NamedTuple):
    """A part of the table: a condition and its values, and the number of rows at its start that are skipped."""

    where: str = ""
    values: tuple[Any, ...] = ()
    skipped: int = 0
    token: int | None = None
    """The only token of the part."""


class Paging:
    """The positions in one table, whose ids are those of `identity`."""

    def __init__(self, table: Table, identity: Identity) -> None:
        self._table, self._identity = table, identity
        self._token = cql.render_token(table)

    def parse(self, after: str) -> list[Piece]:
        """Return the parts of the table after a position, in order; all of it if it is empty. Raises `UsageError`."""
        if not after:
            return [Piece()]
        if match := _TOKEN.fullmatch(after):
            return list(self._split_at_token(after, int(match[1]), int(match[2] or 0)))
        if not self._table.clustering:
            raise _build_error(after)
        try:
            record_id = self._identity.of_text(after)
        except ValueError:
            raise _build_error(after) from None
        return list(self._split_at_id(record_id))

    def render(self, last_id: str, tokens: Sequence[int], pieces: Sequence[Piece]) -> str:
        """Return the position after a page, given its last id, its tokens, and the parts that it was read from."""
        token = tokens[-1]
        if not self._table.clustering:
            return str(token)
        if not has_personal_key(self._table.row):
            return last_id
        return f"{token}:{tokens.count(token) + sum(piece.skipped for piece in pieces if piece.token == token)}"

    def _split_at_token(self, after: str, token: int, skipped: int) -> Iterator[Piece]:
        if not -TOKENS // 2 <= token < TOKENS // 2:
            raise _build_error(after)
        if skipped:
            yield Piece(f" WHERE {self._token} = {token}", (), skipped, token)
        yield Piece(f" WHERE {self._token} > {token}")

    def _split_at_id(self, record_id: Any) -> Iterator[Piece]:
        """Yield what follows a row: for each clustering column, from the last, rows equal up to it and after it."""
        values = self._table.key_values(record_id)
        for at in reversed(range(len(self._table.partition), len(self._table.key))):
            conditions = [f"{cql.quote_name(column.column)} = ?" for column in self._table.key[:at]]
            conditions.append(_render_after(self._table.key[at]))
            yield Piece(f" WHERE {' AND '.join(conditions)}", values[: at + 1])
        count = len(self._table.partition)
        yield Piece(f" WHERE {self._token} > token({', '.join('?' * count)})", values[:count])


def _render_after(column: KeyColumn) -> str:
    return f"{cql.quote_name(column.column)} {'<' if column.is_descending else '>'} ?"


def _build_error(after: str) -> UsageError:
    return UsageError(
        f"invalid page {after[:40]!r}: expected the `next` value of another page, or none for the first",
        hint=remedies.show_rows(),
    )
