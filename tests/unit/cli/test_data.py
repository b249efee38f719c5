import os
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from cassandra import InvalidRequest
from cassandra.util import Date, Time
from msgspec import Meta
from typer.testing import CliRunner

from penstock import pipelines
from penstock.cli import app
from penstock.contract.record import KEY, Record
from penstock.errors import PenstockError, UsageError
from penstock.pipelines import Pipeline
from penstock.sink import cassandra
from tests.unit.fakes import FakeSession
from tests.unit.keyed import SAMPLES
from tests.unit.records import Scalars

ID = "91c38129-e067-4af8-8705-7d8376747cef"
POSITION = {"kafka_partition": 1, "kafka_offset": 3}
NAMES = {"first_name": "Åse", "last_name": "Li"}
ROW = {"id": UUID(ID)} | NAMES | {"post_code": "0150", "phone": None, "nationality": "NO"} | POSITION


@pytest.fixture
def table(monkeypatch):
    """Set the table's rows and their TTL, or the error of a query, and return the session."""

    def make(*rows, error=None, ttl_s=None):
        session = FakeSession(lambda query, _: [{"ttl_s": ttl_s}] if "TTL(" in query else list(rows), error)
        monkeypatch.setattr(cassandra, "connect", lambda _settings: session)
        return session

    return make


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_rows_shows_the_main_columns(table):
    """`rows` prints the main columns and queries only the requested number of rows."""
    session = table(ROW)
    result = run("rows", "--limit", "5")
    assert result.exit_code == 0
    heads, line = result.stdout.splitlines()
    assert heads.split() == ["id", *NAMES, "post_code", "nationality", *POSITION]
    assert line.split() == [ID, "Åse", "Li", "0150", "NO", "1", "3"]
    assert session.executed == [("SELECT * FROM spark_streams.created_users LIMIT 5", ())]
    assert session.cluster.is_shutdown


def test_rows_as_json_are_complete(table):
    """`rows --json` prints all columns of all rows."""
    table(ROW, ROW)
    assert msgspec.json.decode(run("rows", "--json").stdout) == [ROW | {"id": ID}] * 2


def test_rows_of_another_table_show_all_columns(table):
    """A pipeline with other columns prints all of them."""
    table({"sensor": 1, "celsius": 2.5})
    assert run("rows").stdout.splitlines()[0].split() == ["sensor", "celsius"]


def test_without_rows_the_output_says_what_to_do(table):
    """An empty table is reported on stderr with the command that fills it."""
    table()
    result = run("rows")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "the table is empty; to fill it: ./penstock run\n"
    assert run("rows", "--json").stdout == "[]\n"


def test_one_row_is_shown_by_column(table):
    """`row ID` prints one column per line, in the record's order. The id is a bound parameter."""
    session = table({name: ROW[name] for name in sorted(ROW)})
    lines = run("row", ID).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["column", *ROW]
    assert session.executed[0] == ("SELECT * FROM spark_streams.created_users WHERE id = ? LIMIT 1", (UUID(ID),))
    assert msgspec.json.decode(run("row", ID, "--json").stdout)["first_name"] == "Åse"


def test_a_row_that_expires_says_when(table):
    """It is said on stderr, so that the row's JSON stays that of its columns."""
    table(ROW, ttl_s=3600)
    result = run("row", ID, "--json")
    assert msgspec.json.decode(result.stdout).keys() == ROW.keys()
    said = result.stderr.removeprefix("the row expires at ").strip()
    assert 3590 < (datetime.fromisoformat(said) - datetime.now(UTC)).total_seconds() <= 3600


def test_a_missing_row_is_an_error(table):
    """An id without a row is an error that names the id."""
    table()
    with pytest.raises(PenstockError, match=f"no row with id {ID}"):
        raise run("row", ID).exception


def test_a_missing_table_is_an_error(table):
    """Before the job creates the table, the error says so without the driver's traceback."""
    table(error=InvalidRequest("keyspace spark_streams does not exist"))
    failed = run("rows").exception
    assert type(failed) is PenstockError
    assert "keyspace spark_streams does not exist" in failed.message


