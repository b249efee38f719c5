"""The table as users view it: rows page by page in token order, a single row, and the table's definition.

A page selects a number of rows after a position (`paging`), so that no row is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from cassandra.cluster import Session

from penstock import remedies
from penstock.config import Settings
from penstock.contract import cql
from penstock.contract.identity import identity_of
from penstock.errors import NotFound
from penstock.pipelines import Pipeline
from penstock.reconcile.typed_id import parse_id
from penstock.sink import cassandra
from penstock.sink.cells import format_ids, format_row
from penstock.sink.written import add_ttl
from penstock.web.table.paging import TOKENS, Paging, Piece

PAGE_ROWS = 50
MOST_ROWS = 500
_POSITION = "row_position"


@dataclass(frozen=True)
class Page:
    """A page of rows in token order, which is not the order of any column, and the id of each row.

    `next` identifies the next page, null at the end; `passed` is the share of the token range before the next page.
    """

    columns: list[str]
    rows: list[dict[str, Any]]
    ids: list[str]
    next: str | None
    passed: float


@dataclass(frozen=True)
class TableRow:
    """A row, its write timestamp, and when it expires.

    `written_us` is in microseconds, derived from the topic incarnation's timestamp base and the offset, not from a
    clock. `expires_at` is null if the row does not expire.
    """

    id: str
    columns: dict[str, Any]
    written_us: int | None
    expires_at: datetime | None = None


class TableReader:
    """The pipeline's table."""

    def __init__(self, settings: Settings, session: Session, pipeline: Pipeline) -> None:
        self._settings = settings
        self._session = session
        self._pipeline = pipeline
        self._table = cassandra.declared_table(settings, pipeline)
        self._identity = identity_of(pipeline.record)
        self._paging = Paging(self._table, self._identity)
        self.name = cql.render_name(self._table)

    def read_page(self, after: str = "", rows: int = PAGE_ROWS) -> Page:
        """Return the page after `after`, which is the `next` of another page; empty: the first page.

        Raises `UsageError` if it is not, `NotFound` if there is no table, `CassandraUnreachable`.
        """
        pieces, count = self._paging.parse(after), min(max(rows, 1), MOST_ROWS)
        with cassandra.translate_errors(self._settings):
            names = self._list_columns()
            columns = ", ".join(map(cql.quote_name, names))
            query = f"SELECT {columns}, {cql.render_token(self._table)} AS {_POSITION} FROM {self.name}"
            fetched: list[Mapping[str, Any]] = []
            for piece in pieces:
                if len(fetched) <= count:
                    fetched += self._read_piece(query, piece, count + 1 - len(fetched))
        page, is_last = fetched[:count], len(fetched) <= count
        kept, ids = [self._convert_row(row, names) for row in page], self._list_ids(page)
        if is_last:
            return Page(names, kept, ids, None, 1.0)
        tokens = [int(row[_POSITION]) for row in page]
        return Page(names, kept, ids, self._paging.render(ids[-1], tokens, pieces), _compute_share(tokens[-1]))

    def _read_piece(self, query: str, piece: Piece, count: int) -> list[Mapping[str, Any]]:
        """Return the first `count` rows of a part of the table."""
        limit = piece.skipped + count
        if piece.values:
            select = self._session.prepare(f"{query}{piece.where} LIMIT ?")
            return list(self._session.execute(select, (*piece.values, limit)))
        return list(islice(self._session.execute(f"{query}{piece.where} LIMIT {limit}"), piece.skipped, None))

    def _list_ids(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return format_ids([[row[column] for row in rows] for column in self._identity.columns], self._identity)

    def read_row(self, text: str) -> TableRow:
        """Return the row of the id `text`. Raises `UsageError` if it is no id, `NotFound`, `CassandraUnreachable`."""
        record_id = parse_id(self._pipeline, text)
        with cassandra.translate_errors(self._settings):
            names = self._list_columns()
            columns = ", ".join(map(cql.quote_name, names))
            times = ", WRITETIME(kafka_offset) AS written_us, TTL(kafka_offset) AS ttl_s"
            written = times if "kafka_offset" in names else ""
            query = f"SELECT {columns}{written} FROM {self.name} WHERE {cql.render_key_condition(self._table)}"
            row = self._session.execute(self._session.prepare(query), self._table.key_values(record_id)).one()
        name = self._identity.text_of(record_id)
        if row is None:
            raise NotFound(f"{self.name} has no row with the id {name}", hint=remedies.trace_record(name))
        return TableRow(name, self._convert_row(row, names), row.get("written_us"), add_ttl(row.get("ttl_s")))

    def read_definition(self) -> str:
        """Return the statement that creates the current table. Raises `NotFound`, `CassandraUnreachable`."""
        with cassandra.translate_errors(self._settings):
            self._list_columns()
            row = self._session.execute(f"DESCRIBE TABLE {self.name}").one()
        return str(row["create_statement"])

    def _convert_row(self, row: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
        """Return the row's values by column, for JSON. Moments get the zone that the driver leaves out, UTC."""
        return format_row({name: _add_utc(row[name]) for name in names}, self._pipeline.stored)

    def _list_columns(self) -> list[str]:
        """Return the table's columns: the record's in its own order, then any others."""
        there = cassandra.read_columns(self._session, self._settings, self._pipeline)
        if not there:
            raise NotFound(f"there is no table {self.name} yet: the Spark job creates it", hint=remedies.start())
        own = [name for name in self._table.columns if name in there]
        return own + sorted(there.keys() - set(own))


def _compute_share(token: int) -> float:
    return round((token + TOKENS // 2) / TOKENS, 4)


def _add_utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
