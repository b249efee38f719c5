"""The order of a table's columns on its page."""

from types import SimpleNamespace
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from penstock.contract.identity import identity_of
from penstock.contract.masking import MASK
from penstock.contract.record import KEY, Record
from penstock.web.table import page as table
from tests.unit.keyed import SAMPLES, Sample

Id = Annotated[str, Meta(min_length=1, max_length=9, extra=KEY)]


def test_the_key_column_is_first():
    """By the column's name, whatever messages call it; then the arrival time, and the rest in its own order."""
    record = msgspec.defstruct("Item", [("to", str), ("item_id", Id)], bases=(Record,), rename="camel", kw_only=True)
    visit = SimpleNamespace(context=SimpleNamespace(pipeline=SimpleNamespace(stored=record)))
    columns = ["to", "item_id", "ingested_at", "kafka_partition", "kafka_offset"]
    assert table._order_columns(visit, columns) == ["item_id", "ingested_at", "to"]


def test_all_key_columns_are_first():
    """In the order of the record."""
    visit = SimpleNamespace(context=SimpleNamespace(pipeline=SAMPLES))
    columns = ["celsius", "at_day", "at", "sensor", "ingested_at", "kafka_partition", "kafka_offset"]
    assert table._order_columns(visit, columns) == ["sensor", "at", "ingested_at", "celsius", "at_day"]


def test_a_row_is_linked_by_its_id_unless_it_is_hidden():
    """Quoted, so that any text is one part of the path."""
    visit = SimpleNamespace(context=SimpleNamespace(pipeline=SAMPLES))
    columns = {"sensor": "a/b", "celsius": 1}
    linked = table._render_row(visit, '{"sensor":"a/b?"}', columns, list(columns), with_place=False)
    assert linked == ['<a href="/table/rows/%7B%22sensor%22%3A%22a%2Fb%3F%22%7D">a/b</a>', "1"]
    hidden = table._render_row(visit, MASK, columns | {"sensor": MASK}, list(columns), with_place=False)
    assert "href" not in hidden[0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["s1", "2026-01-31T12:00:00Z"], '{"sensor": "s1", "at": "2026-01-31T12:00:00Z"}'),
        (['{"sensor":1}', ""], '{"sensor":1}'),
        (["", ""], ""),
        (["s1", ""], None),
        (["", "2026-01-31T12:00:00Z"], None),
    ],
)
def test_an_id_is_entered_field_by_field(values, text):
    """Or as a whole in the first field; an incomplete one is none."""
    assert table.build_id_text(identity_of(Sample), values) == text


def test_an_id_of_one_field_is_entered_as_it_is():
    """Whatever it begins with."""
    record = msgspec.defstruct("Item", [("item_id", Id)], bases=(Record,), kw_only=True)
    assert table.build_id_text(identity_of(record), ["{"]) == "{"
