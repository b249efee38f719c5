"""The topic's records and the table's rows, read by Spark's executors: ranges of offsets, and ranges of tokens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from penstock import remedies
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.reconcile import queries
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.fact_loading import (
    FactOrigin,
    LineFinder,
    OpenLoader,
    merge_columns,
)
from penstock.reconcile.spark_tables import Batches, SparkTables, schema_of
from penstock.sink import cassandra

_RECORDS_A_TASK = 250_000
_RANGES_A_CORE = 4
_FIRST_TOKEN, _LAST_TOKEN = -(2**63), 2**63 - 1
_ARROW_TYPES = {"INT": pa.int32(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_(), "STRING": pa.string()}
_OUR_ERROR = "penstock.errors."


@dataclass
class SparkLoader:
    """Loads records and rows by tasks. Each task has a consumer and a session of its own, and the pipeline's file."""

    tables: SparkTables
    settings: Settings

    def load_records(self, ranges: list[OffsetRange], finder: LineFinder, run_id: str | None) -> list[str]:
        """Load the records in `ranges`, as `Loader` says."""
        self.tables.set_partitions(sum(offset_range.records for offset_range in ranges), _RECORDS_A_TASK)
        work = partial(_read_records, self.settings, finder, run_id)
        pieces = split_offsets(ranges, _RECORDS_A_TASK)
        read = self.tables.map_pieces(
            pieces, "partition_id INT, first BIGINT, end BIGINT", work, schema_of("records", run="STRING")
        )
        self.tables.replace("read_records", read)
        runs = [run for (run,) in self.tables.rows("SELECT DISTINCT run FROM read_records WHERE run IS NOT NULL")]
        self.tables.replace("run_numbers", self.tables.frame(list(enumerate(runs)), "number INT, run STRING"))
        selected = [
            "COALESCE(n.number, -1) AS run" if name == "run" else f"r.{name}" for name in queries.inputs()["records"]
        ]
        numbered = f"SELECT {', '.join(selected)} FROM read_records r LEFT JOIN run_numbers n ON r.run = n.run"
        self.tables.replace("records", self.tables.query(numbered))
        return runs

    def load_table(self) -> None:
        """Load every row of the table."""
        ranges = split_tokens(_RANGES_A_CORE * self.tables.cores)
        work = partial(_read_rows, self.settings)
        rows = self.tables.map_pieces(ranges, "first BIGINT, last BIGINT", work, schema_of("table_rows"))
        self.tables.replace("table_rows", rows)


def open_on(spark: SparkSession) -> OpenLoader:
    """Return what opens the engine on a Spark session, for `Auditor` and `verify`."""

    @contextmanager
    def open_loader(settings: Settings, _origin: FactOrigin) -> Iterator[SparkLoader]:
        try:
            yield SparkLoader(SparkTables(spark), settings)
        except PySparkException as error:
            raise PenstockError(
                f"the verification failed on Spark: {reason_of(error)}", hint=f"{remedies.verify()}, without Spark"
            ) from error

    return open_loader


def reason_of(error: Exception) -> str:
    """Return the line that says what failed: of an error of ours in a task, its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith(_OUR_ERROR)]
    return ours[-1].partition(": ")[2] if ours else lines[0]


def split_offsets(ranges: Sequence[OffsetRange], records: int) -> list[tuple[int, int, int]]:
    """Return the ranges of offsets in pieces of at most so many records: partition, first, end."""
    return [
        (offset_range.partition, first, min(first + records, offset_range.end))
        for offset_range in ranges
        for first in range(offset_range.first, offset_range.end, records)
    ]


def split_tokens(ranges: int) -> list[tuple[int, int]]:
    """Return every token in ranges of one size: first and last."""
    bounds = [_FIRST_TOKEN + (2**64 * number) // ranges for number in range(ranges)]
    return [(first, after - 1) for first, after in pairwise([*bounds, _LAST_TOKEN + 1])]


def _read_records(settings: Settings, finder: LineFinder, run_id: str | None, batches: Batches) -> Batches:
    kinds = ["STRING" if name == "run" else kind for name, kind in queries.inputs()["records"].items()]
    for partition, first, end in _rows_of(batches):
        with cassandra.open_session(settings) as session:
            read = Auditor(settings, session).record_columns([OffsetRange(partition, first, end)], finder, run_id)
            for columns in merge_columns(read):
                yield _build_batch("records", columns, kinds)


def _read_rows(settings: Settings, batches: Batches) -> Batches:
    kinds = list(queries.inputs()["table_rows"].values())
    for first, last in _rows_of(batches):
        with cassandra.open_session(settings) as session:
            for columns in merge_columns(Auditor(settings, session).row_columns((first, last))):
                yield _build_batch("table_rows", columns, kinds)


def _rows_of(batches: Batches) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _build_batch(table: str, columns: Sequence[Sequence[Any]], kinds: Sequence[str]) -> pa.RecordBatch:
    arrays = [pa.array(column, _ARROW_TYPES[kind]) for column, kind in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, list(queries.inputs()[table]))
