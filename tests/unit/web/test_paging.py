"""Pages of a table with clustering columns, from one in memory that answers like Cassandra."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from cassandra.util import Date
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.identity import identity_of
from penstock.contract.masking import MASK
from penstock.contract.primary_key import PrimaryKey
from penstock.contract.record import KEY, PERSONAL, Record
from penstock.errors import NotFound, UsageError
from penstock.web.table.api import mask_page
from penstock.web.table.table_reader import TableReader
from tests.unit.carried import settings_in
from tests.unit.fakes import FakeSession
from tests.unit.keyed import SAMPLES, Sample

START = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)


class Visit(Record, frozen=True, kw_only=True):
    """Rows of a partition in mixed order, by a person's address."""

    email: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY | PERSONAL)]
    page: Annotated[int, Meta(extra=KEY)]
    day: Annotated[date, Meta(extra=KEY)]


class Click(Record, frozen=True, kw_only=True):
    """The same without personal data."""

    email: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]
    page: Annotated[int, Meta(extra=KEY)]
    day: Annotated[date, Meta(extra=KEY)]


VISITS = replace(SAMPLES, table="visits", record=Visit, primary_key=PrimaryKey(("email",), ("page DESC", "day")))
CLICKS = replace(VISITS, record=Click)


class Held:
    """A table's rows in Cassandra's order: by token, then by clustering columns."""

    def __init__(self, pipeline, ids) -> None:
        self.table, self.identity = pipeline.build_table("lab"), identity_of(pipeline.record)
        self.session = FakeSession(self.answer)
        partitions = sorted({self.partition_of(record_id) for record_id in ids})
        tokens = {partition: 10 * at - 20 for at, partition in enumerate(partitions)}
        rows = [(tokens[self.partition_of(record_id)], self.table.key_values(record_id)) for record_id in set(ids)]
        for at, column in reversed(list(enumerate(self.table.key))):
            rows.sort(key=lambda row, at=at: row[1][at], reverse=column.is_descending)
        self.rows = sorted(rows, key=lambda row: row[0])

    def partition_of(self, record_id):
        return self.table.key_values(record_id)[: len(self.table.partition)]

    def answer(self, query, values):
        if "system_schema.tables" in query:
            return []
        if "system_schema.columns" in query:
            return [
                {"column_name": name, "type": kind, "kind": "regular", "position": -1, "clustering_order": "none"}
                for name, kind in self.table.columns.items()
            ]
        limit = re.search(r" LIMIT (\d+|\?)$", query)
        most = None
        if limit:
            *values, most = [*values, int(limit[1])] if limit[1] != "?" else values
        kept = [row for row in self.rows if self.matches(row, query, values)]
        return [self.convert(*row) for row in kept[:most]]

    def matches(self, row, query, values):
        token, key = row
        condition = query.partition(" WHERE ")[2].partition(" LIMIT ")[0]
        if match := re.match(r"token\(.*?\) (=|>) (-?\d+)$", condition):
            return token == int(match[2]) if match[1] == "=" else token > int(match[2])
        if re.match(r"token\(.*?\) > token\(", condition):
            (of_values,) = {token for token, key in self.rows if key[: len(values)] == tuple(values)}
            return token > of_values
        columns = [column.column for column in self.table.key]
        terms = re.findall(r'"?(\w+)"? (=|<|>) \?', condition)
        compare = {"=": lambda a, b: a == b, "<": lambda a, b: a < b, ">": lambda a, b: a > b}
        cells = zip(terms, values, strict=True)
        return all(compare[sign](key[columns.index(name)], value) for (name, sign), value in cells)

    def convert(self, token, key):
        cells = {column.column: _as_driver(value) for column, value in zip(self.table.key, key, strict=True)}
        return dict.fromkeys(self.table.columns, None) | cells | {"row_position": token, "written_us": 5}


def _as_driver(value):
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return Date(value) if isinstance(value, date) else value


def samples(sensors, rows):
    """Ids of the same number of rows of each sensor, which fill two partitions: two hours, around midnight."""
    return [(f"s{at}", START + timedelta(hours=2) * n / rows) for at in range(sensors) for n in range(rows)]


def walk(reader, rows):
    pages = [reader.read_page(rows=rows)]
    while pages[-1].next is not None:
        pages.append(reader.read_page(pages[-1].next, rows=rows))
    return pages


