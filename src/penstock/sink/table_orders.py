"""The order of each table (`contract.order_by`), fixed at the first write.

Write timestamps of two orders cannot be compared, so a table keeps its first order. A table that has rows and no entry
is ordered by offset; such a table never gets an entry.
"""

from cassandra.cluster import Session

from penstock import remedies
from penstock.contract import cql
from penstock.contract.order_by import BY_OFFSET
from penstock.errors import PenstockError
from penstock.log import get_logger
from penstock.pipelines import Pipeline
from penstock.sink.cassandra import create_missing, has_table
from penstock.sink.scan import scan_rows

log = get_logger(__name__)

TABLE = "table_orders"
_STATEMENT = """
CREATE TABLE IF NOT EXISTS {keyspace}.table_orders (
  table_name text PRIMARY KEY,
  order_by text
)
"""


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table of entries, by table name. Tables ordered by offset do not need it."""
    return {TABLE: _STATEMENT.format(keyspace=cql.quote_name(keyspace))}


def fix_order(session: Session, keyspace: str, pipeline: Pipeline) -> None:
    """Set the order of the pipeline's table to the declared one, if the table has no rows or already has that order.

    Call it before anything is written. Raises `PenstockError` if the table has another order.
    """
    check_order(session, keyspace, pipeline)
    if pipeline.order_by == BY_OFFSET:
        return
    create_missing(session, keyspace, statements(keyspace))
    if _read_order(session, keyspace, pipeline.table) is None:
        _insert_order(session, keyspace, pipeline)
        check_order(session, keyspace, pipeline)


def check_order(session: Session, keyspace: str, pipeline: Pipeline) -> None:
    """Check that the pipeline's table has the declared order, or can still get it.

    Raises `PenstockError` if it has another order.
    """
    known = _read_order(session, keyspace, pipeline.table) if has_table(session, keyspace, TABLE) else None
    if known is None and (pipeline.order_by == BY_OFFSET or not _has_rows(session, keyspace, pipeline)):
        return
    if (known or BY_OFFSET) != pipeline.order_by:
        raise _build_order_error(keyspace, pipeline, known or BY_OFFSET)


def _read_order(session: Session, keyspace: str, table: str) -> str | None:
    query = f"SELECT order_by FROM {cql.quote_name(keyspace)}.{TABLE} WHERE table_name = %s"
    row = session.execute(query, (table,)).one()
    return None if row is None else str(row["order_by"])


def _has_rows(session: Session, keyspace: str, pipeline: Pipeline) -> bool:
    if not has_table(session, keyspace, pipeline.table):
        return False
    table = pipeline.build_table(keyspace)
    query = f"SELECT {cql.quote_name(table.partition[0].column)} FROM {cql.render_name(table)}"
    return any(scan_rows(session, query))


def _insert_order(session: Session, keyspace: str, pipeline: Pipeline) -> None:
    """Write the table's entry, unless another process has just written one."""
    query = f"INSERT INTO {cql.quote_name(keyspace)}.{TABLE} (table_name, order_by) VALUES (%s, %s) IF NOT EXISTS"
    session.execute(query, (pipeline.table, pipeline.order_by))
    log.info("table_order_fixed", table=pipeline.table, order_by=pipeline.order_by)


def _build_order_error(keyspace: str, pipeline: Pipeline, known: str) -> PenstockError:
    return PenstockError(
        f"{keyspace}.{pipeline.table} is ordered by {known!r}, but the pipeline declares "
        f"order_by={pipeline.order_by!r}: write timestamps of different orders are not comparable. Nothing was written",
        hint=f"set order_by={known!r} again; or give the pipeline another table, {remedies.restart('spark-job')}, "
        f"then {remedies.replay()}",
    )
