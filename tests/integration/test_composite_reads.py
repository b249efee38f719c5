"""Rows whose identity has several fields are read from the real Cassandra: by scans, lookups and pages."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cassandra.cluster import Session

from penstock.contract import cql
from penstock.contract.identity import identity_of
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.spark_loading import split_tokens
from penstock.sink import cassandra
from penstock.web.table.table_reader import TableReader
from tests.integration.streaming import Topic
from tests.integration.test_composite_keys import DEFINITION, EVERY_TYPE, SERIES, keyed_of, sample_of, send, text_of

START = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
PERSONAL = (
    "from penstock.contract.record import PERSONAL\n"
    + SERIES.replace("max_length=100, extra=KEY)", "max_length=100, extra=KEY | PERSONAL)").lstrip()
)
Read = tuple[Topic, list[str], Session]


@pytest.fixture(params=["every type", "series", "personal"])
def stored(request: pytest.FixtureRequest, topic: Callable[..., Topic]) -> Iterator[Read]:
    """A stored pipeline, the texts of its ids, and a session."""
    if request.param == "every type":
        read = topic(f"import msgspec\n{EVERY_TYPE}", f"record=Keyed, {DEFINITION} primary_key=KEY_OF_ALL")
        identity = identity_of(read.pipeline.record)
        records = [
            keyed_of(read.pipeline.record, number, START + timedelta(minutes=15 * (number % 2)))
            for number in range(-9, 10)
        ]
        messages = [(identity.key_of(record), msgspec.json.encode(record)) for record in records]
    else:
        text = SERIES if request.param == "series" else PERSONAL
        read = topic(text, f"record=Sample, {DEFINITION} primary_key=BY_DAY")
        ids = [(f"s{at % 2}", START + timedelta(minutes=at, milliseconds=at)) for at in range(60)]
        messages = [(text_of(*record_id), sample_of(*record_id, 1.0)) for record_id in ids]
    send(read, messages)
    assert read.store().stored == len(messages)
    with cassandra.open_session(read.settings) as session:
        yield read, sorted(key.decode() for key, _ in messages), session


def test_pages_have_every_row_once(stored: Read) -> None:
    """In the order in which a scan finds them, whatever the size of a page; each id leads to its row."""
    topic, ids, session = stored
    reader = TableReader(topic.settings, session, topic.pipeline)
    whole = reader.read_page(rows=500)
    assert (sorted(whole.ids), whole.next) == (ids, None)
    for size in (1, 7):
        page = reader.read_page(rows=size)
        read, rows = list(page.ids), list(page.rows)
        while page.next is not None:
            page = reader.read_page(page.next, rows=size)
            read += page.ids
            rows += page.rows
        assert (read, rows) == (whole.ids, whole.rows)
    assert [reader.read_row(record_id).columns for record_id in ids[:3]] == [
        whole.rows[whole.ids.index(record_id)] for record_id in ids[:3]
    ]


def test_scans_and_lookups_give_the_ids_of_the_records(stored: Read) -> None:
    """Ranges of tokens have each row once."""
    topic, ids, session = stored
    auditor = Auditor(topic.settings, session)
    assert sorted(record_id for columns in auditor.row_columns() for record_id in columns[0]) == ids
    by_range = [auditor.row_columns(tokens) for tokens in split_tokens(5)]
    assert sorted(record_id for pieces in by_range for columns in pieces for record_id in columns[0]) == ids
    assert sorted(row.id for row in auditor.rows_of(ids)) == ids


def test_a_row_with_a_moment_beyond_python_is_named(topic: Callable[..., Topic]) -> None:
    """Another program wrote it; the scan goes on."""
    series = topic(SERIES, f"record=Sample, {DEFINITION} primary_key=BY_DAY")
    table = cassandra.declared_table(series.settings, series.pipeline)
    with cassandra.open_session(series.settings) as session:
        for ms in (10**15, -(10**15), 0):
            values = f"('s', '2026-01-31', {ms}, 1)"
            session.execute(f"INSERT INTO {cql.render_name(table)} (sensor, at_day, at, celsius) VALUES {values}")
        columns = list(Auditor(series.settings, session).row_columns())
    assert sorted(record_id for piece in columns for record_id in piece[0]) == [
        '{"at":"-1000000000000000 ms","sensor":"s"}',
        '{"at":"1000000000000000 ms","sensor":"s"}',
        '{"at":"1970-01-01T00:00:00.000Z","sensor":"s"}',
    ]
