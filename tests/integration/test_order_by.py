"""Versions that Kafka does not order: keyless updates and tombstones in two partitions, by timestamp or by a field."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyspark.sql import SparkSession

from penstock.broker.kafka import create_producer
from penstock.dead_letters.message import parse_message
from penstock.errors import PenstockError
from penstock.sink import cassandra, table_orders
from tests.conftest import Stack
from tests.integration.test_receipts import Lab

BASE_MS = int(time.time() - 3600) * 1000
"""An hour ago: what is older than the topic's retention is deleted sooner or later."""
RECORD = """
from datetime import datetime
from typing import Annotated
from msgspec import Meta
from penstock.contract.record import KEY, Record

class Version(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=20, extra=KEY)]
    at: Annotated[datetime, Meta(tz=True)]
    text: str
    note: str | None = None

def order_of_tombstone(tombstone):
    return datetime.fromisoformat(dict(tombstone.headers)["at"].decode())

def transform(df):
    from pyspark.sql import functions
    return df.withColumn("at", functions.lit("2020-01-01T00:00:00Z").cast("timestamp"))
"""
DEFINITION = "record=Version, from_source=dict, secret=frozenset(), key_format='text'"
TRANSFORMED = "order_by='at', order_of_tombstone=order_of_tombstone, transform=transform, row=Version"