def test_cql_runs_cqlsh(monkeypatch):
    """`cql` opens cqlsh on the pipeline's keyspace and passes other arguments to it."""
    monkeypatch.setenv("PENSTOCK_CASSANDRA_HOSTS", "c1,c2")
    became = []
    monkeypatch.setattr(os, "execv", lambda path, command: became.append((path, command)))
    run("cql", "-e", "SELECT 1")
    assert became == [
        (
            sys.executable,
            [sys.executable, "-m", "cqlshlib", "c1", "9042", "-k", "spark_streams", "-e", "SELECT 1"],
        )
    ]


def test_names_in_row_queries_are_quoted(table, monkeypatch):
    """Queries quote names: a key that is a reserved word, a table with upper case."""
    record = msgspec.defstruct("Item", [("order", Annotated[int, Meta(ge=0, le=9, extra=KEY)])], bases=(Record,))
    pipeline = Pipeline(topic="t", keyspace="lab", table="Items", record=record, from_source=dict)
    monkeypatch.setattr(pipelines, "of", lambda _settings: pipeline)
    session = table({"order": 7})
    assert run("row", "7").exit_code == 0
    condition = """FROM lab."Items" WHERE "order" = ?"""
    assert [query.partition(" FROM")[0] for query, _ in session.executed] == [
        "SELECT *",
        "SELECT TTL(kafka_offset) AS ttl_s",
    ]
    assert all(condition in query and values == (7,) for query, values in session.executed)


def test_values_of_the_other_types_are_shown_as_messages_have_them(table, monkeypatch):
    """As a table and as JSON: decimals in digits, dates, times and durations in ISO 8601, bytes in Base64."""
    pipeline = Pipeline(topic="t", keyspace="lab", table="deals", record=Scalars, from_source=dict)
    monkeypatch.setattr(pipelines, "of", lambda _settings: pipeline)
    cells = {
        "price": Decimal("0E-8"),
        "day": Date(19782),
        "opens": Time(10**9),
        "lasts": 3_600_000_000,
        "hash": b"\xff",
    }
    shown = {"price": "0.00000000", "day": "2024-02-29", "opens": "00:00:01", "lasts": "PT3600S", "hash": "/w=="}
    table({"id": UUID(ID)} | cells)
    assert msgspec.json.decode(run("row", ID, "--json").stdout) == {"id": ID} | shown
    assert msgspec.json.decode(run("rows", "--json").stdout) == [{"id": ID} | shown]
    assert [line.split()[1] for line in run("row", ID).stdout.splitlines()] == ["value", ID, *shown.values()]


def test_a_row_is_found_by_a_value_for_each_key_field(table, monkeypatch):
    """In declared order, or by the JSON object that is the Kafka key; the whole primary key selects it."""
    monkeypatch.setattr(pipelines, "of", lambda _settings: SAMPLES)
    row = {"sensor": "s1", "at_day": Date(20484), "at": datetime(2026, 1, 31, 23), "celsius": 1.5}
    at = datetime(2026, 1, 31, 23, tzinfo=UTC)
    for words in (["s1", "2026-02-01T01:00:00+02:00"], ['{"at": "2026-01-31T23:00:00Z", "sensor": "s1"}']):
        session = table(row)
        shown = msgspec.json.decode(run("row", *words, "--json").stdout)
        assert list(shown.items())[:2] == [("sensor", "s1"), ("at", "2026-01-31T23:00:00")]
        query = "SELECT * FROM lab.samples WHERE sensor = ? AND at_day = ? AND at = ? LIMIT 1"
        assert session.executed[0] == (query, ("s1", at.date(), at))


@pytest.mark.parametrize("command", ["row", "trace"])
def test_an_id_of_too_few_fields_is_wrong_use(table, monkeypatch, command):
    """The message has the fields, their types and an example."""
    monkeypatch.setattr(pipelines, "of", lambda _settings: SAMPLES)
    table()
    result = run(command, "s1")
    assert isinstance(result.exception, UsageError)
    assert "expected sensor (text) and at (timestamp)" in result.exception.message
    assert "./penstock row sensor-1 2026-01-31T12:00:00.000Z" in str(result.exception.hint)