@pytest.mark.parametrize("pipeline", [VISITS, CLICKS], ids=["personal", "plain"])
@given(
    ids=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.dates(date(2026, 1, 1), date(2026, 1, 3)))),
    rows=st.integers(1, 4),
)
def test_pages_have_every_row_once_in_the_tables_order(pipeline, ids, rows):
    """Whatever the size of pages and partitions, and the order of the clustering columns."""
    held = Held(pipeline, ids)
    pages = walk(TableReader(settings_in(Path("unused")), held.session, pipeline), rows)
    expected = held.identity.texts_of([_id_of(held, key) for _, key in held.rows])
    assert [record_id for page in pages for record_id in page.ids] == expected
    assert all(len(page.rows) == rows for page in pages[:-1])


def _id_of(held, key):
    named = dict(zip((column.column for column in held.table.key), key, strict=True))
    return held.identity.of_values([named[column] for column in held.identity.columns])


def test_a_page_continues_within_a_partition(settings):
    """After an id that is no personal data; the day of the moment is part of the partition key."""
    held = Held(SAMPLES, samples(1, 4))
    reader = TableReader(settings, held.session, SAMPLES)
    page = reader.read_page(rows=1)
    assert page.next == page.ids[0] == '{"at":"2026-01-31T23:30:00.000Z","sensor":"s0"}'
    held.session.executed.clear()
    assert reader.read_page(page.next, rows=1).ids == ['{"at":"2026-01-31T23:00:00.000Z","sensor":"s0"}']
    queries = [query.partition(" WHERE ")[2] for query, _ in held.session.executed if "FROM lab" in query]
    assert queries == [
        "sensor = ? AND at_day = ? AND at < ? LIMIT ?",
        "token(sensor, at_day) > token(?, ?) LIMIT ?",
    ]


def test_positions_hide_ids_that_are_personal(settings):
    """They count the rows of the partition so far, also over several pages; masked pages have no ids."""
    ids = [("ada@example.org", page, date(2026, 1, 1)) for page in range(5)]
    reader = TableReader(settings, Held(VISITS, ids).session, VISITS)
    pages = walk(reader, 2)
    assert [page.next for page in pages] == ["-20:2", "-20:4", None]
    masked = mask_page(pages[0], SimpleNamespace(pipeline=VISITS), masks=True)
    assert masked.ids == [MASK, MASK]
    assert [row["email"] for row in masked.rows] == [MASK, MASK]


def test_columns_derived_from_keys_are_masked_like_these(settings):
    """They are no fields of the record."""
    held = Held(SAMPLES, samples(1, 1))
    page = TableReader(settings, held.session, SAMPLES).read_page()
    (row,) = mask_page(page, SimpleNamespace(pipeline=SAMPLES), masks=True).rows
    assert (row["at_day"], row["sensor"]) == ("2026-01-31", "s0")


@pytest.mark.parametrize(
    "after", ["x", "1:", "1:x", "1:2:3", "{}", '{"sensor":"s0"}', '{"sensor":"","at":"2026-01-31T23:00:00Z"}', "1" * 99]
)
def test_an_invalid_position_is_a_usage_error(settings, after):
    """Before any query."""
    held = Held(SAMPLES, [])
    with pytest.raises(UsageError, match="invalid page"):
        TableReader(settings, held.session, SAMPLES).read_page(after)
    assert held.session.executed == []


def test_a_row_of_several_key_fields_is_read_by_the_whole_key(settings):
    """Its derived columns are computed; an id may have its fields in any order, and a moment any zone."""
    held = Held(SAMPLES, samples(2, 4))
    reader = TableReader(settings, held.session, SAMPLES)
    row = reader.read_row('{ "sensor": "s1", "at": "2026-02-01T01:30:00+02:00" }')
    assert row.id == '{"at":"2026-01-31T23:30:00.000Z","sensor":"s1"}'
    assert held.session.executed[-1][0].endswith(" FROM lab.samples WHERE sensor = ? AND at_day = ? AND at = ?")
    assert (row.columns["at_day"], row.columns["at"]) == ("2026-01-31", START + timedelta(minutes=30))
    with pytest.raises(NotFound, match="no row") as caught:
        reader.read_row('{"at":"2026-01-31T23:30:01.000Z","sensor":"s1"}')
    assert caught.value.hint == """./penstock trace '{"at":"2026-01-31T23:30:01.000Z","sensor":"s1"}'"""


def test_texts_of_an_id_are_those_of_the_record_not_of_the_row(settings):
    """A transform's row may name its fields otherwise in messages, which it never is."""

    class Stored(Sample, frozen=True, kw_only=True, rename={"sensor": "device"}):
        """The same key under another name."""

    pipeline = replace(SAMPLES, row=Stored, transform=lambda df: df)
    held = Held(SAMPLES, samples(1, 1))
    assert TableReader(settings, held.session, pipeline).read_page().ids == [
        '{"at":"2026-01-31T23:00:00.000Z","sensor":"s0"}'
    ]
