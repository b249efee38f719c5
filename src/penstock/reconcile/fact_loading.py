"""Facts as columns of an engine's tables, and their loading in this process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from operator import add
from typing import Any, Protocol, TypeVar

from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.fields import from_epoch_ms
from penstock.reconcile.audit import Row, RowPlace, Sent
from penstock.reconcile.coverage import Coverage
from penstock.sink.ledger import REPLAY

T = TypeVar("T")
Columns = list[Sequence[Any]]
RUN = 8
"""Index of the column `run` in `record_columns`, which has the runs' ids; the engine's column has their numbers."""
NO_RUN = -1
_CHUNK_ROWS = 20_000
_NO_LINE = -1


class Tables(Protocol):
    """An engine's tables: `engine.Engine` in this process, `distributed.SparkEngine` on a cluster."""

    def run(self, section: str) -> None: ...  # noqa: D102
    def append(self, table: str, rows: Iterable[Sequence[Any]]) -> None: ...  # noqa: D102
    def append_columns(self, table: str, columns: Iterable[Sequence[Any]]) -> None: ...  # noqa: D102
    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]: ...  # noqa: D102

    def row(self, query: str) -> tuple[Any, ...]:
        """Return the one row of a query."""
        (row,) = self.rows(query)
        return row

    def has(self, table: str, condition: str = "TRUE") -> bool:
        """Return whether a table has a row that matches `condition`."""
        return any(True for _ in self.rows(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"))


class LineFinder:
    """Finds the number of the line that covers a record. Fast for records in Kafka's order."""

    def __init__(self, covered: dict[int, Coverage]) -> None:
        self._covered = covered
        lines = [line for coverage in covered.values() for line in coverage.every]
        self._lines = lines
        self._numbers = {id(line): number for number, line in enumerate(lines)}
        self._partition, self._first, self._end, self._number = _NO_LINE, 0, 0, _NO_LINE

    def __reduce__(self) -> tuple[type["LineFinder"], tuple[dict[int, Coverage]]]:
        """Pickle only the lines: the numbers depend on object identity, which differs in another process."""
        return LineFinder, (self._covered,)

    def find(self, partition: int, offset: int) -> int:
        """Return the number of the line at an offset, or -1."""
        if partition != self._partition or not self._first <= offset < self._end:
            coverage = self._covered.get(partition)
            line = None if coverage is None else coverage.at(offset)
            bound = None if coverage is None else coverage.bound_after(offset)
            self._partition, self._first, self._end = partition, offset, 2**63 if bound is None else bound
            self._number = _NO_LINE if line is None else self._numbers[id(line)]
        return self._number

    def rows(self) -> Iterator[Sequence[Any]]:
        """Yield the lines as rows of the engine's table."""
        for number, line in enumerate(self._lines):
            summary = line.summary
            yield (
                *(number, summary.partition, summary.first_offset, summary.last_offset + 1),
                *(line.job, line.job.startswith(REPLAY)),
                *(summary.records, summary.deleted, summary.rejected, summary.filtered, summary.stored_at_ms),
            )


class FactOrigin(Protocol):
    """The source of records and rows: `auditor.Auditor`."""

    def record_columns(  # noqa: D102
        self, ranges: list[OffsetRange], finder: LineFinder, run_id: str | None, /
    ) -> Iterator[Columns]: ...
    def row_columns(self) -> Iterator[Columns]: ...  # noqa: D102


class Loader(Protocol):
    """Loads the contents of a topic and a table, which are the largest inputs, into `tables`."""

    @property
    def tables(self) -> Tables: ...  # noqa: D102

    def load_records(self, ranges: list[OffsetRange], finder: LineFinder, run_id: str | None) -> list[str]:
        """Load the records in `ranges`; count only those of the run `run_id`, or all if it is None.

        Return the ids of the runs that produced them. Their indexes are the runs' numbers in the engine.
        """

    def load_table(self) -> None:
        """Load every row of the table."""


@dataclass
class LocalLoader:
    """Loads records and rows through this process."""

    tables: Tables
    origin: FactOrigin

    def load_records(self, ranges: list[OffsetRange], finder: LineFinder, run_id: str | None) -> list[str]:
        """Load the records in `ranges`, as `Loader` specifies."""
        numbers: dict[str | None, int] = {None: NO_RUN}
        runs: list[str] = []
        for columns in merge_columns(self.origin.record_columns(ranges, finder, run_id)):
            for run in set(columns[RUN]) - numbers.keys():
                numbers[run] = len(runs)
                runs.append(run)
            columns[RUN] = [numbers[run] for run in columns[RUN]]
            self.tables.append_columns("records", columns)
        return runs

    def load_table(self) -> None:
        """Load every row of the table."""
        for columns in merge_columns(self.origin.row_columns()):
            self.tables.append_columns("table_rows", columns)


def append_rows(tables: Tables, rows: Iterable[Row]) -> None:
    """Append rows of the table to `table_rows`."""
    for chunk in chunks(rows):
        tables.append_columns("table_rows", row_columns(chunk))


def chunks(rows: Iterable[T], size: int = _CHUNK_ROWS) -> Iterator[list[T]]:
    """Yield the rows in chunks, by default of the size that is appended at once."""
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk


def merge_columns(pieces: Iterable[Columns]) -> Iterator[Columns]:
    """Yield the columns in chunks of about the size that is appended at once."""
    merged: list[list[Any]] = []
    for piece in pieces:
        merged = merged or [[] for _ in piece]
        for column, more in zip(merged, piece, strict=True):
            column.extend(more)
        if len(merged[0]) >= _CHUNK_ROWS:
            yield list(merged)
            merged = []
    if merged:
        yield list(merged)


def record_columns(chunk: Sequence[Sent], finder: LineFinder, run_id: str | None) -> Columns:
    """Return the columns of `records`, with the runs' ids instead of their numbers at `RUN`."""
    *facts, ranks, digests, expiries_ms = zip(*chunk, strict=True)
    return arrange_record_columns(facts, [*zip(*ranks, strict=True)], digests, expiries_ms, finder, run_id)


def arrange_record_columns(
    facts: Sequence[Sequence[Any]],
    ranks: Sequence[Sequence[Any]],
    digests: Sequence[int],
    expiries_ms: Sequence[int],
    finder: LineFinder,
    run_id: str | None,
) -> Columns:
    """Return the columns of `records`, as `record_columns`.

    `facts` has the fields of `Sent` up to its rank, and `ranks` those of `Rank`, each with a value for every record.
    """
    partitions, offsets, times_ms, keys, ids, deletions, runs = facts
    layouts, shifts_us, proven, kept, tie_digests = ranks
    are_ids = [  # outside ASCII, the bytes of an id differ from its characters
        record_id is not None and key is not None and key == record_id.encode() and record_id.isascii()
        for key, record_id in zip(keys, ids, strict=True)
    ]
    texts = [None if is_id or key is None else text(key) for key, is_id in zip(keys, are_ids, strict=True)]
    counted = [run_id is None or run == run_id for run in runs]
    orders_us = list(map(add, shifts_us, offsets))
    lines = list(map(finder.find, partitions, offsets))
    columns = [partitions, offsets, times_ms, ids, texts, are_ids, deletions, counted]
    return [*columns, runs, orders_us, layouts, proven, kept, tie_digests, digests, lines, expiries_ms]


def row_columns(chunk: Sequence[Row]) -> Columns:
    """Return the columns of `table_rows`."""
    ids, writers, places, mixed, changed_us = zip(*chunk, strict=True)
    partitions, offsets, orders_us = zip(*map(_place_columns, places), strict=True)
    changed_at = [None if moment_us is None else _format_time(moment_us) for moment_us in changed_us]
    return [ids, list(map(str, writers)), partitions, offsets, orders_us, mixed, changed_at]


def text(key: bytes) -> str:
    """Return the bytes of a key as characters, one for each, so that different keys differ."""
    return key.decode("latin-1")


def _place_columns(place: RowPlace | None) -> tuple[int | None, int | None, int | None]:
    return (None, None, None) if place is None else (place.partition, place.offset, place.order_us)


def _format_time(moment_us: int) -> str:
    return str(from_epoch_ms(moment_us // 1000).isoformat(timespec="seconds"))


OpenLoader = Callable[[Settings, FactOrigin], AbstractContextManager[Loader]]
"""Opens an engine, and a loader of what `FactOrigin` provides, until the block ends."""
