"""The tables of one verification in Spark: each is computed once, and kept by the executors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from penstock.reconcile import queries
from penstock.reconcile.fact_loading import Tables, chunks
from penstock.reconcile.queries import Statement

Batches = Iterator[pa.RecordBatch]


class SparkTables(Tables):
    """Tables of one verification as temporary views, and queries over them.

    What an executor keeps is gone if the executor is lost: the verification fails then, and can be repeated.
    """

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        spark.conf.set("spark.sql.constraintPropagation.enabled", "false")  # hours and all memory for views of views

    def run(self, section: str) -> None:
        """Make the tables and views of a section of `reconciliation.sql`."""
        for statement in queries.sections()[section]:
            self.create(statement)

    def create(self, statement: Statement) -> None:
        """Make a table, which is computed now, or a view."""
        if statement.columns:
            self.replace(statement.name, self._spark.createDataFrame([], schema_of(statement.name)))
        elif statement.is_view:
            self._spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW {statement.name} AS {statement.body}")
        else:
            self.replace(statement.name, self._spark.sql(statement.body))

    def replace(self, table: str, frame: DataFrame) -> None:
        """Compute what `frame` has, and make it the contents of a table."""
        frame.localCheckpoint().createOrReplaceTempView(table)

    def append(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows to an input, a chunk at a time."""
        for chunk in chunks(rows):
            frame = self._spark.createDataFrame(list(map(tuple, chunk)), schema_of(table), verifySchema=False)
            self._spark.table(table).unionAll(frame.localCheckpoint()).createOrReplaceTempView(table)

    def append_columns(self, table: str, columns: Iterable[Sequence[Any]]) -> None:
        """Append a chunk of rows to an input, given as its columns."""
        self.append(table, zip(*columns, strict=True))

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Give the rows of a query, a partition of them at a time."""
        yield from self._spark.sql(query, list(values) or None).toLocalIterator()

    def map_pieces(
        self, pieces: Sequence[tuple[int, ...]], schema: str, work: Callable[[Batches], Batches], result: str
    ) -> DataFrame:
        """Return what the executors make of the pieces, a task for each. `schema` and `result` are columns in SQL."""
        spread = self._spark.sparkContext.parallelize(pieces, max(1, len(pieces)))
        return self._spark.createDataFrame(spread, schema).mapInArrow(work, result)

    def set_partitions(self, records: int, records_a_partition: int) -> None:
        """Set how many partitions a join or a group has; at least one for each core."""
        partitions = max(self.cores, -(-records // records_a_partition))
        self._spark.conf.set("spark.sql.shuffle.partitions", str(partitions))

    def query(self, query: str) -> DataFrame:
        """Return what a query gives, not computed yet."""
        return self._spark.sql(query)

    def frame(self, rows: Sequence[tuple[Any, ...]], schema: str) -> DataFrame:
        """Return a few rows as a DataFrame. `schema` is columns in SQL."""
        return self._spark.createDataFrame(rows, schema)

    @property
    def cores(self) -> int:
        """How many tasks run at a time."""
        return int(self._spark.sparkContext.defaultParallelism)


def schema_of(table: str, **others: str) -> str:
    """Return the columns of an input, in SQL. `others` gives columns that have another type than there."""
    return ", ".join(f"{name} {kind}" for name, kind in (dict(queries.inputs()[table]) | others).items())
