"""What expires in the real Kafka and Cassandra is excused; a loss next to it is named."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra import ReadFailure
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import SimpleStatement
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from pyspark.sql import SparkSession

from penstock.broker import admin, topics
from penstock.broker.kafka import create_admin as admin_client
from penstock.broker.kafka import create_producer
from penstock.broker.topics import Position
from penstock.contract.order import murmur2
from penstock.errors import KafkaUnreachable
from penstock.produce import delivery_log
from penstock.produce.delivery_log import DeliveryLog
from penstock.reconcile.verify import TopicReceipt
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.sink.scan import PAGE_ROWS, scan_rows
from tests.conftest import Stack
from tests.integration.test_receipts import Lab, list_differences, value_of

TTL_S = 5
CLEANED_SOON = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
}


@pytest.fixture
def lab(stack: Stack, spark: SparkSession, pipeline_file: Callable[..., Path]) -> Iterator[Lab]:
    with cassandra.open_session(stack.settings) as session:
        yield Lab(stack, pipeline_file(), spark, session)


@pytest.fixture
def eager_cleaner(stack: Stack) -> Iterator[None]:
    """Let the broker's log cleaner look for work five times per second instead of every 15 s."""
    client = admin_client(stack.settings)
    (broker, *_) = client.list_topics(timeout=30).brokers

    def alter(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("log.cleaner.backoff.ms", "200", incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.BROKER, str(broker), incremental_configs=[entry])
        client.incremental_alter_configs([resource])[resource].result(30)

    alter(AlterConfigOpType.SET)
    yield
    alter(AlterConfigOpType.DELETE)


def roll(lab: Lab, apart_from: str) -> None:
    """Send an invalid record to each partition, which is old enough to make it roll its segment.

    Its dead letter is in another partition of that topic than one of the key `apart_from` would be, and excuses none.
    """
    client, other = create_producer(lab.settings), murmur2(apart_from.encode()) % 2
    keys = (key for key in (uuid.uuid4().hex.encode() for _ in count()) if murmur2(key) % 2 != other)
    for partition in (0, 1):
        client.produce(lab.pipeline.topic, b"junk", next(keys), partition=partition)
    assert client.flush(60) == 0


def wait_until_compacted(lab: Lab, keys: set[str]) -> None:
    """Return once no key has more than one record left."""

    def check() -> None:
        held = Counter(message.key().decode() for message in lab.messages())
        if any(held[key] > 1 for key in keys):
            raise KafkaUnreachable(f"{held.total()} records of {len(held)} keys")

    wait_until(check, timeout_s=60, what="compaction")


WHEN = {"at": "", "seconds": 0.0}


def compared(receipt: TopicReceipt) -> Any:
    """Return the content of a receipt as JSON, without the engine and the time."""
    return json.loads(msgspec.json.encode(receipt)) | WHEN


def test_expired_records_are_excused_and_a_loss_next_to_them_is_named(
    lab: Lab, captured_api: str, captured: list[dict[str, Any]], eager_cleaner: None
) -> None:
    """A compacted topic, a table with a TTL and deleted dead letters balance, each excuse with its own count.

    Then a row, an acknowledged record and dead letters are lost, and a field is changed by hand; an operator accepts
    that.
    """
    client, topic = admin_client(lab.settings), lab.pipeline.topic
    admin.alter_setting(client, lab.settings, topic, "segment.ms", "50")
    lab.session.execute(f"ALTER TABLE {lab.name} WITH default_time_to_live = {TTL_S}")
    places = lab.produce(captured_api, captured)
    deleted, *kept = places
    entries = {entry["login"]["uuid"]: entry for entry in captured}
    lab.send_all([(deleted.encode(), None, []), *((key.encode(), value_of(entries[key]), []) for key in kept)])
    roll(lab, kept[0])
    lab.carry_out()
    roll(lab, kept[0])
    for name, text in CLEANED_SOON.items():
        admin.alter_setting(client, lab.settings, topic, name, text)
    wait_until_compacted(lab, set(places))
    lab.carry_out()
    queue = lab.pipeline.dead_letter_topic
    ends = [
        Position(span.partition, span.end) for span in topics.fetch_offset_ranges(lab.settings, queue) if span.records
    ]
    admin.delete_records(client, lab.settings, queue, ends)
    wait_until(lambda: check_expired(lab), timeout_s=30, what="the TTL")
    assert list_differences(lab.verify()) == set()

    lab.session.execute(f"ALTER TABLE {lab.name} WITH default_time_to_live = 86400")  # the receipt knows the one before
    young = kept[:2]
    lab.send_all([*((key.encode(), value_of(entries[key]), []) for key in young), (b"bad", b"junk", [])])
    lab.carry_out()
    result = lab.verify()
    assert list_differences(result) == set()
    assert (result.pruned, result.rejected, result.stored, result.rows) == (4, 1, 2 + len(older(lab, young)), 2)
    assert result.expired == len(kept) - len(young)
    assert result.compacted in (30, 31), "30 older versions, and perhaps the tombstone"
    assert [lifetime.ttl_s for lifetime in result.lifetimes] == [TTL_S, 86400]
    assert len(result.evidence) == 4

    lab.session.execute(f"DELETE FROM {lab.name} WHERE id = %s", (uuid.UUID(young[0]),))
    lab.session.execute(f"UPDATE {lab.name} SET email = 'by@hand.org' WHERE id = %s", (uuid.UUID(young[1]),))
    with DeliveryLog(delivery_log.folder_of(lab.settings), "run-2", topic, lab.topic_id) as written:
        written.note(*places[kept[2]], str(uuid.uuid4()).encode())
    for partition in (0, 1):
        count_one_more_reject(lab, partition)
    receipt = lab.verify()
    done = lab.cli("verify", "--engine", "spark", "--json")
    assert (done.exit_code, json.loads(done.stdout) | WHEN) == (1, compared(receipt))
    differences = receipt.differences
    kinds = Counter(difference.kind for difference in differences)
    assert (kinds["missing"], kinds["miscounted"], kinds["foreign"]) == (1, 2, 1)
    assert kinds["lost"] in (1, 2), "with the deleted id, whose tombstone may be gone"
    (foreign,) = (difference for difference in differences if difference.kind == "foreign")
    assert (foreign.id, "changed by hand" in foreign.why) == (young[1], True)

    done = lab.cli("verify", "accept", *(f"--kind={kind}" for kind in kinds), "--reason", "planted", "--yes")
    assert done.exit_code == 0, done.output
    result = lab.verify()
    assert (list_differences(result), result.accepted, result.accepted_differences) == (set(), 1, dict(kinds))
    assert lab.cli("verify", "accepted").stdout.count("planted") == kinds.total()


def count_one_more_reject(lab: Lab, partition: int) -> None:
    """Let the last entry of a partition count one dead letter more than was ever written."""
    lines = f"{lab.pipeline.keyspace}.ledger"
    where = "topic = %s AND generation_us = %s AND kafka_partition = %s AND bucket = 0"
    name = (lab.pipeline.topic, lab.epoch_us, partition)
    last = max(lab.session.execute(f"SELECT * FROM {lines} WHERE {where}", name), key=lambda row: row["first_offset"])
    lab.session.execute(
        f"UPDATE {lines} SET rejected = %s WHERE {where} AND first_offset = %s AND job = 'job'",
        (last["rejected"] + 1, *name, last["first_offset"]),
    )


def older(lab: Lab, young: list[str]) -> list[Any]:
    """Return the records whose ids were sent again and which are not compacted yet."""
    return [message for message in lab.messages() if message.key().decode() in young][: -len(young)]


def check_expired(lab: Lab) -> None:
    if lab.rows():
        raise KafkaUnreachable("rows are left")


def test_ttls_are_known_after_the_table_was_altered(lab: Lab) -> None:
    """Cassandra tells when a table was last altered; an earlier receipt keeps the TTL since then."""
    assert lab.verify().lifetimes[-1].ttl_s == 0
    lab.session.execute(f"ALTER TABLE {lab.name} WITH default_time_to_live = {TTL_S}")
    first = lab.verify().lifetimes
    assert [lifetime.ttl_s for lifetime in first] == [0, TTL_S]
    assert first[0].since_ms < first[1].since_ms
    lab.session.execute(f"ALTER TABLE {lab.name} ADD more text")
    assert lab.verify().lifetimes == first
    result = cassandra.table_ttl(lab.session, lab.pipeline.keyspace, lab.pipeline.table)
    assert result is not None
    assert result[1] > first[1].since_ms


def test_a_table_full_of_nulls_is_read_in_smaller_pages(lab: Lab) -> None:
    """The server rejects a page with more than 100,000 tombstones; each null is one."""
    columns = [f"c{number}" for number in range(30)]
    table = f"{lab.pipeline.keyspace}.nulls"
    lab.session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {', '.join(f'{name} text' for name in columns)})")
    marks = ", ".join("?" * 31)
    insert = lab.session.prepare(f"INSERT INTO {table} (id, {', '.join(columns)}) VALUES ({marks})")
    rows = [(number, *[None] * 30) for number in range(PAGE_ROWS)]
    assert all(done for done, _ in execute_concurrent_with_args(lab.session, insert, rows, concurrency=50))
    query = f"SELECT id, WRITETIME(c0) FROM {table}"
    with pytest.raises(ReadFailure):
        lab.session.execute(SimpleStatement(query, fetch_size=PAGE_ROWS))
    assert {row[0] for page in scan_rows(lab.session, query) for row in page} == set(range(PAGE_ROWS))
