"""The table as users view it: rows page by page in token order, a single row, and the table's definition.

A page selects a number of rows after a token, so its cost does not depend on where it is; no row is counted or skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cassandra.cluster import Session

from penstock import remedies
from penstock.config import Settings
from penstock.contract import cql
from penstock.contract.identity import identity_of
from penstock.errors import NotFound, UsageError
from penstock.pipelines import Pipeline
from penstock.reconcile.trace import parse_id
from penstock.sink import cassandra
from penstock.sink.cells import format_row

PAGE_ROWS = 50
MOST_ROWS = 500
_POSITION = "row_position"
_TOKENS = 2**64


@dataclass(frozen=True)
class Page:
    """A page of rows in token order, which is not the order of any column.

    `next` identifies the next page, null at the end; `passed` is the share of the token range before the next page.
    """

    columns: list[str]
    rows: list[dict[str, Any]]
    next: str | None
    passed: float


@dataclass(frozen=True)
class TableRow:
    """A row and its write timestamp.

    `written_us` is in microseconds, derived from the topic incarnation's timestamp base and the offset, not from a
    clock.
    """

    id: str
    columns: dict[str, Any]
    written_us: int | None


class TableReader:
    """The pipeline's table."""

    def __init__(self, settings: Settings, session: Session, pipeline: Pipeline) -> None:
        self._settings = settings
        self._session = session
        self._pipeline = pipeline
        self._keyspace = cassandra.keyspace_of(settings, pipeline)
        self._key = identity_of(pipeline.stored).columns[0]
        self.name = cql.quote_table(self._keyspace, pipeline.table)

    def read_page(self, after: str = "", rows: int = PAGE_ROWS) -> Page:
        """Return the page after `after`, which is the `next` of another page; empty: the first page.

        Raises `UsageError` if it is not, `NotFound` if there is no table, `CassandraUnreachable`.
        """
        token, count = _parse_token(after), min(max(rows, 1), MOST_ROWS)
        with cassandra.translate_errors(self._settings):
            names = self._list_columns()
            columns = ", ".join(map(cql.quote_name, names))
            where = "" if token is None else f" WHERE token({cql.quote_name(self._key)}) > {token}"
            query = f"SELECT {columns}, token({cql.quote_name(self._key)}) AS {_POSITION} FROM {self.name}{where}"
            fetched = [dict(row) for row in self._session.execute(f"{query} LIMIT {count + 1}")]
        last = int(fetched[count - 1][_POSITION]) if len(fetched) > count else None
        kept = [self._convert_row(row, names) for row in fetched[:count]]
        return Page(names, kept, None if last is None else str(last), 1.0 if last is None else _compute_share(last))

    def read_row(self, text: str) -> TableRow:
        """Return the row of the id `text`. Raises `UsageError` if it is no id, `NotFound`, `CassandraUnreachable`."""
        record_id = parse_id(self._pipeline, text)
        with cassandra.translate_errors(self._settings):
            names = self._list_columns()
            columns = ", ".join(map(cql.quote_name, names))
            written = ", WRITETIME(kafka_offset) AS written_us" if "kafka_offset" in names else ""
            query = f"SELECT {columns}{written} FROM {self.name} WHERE {cql.quote_name(self._key)} = %s"
            row = self._session.execute(query, (record_id,)).one()
        if row is None:
            raise NotFound(f"{self.name} has no row with the id {record_id}", hint=remedies.trace_record(record_id))
        return TableRow(str(record_id), self._convert_row(row, names), row.get("written_us"))

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
        own = [name for name in cassandra.declared_table(self._settings, self._pipeline).columns if name in there]
        return own + sorted(there.keys() - set(own))


def _parse_token(text: str) -> int | None:
    """Return the token that a page starts after, or None for the first page. Raises `UsageError`."""
    if not text:
        return None
    try:
        token = int(text)
    except ValueError:
        token = _TOKENS
    if not -_TOKENS // 2 <= token < _TOKENS // 2:
        raise UsageError(
            f"invalid page {text[:40]!r}: expected the `next` value of another page, or none for the first",
            hint=remedies.show_rows(),
        )
    return token


def _compute_share(token: int) -> float:
    return round((token + _TOKENS // 2) / _TOKENS, 4)


def _add_utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
