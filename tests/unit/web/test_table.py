"""Pages of rows, from a table in memory."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated
from uuid import UUID

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.util import Date, Time
from msgspec import Meta

from penstock.contract.masking import MASK, mask_personal
from penstock.contract.record import KEY, Record
from penstock.errors import CassandraUnreachable, NotFound, PenstockError, UsageError
from penstock.pipelines.users import PIPELINE
from penstock.web.table.table_reader import TableReader
from tests.unit.fakes import FakeSession
from tests.unit.records import Scalars

COLUMNS = {"id": "uuid", "first_name": "text", "ingested_at": "timestamp", "kafka_offset": "bigint", "odd": "text"}
WHEN = datetime(2026, 1, 2, 3, 4, 5)


class Held:
    """A table with `count` rows, with tokens ten apart, from -20 on."""

    def __init__(self, count: int) -> None:
        self.rows = [
            {
                "id": UUID(int=at),
                "first_name": f"name {at}",
                "ingested_at": WHEN,
                "kafka_offset": at,
                "odd": None,
                "row_position": 10 * at - 20,
                "written_us": 1000 + at,
                "ttl_s": 60 if at == 1 else None,
            }
            for at in range(count)
        ]
        self.columns = dict(COLUMNS)
        self.session = FakeSession(self.answer)

    def answer(self, query, values):
        if "system_schema.tables" in query:
            return []
        if "system_schema.columns" in query:
            kinds = {"id": "partition_key"}
            return [
                {
                    "column_name": name,
                    "type": kind,
                    "kind": kinds.get(name, "regular"),
                    "position": -1,
                    "clustering_order": "none",
                }
                for name, kind in self.columns.items()
            ]
        if "system_schema.tables" in query:
            return []
        if query.startswith("DESCRIBE"):
            return [{"create_statement": "CREATE TABLE"}]
        if " = ?" in query:
            return [row for row in self.rows if row["id"] == values[0]]
        behind = re.search(r"> (-?\d+)", query)
        limit = int(query.rpartition("LIMIT ")[2])
        return [row for row in self.rows if behind is None or row["row_position"] > int(behind[1])][:limit]


@pytest.fixture
def held():
    return Held(5)


@pytest.fixture
def table(held, settings):
    return TableReader(settings, held.session, PIPELINE)


def test_pages_cover_the_table_to_the_end(table):
    """No row is duplicated or omitted; the last page has no next one."""
    pages = [table.read_page(rows=2)]
    while pages[-1].next is not None:
        pages.append(table.read_page(pages[-1].next, rows=2))
    assert [[row["kafka_offset"] for row in page.rows] for page in pages] == [[0, 1], [2, 3], [4]]
    assert [page.next for page in pages] == ["-10", "10", None]
    assert [page.passed for page in pages] == [0.5, 0.5, 1.0]


def test_a_full_page_may_be_the_last(table):
    """It says so."""
    assert table.read_page(rows=5).next is None


def test_a_page_queries_only_its_rows(table, held):
    """Neither a count nor all rows; each query has a limit, whatever is requested."""
    table.read_page("-10", rows=1_000_000)
    (query,) = [query for query, _ in held.session.executed if "FROM spark_streams" in query]
    assert query.endswith("WHERE token(id) > -10 LIMIT 501")
    assert "count" not in query.lower()


def test_columns_are_in_the_records_order(table):
    """Other columns of the table are last."""
    page = table.read_page()
    assert page.columns == list(COLUMNS)
    assert list(page.rows[0]) == page.columns


def test_times_have_their_zone(table):
    """The driver omits it."""
    assert table.read_page().rows[0]["ingested_at"] == WHEN.replace(tzinfo=UTC)


@pytest.mark.parametrize("token", ["x", "1.5", "1; DROP TABLE t", str(2**63), str(-(2**63) - 1), "9" * 5000])
def test_an_invalid_page_is_a_usage_error(table, held, token):
    """Before any query."""
    with pytest.raises(UsageError, match="invalid page"):
        table.read_page(token)
    assert held.session.executed == []


def test_one_row_is_read_by_its_id(table):
    """With its write timestamp."""
    row = table.read_row(str(UUID(int=3)))
    assert (row.id, row.columns["kafka_offset"], row.written_us) == (str(UUID(int=3)), 3, 1003)
    assert "written_us" not in row.columns
    assert row.expires_at is None


def test_a_row_that_expires_says_when(table):
    """In UTC, to the second."""
    row = table.read_row(str(UUID(int=1)))
    assert row.expires_at is not None
    assert 50 < (row.expires_at - datetime.now(UTC)).total_seconds() <= 60
    assert "ttl_s" not in row.columns


def test_an_id_without_a_row_is_an_error(table):
    """The error has the command that searches further."""
    with pytest.raises(NotFound, match="no row with the id") as caught:
        table.read_row(str(UUID(int=77)))
    assert caught.value.hint == f"./penstock trace {UUID(int=77)}"


def test_an_invalid_id_is_an_error(table):
    """It says why."""
    with pytest.raises(UsageError, match="invalid id 'x'"):
        table.read_row("x")


def test_a_missing_table_is_an_error(table, held):
    """It says what creates it, and what to type."""
    held.columns = {}
    for ask in (table.read_page, table.read_definition, lambda: table.read_row(str(UUID(int=1)))):
        with pytest.raises(NotFound, match=r"no table spark_streams\.created_users yet"):
            ask()


def test_a_table_of_another_program_has_no_write_timestamps(table, held):
    """Without a position in Kafka there is none to query."""
    held.columns.pop("kafka_offset")
    table.read_row(str(UUID(int=1)))
    assert "WRITETIME" not in held.session.executed[-1][0]


def test_the_definition_is_cassandras(table):
    """As Cassandra tells it."""
    assert table.read_definition() == "CREATE TABLE"


@pytest.mark.parametrize(
    ("error", "kind"), [(OperationTimedOut(), CassandraUnreachable), (InvalidRequest("no"), PenstockError)]
)
def test_cassandras_errors_are_translated(settings, error, kind):
    """Unavailable, or rejected."""
    broken = SimpleNamespace(execute=lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(kind):
        TableReader(settings, broken, PIPELINE).read_page()


class Item(Record, frozen=True, kw_only=True, rename="camel"):
    """A key that is a reserved word, and a column with capitals in a table called `table`."""

    order: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    unit_price: float
    soldBy: str  # noqa: N815


def test_names_are_quoted_where_necessary(settings):
    """Columns, key and table, those of other programs too; they are shown as in the table."""
    pipeline = replace(PIPELINE, keyspace="Lab", table="table", record=Item)
    row = {"order": "o", "unit_price": 1.0, "soldBy": "ann", 'odd"': 1}

    def answer(query, _values):
        if "system_schema.tables" in query:
            return []
        if "system_schema" in query:
            return [
                {"column_name": name, "type": "text", "kind": "regular", "position": -1, "clustering_order": "none"}
                for name in row
            ]
        return [row]

    session = FakeSession(answer)
    table = TableReader(settings, session, pipeline)
    assert table.read_page().columns == ["order", "unit_price", "soldBy", 'odd"']
    asked = 'SELECT "order", unit_price, "soldBy", "odd""", token("order") AS row_position FROM "Lab"."table" LIMIT 51'
    assert session.executed[-1][0] == asked
    assert table.read_row("o").columns == row
    assert session.executed[-1][0].endswith('FROM "Lab"."table" WHERE "order" = ?')


def test_values_of_the_other_types_are_those_of_messages(settings):
    """As text that JSON and the page can show, personal data masked by name like any other."""
    held = Held(1)
    row = {"price": Decimal("0E-8"), "day": Date(19782), "opens": Time(5), "lasts": 5, "hash": b"\xff", "count": 7}
    held.columns |= dict.fromkeys(row, "any")
    held.rows[0] |= row
    page = TableReader(settings, held.session, replace(PIPELINE, record=Scalars)).read_page()
    shown = {name: page.rows[0][name] for name in row}
    assert shown == {
        "price": "0.00000000",
        "day": "2024-02-29",
        "opens": "00:00:00",
        "lasts": "PT0.000005S",
        "hash": "/w==",
        "count": 7,
    }
    json.dumps(shown)
    assert mask_personal(shown | {"born": "2024-02-29"}, Scalars) == shown | {"born": MASK}