def moment(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def version(record_id: str, second: int, text: Any, note: str | None = None) -> bytes:
    return msgspec.json.encode({"id": record_id, "at": moment(second), "text": text, "note": note})


class Versions(Lab):
    """A topic with two partitions; its records have no key, and a time that says which is the newest."""

    def put(self, partition: int, second: int, value: bytes | None, key: bytes | None = None) -> None:
        """Send a record with this second as Kafka's timestamp and in a header."""
        self.put_at(partition, BASE_MS + second * 1000, value, key, [("at", moment(second).encode())])

    def put_at(self, partition: int, at_ms: int, value: bytes | None, key: bytes | None = None, headers: Any = ()):
        client, topic = create_producer(self.settings), self.pipeline.topic
        client.produce(topic, value, key, partition=partition, timestamp=at_ms, headers=list(headers))
        assert client.flush(60) == 0

    def whole_table(self) -> dict[str, dict[str, Any]]:
        """Return every row with its write time."""
        rows = self.session.execute(f"SELECT id, WRITETIME(text) AS written_us FROM {self.name}")
        times = {row["id"]: row["written_us"] for row in rows}
        return {key: row | {"written_us": times[key]} for key, row in self.rows().items()}

    def differences(self) -> set[tuple[str, str | None]]:
        receipt = self.verify()
        assert receipt.balanced == (not receipt.differences)
        return {(difference.kind, difference.id) for difference in receipt.differences}

    def outcomes(self, key: str) -> set[str]:
        return {passage.outcome for passage in self.trace(key)}


@pytest.fixture
def lab_of(
    stack: Stack, spark: SparkSession, pipeline_file: Callable[..., Path]
) -> Iterator[Callable[[str], Versions]]:
    """Return a factory of labs whose pipeline uses this order."""
    with cassandra.open_session(stack.settings) as session:

        def make(order_by: str) -> Versions:
            lab = Versions(stack, pipeline_file(RECORD, f"{DEFINITION}, {order_by}"), spark, session)
            table_orders.fix_order(session, lab.pipeline.keyspace, lab.pipeline)
            return lab

        yield make


@pytest.mark.parametrize(
    ("order_by", "tied", "again"),
    [
        ("order_by='timestamp'", {"tie"}, ["rebuild", "--yes"]),
        (TRANSFORMED, {"tie", "tie within a batch"}, ["replay"]),
    ],
    ids=["timestamp", "field, transformed"],
)
def test_the_newest_version_is_stored_wherever_it_is(
    lab_of: Callable[[str], Versions], order_by: str, tied: set[str], again: list[str]
) -> None:
    """In any partition and batch, and after a replay. Ties are named, and so are changes by hand."""
    lab = lab_of(order_by)
    lab.put(1, 20, version("update", 20, "newest", "its note"))
    lab.put(0, 30, version("deleted", 30, "older"))
    lab.put(1, 40, None, b"deleted")
    lab.put(0, 50, None, b"gone before")
    lab.put(1, 10, None, b"alive")
    lab.put(0, 7, version("tie within a batch", 7, "zz", "of the one before"))
    lab.put(0, 7, version("tie within a batch", 7, "aa"))
    lab.put(1, 1, version("other", 1, "other"))
    lab.put(0, 5, version("tie", 5, "one", "zz"))
    lab.put(0, 6, version("same", 6, "same"))
    lab.carry_out()
    lab.put(1, 5, version("tie", 5, "other", "aa"))
    lab.put(1, 6, version("same", 6, "same"))
    lab.put(0, 10, version("update", 10, "older"))
    lab.put(1, 49, version("gone before", 49, "older"))
    lab.put(0, 11, version("alive", 11, "newer"))
    lab.put(0, 12, b"{")
    lab.carry_out()

    named = {("unordered", record_id) for record_id in tied}
    assert lab.differences() == named
    before = lab.whole_table()
    texts = {"update": "newest", "alive": "newer", "tie within a batch": "aa", "other": "other", "same": "same"}
    assert {key: row["text"] for key, row in before.items() if key != "tie"} == texts
    assert (before["update"]["note"], before["tie within a batch"]["note"]) == ("its note", None)
    assert lab.outcomes("deleted") == {"stored, deleted by offset 1", "deleted"}
    assert lab.outcomes("update") == {"stored", "stored, superseded by partition 1 offset 0"}

    assert lab.cli(*again).exit_code == 1, "the ties are named"
    after = lab.whole_table()
    assert after.pop("tie")["written_us"] == before["tie"]["written_us"]
    assert after == {key: row for key, row in before.items() if key != "tie"}
    assert lab.differences() == named

    lab.session.execute(f"UPDATE {lab.name} SET text = 'by hand' WHERE id = 'alive'")
    lab.session.execute(f"DELETE FROM {lab.name} WHERE id = 'other'")
    assert lab.differences() == named | {("foreign", "alive"), ("missing", "other")}


def test_a_redriven_record_keeps_its_first_kafka_timestamp(lab_of: Callable[[str], Versions]) -> None:
    """A newer version supersedes it, an older one does not; one from the future gets a new timestamp when it is
    redriven.
    """
    lab = lab_of("order_by='timestamp'")
    lab.put(0, 1, version("superseded", 1, 5))
    lab.put(1, 9, version("superseded", 9, "newer"))
    lab.put(0, 7, version("mended", 7, 5))
    lab.put(1, 6, version("mended", 6, "older"))
    lab.put_at(0, (round(time.time()) + 600) * 1000, version("future", 1, "text"))
    lab.carry_out()
    reasons = [parse_message(message).reason for message in lab.dead_letters()]
    assert sorted(reasons) == ["contract_broken", "contract_broken", "order_unknown"]
    assert lab.differences() == set()

    done = lab.cli("dlq", "redrive", "--reason", "contract_broken", "--set", "text=mended")
    assert done.exit_code == 0, done.output
    assert lab.cli("dlq", "redrive", "--reason", "order_unknown").exit_code == 0
    lab.put(1, 8, version("mended", 8, "newest"))
    lab.carry_out()
    before = lab.whole_table()
    assert {key: row["text"] for key, row in before.items()} == {
        "superseded": "newer",
        "mended": "newest",
        "future": "text",
    }
    assert lab.differences() == set()
    assert lab.verify().queue == {"waiting": 0, "redriven": 2, "superseded": 1, "discarded": 0}
    assert lab.cli("rebuild", "--yes").exit_code == 0
    assert lab.whole_table() == before


def test_what_a_field_cannot_order_is_dead_lettered(lab_of: Callable[[str], Versions]) -> None:
    """A tombstone without a function for it, and a value in the future; the table keeps its order permanently."""
    lab = lab_of("order_by='at'")
    lab.put(0, 1, version("kept", 1, "text"))
    lab.put(1, 2, None, b"kept")
    lab.put(1, 3, version("future", 3, "text").replace(b"2026", b"2999"))
    lab.carry_out()
    letters = [parse_message(message) for message in lab.dead_letters()]
    assert sorted((letter.reason, letter.rules) for letter in letters) == [
        ("contract_broken", ("at:date",)),
        ("order_unknown", ()),
    ]
    assert list(lab.whole_table()) == ["kept"]
    assert lab.differences() == set()
    assert "ordered by the field at" in str(lab.cli("dlq", "redrive", "--as-new").exception)
    for order_by in ("timestamp", "offset"):
        other = replace(lab.pipeline, order_by=order_by)
        with pytest.raises(PenstockError, match="is ordered by 'at'"):
            table_orders.fix_order(lab.session, lab.pipeline.keyspace, other)
