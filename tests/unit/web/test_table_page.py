"""The order of a table's columns on its page."""

from types import SimpleNamespace
from typing import Annotated

import msgspec
from msgspec import Meta

from penstock.contract.record import KEY, Record
from penstock.web.table import page as table

Id = Annotated[str, Meta(min_length=1, max_length=9, extra=KEY)]


def test_the_key_column_is_first():
    """By the column's name, whatever messages call it; then the arrival time, and the rest in its own order."""
    record = msgspec.defstruct("Item", [("to", str), ("item_id", Id)], bases=(Record,), rename="camel", kw_only=True)
    visit = SimpleNamespace(context=SimpleNamespace(pipeline=SimpleNamespace(stored=record)))
    columns = ["to", "item_id", "ingested_at", "kafka_partition", "kafka_offset"]
    assert table._order_columns(visit, columns) == ["item_id", "ingested_at", "to"]
