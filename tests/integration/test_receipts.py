"""Receipts, traces, replays and a rebuild against the real Kafka, Cassandra, registry and Spark."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra.cluster import Session
from confluent_kafka import Message, TopicPartition
from pyspark.sql import SparkSession
from typer.testing import CliRunner, Result

from penstock import config
from penstock.broker import topics
from penstock.broker.admin import delete_records
from penstock.broker.headers import RUN
from penstock.broker.kafka import create_admin, create_producer
from penstock.broker.topics import OffsetRange
from penstock.cli import app
from penstock.cli import spark as command_spark
from penstock.cli.replay import parse_ranges
from penstock.config import Settings
from penstock.contract.batch import Reject
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.order import murmur2
from penstock.dead_letters.message import parse_message
from penstock.dead_letters.topic import send_dead_letters
from penstock.errors import PenstockError, UsageError
from penstock.pipeline import ingest, job, replay, stream
from penstock.pipeline.ingest import RunOrder
from penstock.pipeline.topic_guard import TopicGuard
from penstock.pipelines import users
from penstock.process.session import load_offset_ranges, raw_records
from penstock.produce import delivery_log
from penstock.produce.delivery_log import DeliveryLog
from penstock.reconcile import trace, verify
from penstock.reconcile.verify import TopicReceipt
from penstock.sink import cassandra, ledger
from penstock.sink.incarnation import Incarnation
from penstock.sink.key_formats import KeyFormats
from tests.conftest import ROOT, Stack
from tests.integration.streaming import Place, Topic

Difference = tuple[str, int | None, int | None, str | None]


class Lab(Topic):
    """A topic filled by an ingest, processed batch by batch with ledger entries."""

    def __init__(self, stack: Stack, file: Path, spark: SparkSession, session: Session) -> None:
        super().__init__(stack.settings.model_copy(update={"kafka_partitions": 2}), file, spark)
        self.stack = stack
        self.file = file
        self.session = session
        self.name = f"{self.pipeline.keyspace}.{self.pipeline.table}"
        self.topic_id = topics.fetch_topic_id(self.settings, self.pipeline.topic)
        self.epoch_us = ledger.begin_generation(session, self.pipeline.keyspace, self.pipeline.topic, self.topic_id)
        self.book = ledger.Ledger(session, self.pipeline.keyspace, self.pipeline.topic, self.epoch_us)
        known = Incarnation(session, self.pipeline.keyspace, self.settings, self.pipeline.topic)
        guard = TopicGuard(known, self.pipeline.topic, self.topic_id, self.epoch_us, self.settings)
        order = job.build_observer(session, self.pipeline.keyspace, self.book, self.settings, guard)
        shapes = KeyFormats(session, self.pipeline.keyspace, self.book, self.spans)
        plan = stream.build_plan(self.settings, self.epoch_us)
        self.keeper = job.BatchRunner(plan, self.book, threading.Event(), order=order, key_formats=shapes)
        self.ends: dict[int, int] = {}

    def produce(self, api: str, captured: list[dict[str, Any]]) -> dict[str, Place]:
        """Return the position of each captured user."""
        order = RunOrder("run-1", records=len(captured), source_url=api)
        assert ingest.run(self.settings, self.pipeline, order).produced == len(captured)
        return {str(message.key(), "utf-8"): (message.partition(), message.offset()) for message in self.messages()}

    def messages(self) -> list[Any]:
        return list(topics.read_records(self.settings, self.pipeline.topic, self.spans()))

    def spans(self) -> list[OffsetRange]:
        return topics.fetch_offset_ranges(self.settings, self.pipeline.topic)

    def carry_out(self) -> None:
        """Process what arrived since the last batch."""
        new = [OffsetRange(span.partition, self.ends.get(span.partition, 0), span.end) for span in self.spans()]
        stretch = load_offset_ranges(self.spark, self.settings, self.pipeline.topic, new)
        frame = raw_records(stretch, self.pipeline.declared_order)
        self.spark.sparkContext.setLocalProperty("sql.streaming.queryId", "job")
        self.keeper.process_batch(frame, len(self.ends))
        self.ends = {item.partition: item.end for item in new}

    def verify(self) -> TopicReceipt:
        return verify.verify(self.settings, self.session)

    def cli(self, *words: str) -> Result:
        """Run a command in this process, with this Spark."""
        config.load.cache_clear()
        environment = self.stack.environment | {"PENSTOCK_PIPELINE": str(self.file)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command_spark, "_open_session", lambda _settings, _name: nullcontext(self.spark))
            done = CliRunner().invoke(app, list(words), env=environment)
        config.load.cache_clear()
        return done

    def table(self) -> dict[str, tuple[Any, ...]]:
        """Return every row, with the write times of its fields and of its position."""
        query = f"SELECT id, email, kafka_offset, WRITETIME(email) AS a, WRITETIME(kafka_offset) AS b FROM {self.name}"
        times = {str(row["id"]): (row["a"], row["b"]) for row in self.session.execute(query)}
        return {key: (tuple(row.items()), times[key]) for key, row in self.rows().items()}

    def trace(self, key: str) -> list[trace.Passage]:
        return trace.trace_record(self.settings, self.session, key)


@pytest.fixture
def lab(
    stack: Stack,
    spark: SparkSession,
    pipeline_file: Callable[..., Path],
) -> Iterator[Lab]:
    with cassandra.open_session(stack.settings) as session:
        yield Lab(stack, pipeline_file(), spark, session)


@pytest.fixture
def places(lab: Lab, captured_api: str, captured: list[dict[str, Any]]) -> dict[str, Place]:
    """Positions of the captured users, once they are stored."""
    result = lab.produce(captured_api, captured)
    lab.carry_out()
    return result


def list_differences(receipt: TopicReceipt) -> set[Difference]:
    assert receipt.balanced == (not receipt.differences)
    return {
        (difference.kind, difference.partition, difference.offset, difference.id) for difference in receipt.differences
    }


def value_of(entry: dict[str, Any], **changes: Any) -> bytes:
    return msgspec.json.encode(users.from_source(entry) | changes)


def test_records_deleted_by_retention_during_verify_are_no_difference(
    lab: Lab, places: dict[str, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log start moves after the ranges were listed, and before their records are read."""
    read = topics.read_records

    def read_pruned(settings: Settings, topic: str, spans: list[OffsetRange]) -> Iterator[Message]:
        firsts = [topics.Position(span.partition, 5) for span in spans]
        delete_records(create_admin(settings), settings, topic, firsts if topic == lab.pipeline.topic else [])
        yield from read(settings, topic, spans)

    monkeypatch.setattr(topics, "read_records", read_pruned)
    receipt = lab.verify()
    assert list_differences(receipt) == set()
    assert (receipt.produced, receipt.stored, receipt.rows, receipt.older_rows) == (20, 20, 20, 10)
    assert receipt.acknowledged.records == 20


def test_each_difference_is_named(lab: Lab, places: dict[str, Place], captured: list[dict[str, Any]]) -> None:
    """Balanced at first; then rows, ledger entries and the delivery log are changed by hand, one after the other."""
    result = lab.verify()
    assert list_differences(result) == set()
    assert (result.produced, result.stored, result.rows, result.distinct_ids) == (30, 30, 30, 30)
    assert (result.acknowledged.attempts, result.acknowledged.records, result.older_rows) == (1, 30, 0)
    assert lab.cli("verify").exit_code == 0

    gone, changed, *_ = sorted(key for key, place in places.items() if place[0] == 0)
    lab.session.execute(f"DELETE FROM {lab.name} WHERE id = %s", (uuid.UUID(gone),))
    expected: set[Difference] = {("missing", *places[gone], gone)}
    assert list_differences(lab.verify()) == expected

    stranger = uuid.uuid4()
    lab.session.execute(f"INSERT INTO {lab.name} (id, email) VALUES (%s, 'a@b.se')", (stranger,))
    expected |= {("foreign", None, None, str(stranger))}
    assert list_differences(lab.verify()) == expected

    lab.session.execute(f"UPDATE {lab.name} SET kafka_offset = 0 WHERE id = %s", (uuid.UUID(changed),))
    expected |= {("foreign", None, None, changed), ("missing", *places[changed], changed)}
    assert list_differences(lab.verify()) == expected

    lines = f"{lab.pipeline.keyspace}.ledger"
    where = "topic = %s AND generation_us = %s AND kafka_partition = %s AND bucket = 0 AND first_offset = 0"
    line = (lab.pipeline.topic, lab.epoch_us, 1)
    lab.session.execute(f"UPDATE {lines} SET records = 99 WHERE {where} AND job = 'job'", line)
    expected |= {("miscounted", 1, 0, None)}
    assert list_differences(lab.verify()) == expected

    folder = delivery_log.folder_of(lab.settings)
    with DeliveryLog(folder, "run-2", lab.pipeline.topic, lab.topic_id) as written:
        written.note(0, 10_000, b"lost")
        written.note(*places[gone], b"another")
    expected |= {("lost", 0, 10_000, "lost"), ("lost", *places[gone], "another")}
    assert list_differences(lab.verify()) == expected

    done = lab.cli("verify", "--json")
    assert done.exit_code == 1, done.stderr
    receipt = json.loads(done.stdout)
    assert {
        (difference["kind"], difference["partition"], difference["offset"], difference["id"])
        for difference in receipt["differences"]
    } == expected
    assert (receipt["balanced"], receipt["missing"]) == (False, 2)


def test_offsets_skipped_by_the_ledger_are_a_gap_and_later_ones_are_pending(
    lab: Lab, places: dict[str, Place], captured: list[dict[str, Any]]
) -> None:
    """Each record of a deleted entry is reported; one that has no row either is missing."""
    (partition, _), gone = min((place, key) for key, place in places.items())
    entry = next(user for user in captured if user["login"]["uuid"] == gone)
    lab.send_all([(gone.encode(), value_of(entry), [])])
    assert lab.verify().waiting == 1
    lab.carry_out()
    assert list_differences(lab.verify()) == set()
    table = f"{lab.pipeline.keyspace}.ledger"
    where = "topic = %s AND generation_us = %s AND kafka_partition = %s AND bucket = 0 AND first_offset = 0"
    lab.session.execute(f"DELETE FROM {table} WHERE {where}", (lab.pipeline.topic, lab.epoch_us, partition))
    passed = {key: place for key, place in places.items() if place[0] == partition}
    receipt = lab.verify()
    assert (list_differences(receipt), receipt.stored) == ({("gap", *place, key) for key, place in passed.items()}, 31)
    other = next(key for key in passed if key != gone)
    lab.session.execute(f"DELETE FROM {lab.name} WHERE id = %s", (uuid.UUID(other),))
    receipt = lab.verify()
    assert [difference for difference in receipt.differences if difference.kind == "missing"] == [
        verify.Difference("missing", *places[other], other, "the ledger went past it")
    ]
    assert len(list_differences(receipt)) == len(passed)
    assert [passage.outcome for passage in lab.trace(other)] == ["missing"]


def test_the_path_of_each_record_is_traced(lab: Lab, places: dict[str, Place], captured: list[dict[str, Any]]) -> None:
    """Stored, superseded, deleted, rejected by the stream or at the source, pending: stage by stage, with the time of
    each.
    """
    stored, superseded, deleted, rejected, refused = (entry["login"]["uuid"] for entry in captured[:5])
    newer = lab.send_all(
        [
            (superseded.encode(), value_of(captured[1], email="new@example.org"), []),
            (deleted.encode(), None, []),
            (rejected.encode(), value_of(captured[3], email="nobody"), []),
        ]
    )
    fault = Fault(Reason.CONTRACT_BROKEN, "email: no", Stage.PRODUCE, rules=("email:pattern",))
    entry = msgspec.json.encode(captured[4] | {"email": "nobody"})
    reject = Reject(fault, lab.pipeline.topic, -1, -1, None, entry, [(RUN, b"run-1")])
    send_dead_letters(create_producer(lab.settings), lab.pipeline.dead_letter_topic, [reject])
    assert [passage.outcome for passage in lab.trace(superseded)] == ["stored", "waiting"]
    lab.carry_out()

    (way,) = lab.trace(stored)
    assert (way.partition, way.offset, way.outcome) == (*places[stored], "stored")
    assert [hop.name for hop in way.hops] == ["fetched", "produced", "recorded", "stored"]
    times = [hop.at or "" for hop in way.hops]
    assert "" not in times
    assert times == sorted(times)
    assert f"{lab.pipeline.subject} version 1" in way.hops[1].detail
    partition, offset = newer[0]
    by = f"stored, superseded by partition {partition} offset {offset}"
    assert [passage.outcome for passage in lab.trace(superseded)] == [by, "stored"]
    assert [passage.outcome for passage in lab.trace(deleted)] == [
        f"stored, deleted by offset {newer[1][1]}",
        "deleted",
    ]
    old, new = lab.trace(rejected)
    assert (old.outcome, new.outcome, new.hops[-1].name) == ("stored", "rejected", "rejected")
    assert "contract_broken email:pattern at decode" in new.hops[-1].detail
    assert [passage.outcome for passage in lab.trace(refused)] == ["refused", "stored"]
    receipt = lab.verify()
    assert list_differences(receipt) == set()
    assert (receipt.stored, receipt.deleted, receipt.rejected, receipt.refused) == (31, 1, 1, 1)
    assert receipt.queue == {"waiting": 2, "redriven": 0, "superseded": 0, "discarded": 0}

    done = lab.cli("trace", deleted, "--json")
    assert done.exit_code == 0, done.output
    assert [passage["outcome"] for passage in json.loads(done.stdout)][1] == "deleted"
    assert lab.cli("trace", str(uuid.uuid4())).exit_code == 1
    assert isinstance(lab.cli("trace", "nobody").exception, UsageError)


def killed_in_the_middle(lab: Lab, *words: str) -> None:
    """Run a command and kill it once it reports its progress."""
    environment = os.environ | lab.stack.environment
    environment |= {"PENSTOCK_PIPELINE": str(lab.file), "PENSTOCK_SPARK_BATCH_RECORDS": "4"}
    command = [sys.executable, "-m", "penstock.cli", *words]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        output = []
        for line in process.stderr:
            output.append(line)
            if " of 35 offsets" in line:
                break
        process.kill()
        assert "4 of 35 offsets\n" in output, output


def test_a_topic_is_replayed(lab: Lab, places: dict[str, Place], captured: list[dict[str, Any]]) -> None:
    """By offsets and by time, interrupted and repeated, and into an empty table: the same rows, written at the same
    times. Newer ones stay, and what was deleted stays deleted.
    """
    ids = [entry["login"]["uuid"] for entry in captured]
    between_ms = time.time_ns() // 1_000_000 + 1
    while time.time_ns() // 1_000_000 <= between_ms:
        pass
    newer = lab.send_all(
        [(ids[0].encode(), value_of(captured[0], email="new@example.org"), [])]
        + [(record_id.encode(), None, []) for record_id in ids[1:4]]
        + [(ids[1].encode(), value_of(captured[1]), [])]
    )
    lab.carry_out()
    before = lab.table()
    assert before.keys() == set(ids) - set(ids[2:4])

    partition, offset = places[ids[2]]
    spans = parse_ranges(lab.settings, f"{partition}:{offset}", f"{partition}:{offset + 1}")
    assert spans == [OffsetRange(partition, offset, offset + 1)]
    assert replayed(lab, spans) == 1
    assert lab.table() == before

    moment = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(between_ms / 1000))}.{between_ms % 1000:03}Z"
    later, earlier = parse_ranges(lab.settings, moment, None), parse_ranges(lab.settings, None, moment)
    assert [sum(item.records for item in some) for some in (earlier, later)] == [30, 5]
    assert {(span.partition, at) for span in later for at in range(span.first, span.end)} == set(newer)
    assert replayed(lab, earlier) == 30
    assert lab.table() == before

    killed_in_the_middle(lab, "replay")
    assert lab.table() == before
    assert list_differences(lab.verify()) == set()
    assert replayed(lab, lab.spans()) == 35
    assert lab.table() == before

    done = lab.cli("rebuild", "--yes", "--json")
    assert done.exit_code == 0, done.output
    receipt = json.loads(done.stdout)["receipt"]
    assert (receipt["balanced"], receipt["produced"], receipt["deleted"]) == (True, 35, 3)
    assert lab.table() == before
    result = lab.verify()
    assert (list_differences(result), result.reread, result.doubled) == (set(), 0, 0)

    assert verify.count_rows_to_rebuild(lab.settings, lab.session) == 28
    kept = next(place for key, place in places.items() if key in ids[4:])
    pruned = TopicPartition(lab.pipeline.topic, kept[0], kept[1] + 1)
    client = create_admin(lab.settings)  # its answers end with it
    client.delete_records([pruned])[pruned].result(60)
    with pytest.raises(PenstockError, match=r"a rebuild would lose .* rows of .* whose records are not in"):
        verify.count_rows_to_rebuild(lab.settings, lab.session)
    assert lab.table() == before
    assert list_differences(lab.verify()) == set()


def test_a_topic_with_more_partitions_keeps_the_newest_version(
    lab: Lab, places: dict[str, Place], captured: list[dict[str, Any]]
) -> None:
    """Two thirds of the ids move to a partition whose offsets start at 0.

    Their updates and deletions win, also in a replay and a rebuild; records that a producer sends by the old number of
    partitions are named if Kafka's timestamps contradict their order.
    """
    topic = lab.pipeline.topic
    assert topics.add_partitions(lab.settings, topic, 4) == 6
    ids = [entry["login"]["uuid"] for entry in captured]
    changed = [
        (key.encode(), value_of(entry, email="new@example.org"), []) for key, entry in zip(ids, captured, strict=True)
    ]
    moved = dict(zip(ids, lab.send_all(changed), strict=True))
    assert {key for key in ids if moved[key][0] != places[key][0]}
    assert min(moved[key][1] for key in ids) < max(places[key][1] for key in ids)
    gone = next(key for key in ids if moved[key][0] != places[key][0])
    lab.send_all([(gone.encode(), None, [])])
    lab.carry_out()
    before = lab.table()
    assert before.keys() == set(ids) - {gone}
    assert {row["email"] for row in lab.rows().values()} == {"new@example.org"}
    assert list_differences(lab.verify()) == set()

    assert replayed(lab, lab.spans()) == 61
    assert lab.table() == before
    assert lab.cli("rebuild", "--yes").exit_code == 0
    assert lab.table() == before

    late = next(
        key for key in ids if moved[key][0] >= 2 and zlib.crc32(key.encode()) % 6 != places[key][0]
    )  # which no known partitioner puts there by the new number
    entry = captured[ids.index(late)]
    client = create_producer(lab.settings)
    client.produce(topic, value_of(entry, email="late@example.org"), late.encode(), partition=places[late][0])
    assert client.flush(60) == 0
    lab.carry_out()
    assert lab.rows()[late]["email"] == "new@example.org"
    assert {kind for kind, *_ in list_differences(lab.verify())} == {"unordered"}


def test_a_tombstone_counts_once_keys_like_its_key_are_proven(lab: Lab, captured: list[dict[str, Any]]) -> None:
    """The first JSON key names no row, as only text was proven; a redrive deletes it once records had JSON keys.

    A replay and a rebuild store the same rows at each time, and every receipt balances.
    """

    def keys_of(entry: dict[str, Any]) -> tuple[bytes, bytes]:
        return entry["login"]["uuid"].encode(), msgspec.json.encode({"id": entry["login"]["uuid"]})

    def check(*left: dict[str, Any]) -> None:
        before = lab.table()
        assert before.keys() == {entry["login"]["uuid"] for entry in left}
        assert list_differences(lab.verify()) == set()
        replayed(lab, lab.spans())
        assert lab.table() == before

    late = next(user for user in captured if len({murmur2(key) % 2 for key in keys_of(user)}) == 1)
    other, stays = [user for user in captured if user is not late][:2]
    text, json_key = keys_of(late)
    lab.send_all([(text, value_of(late), []), (json_key, None, [])])
    lab.carry_out()
    check(late)
    letters = [parse_message(message) for message in lab.dead_letters()]  # the replay's is the same one again
    assert {(letter.reason, letter.key) for letter in letters} == {("key_ambiguous", json_key)}
    assert len({letter.identity for letter in letters}) == 1

    lab.send_all([(keys_of(other)[1], value, []) for value in (value_of(other), None)])
    lab.send_all([(keys_of(stays)[1], value_of(stays), [])])
    lab.carry_out()
    check(late, stays)
    assert lab.cli("rebuild", "--yes").exit_code == 0
    check(late, stays)

    redriven = lab.cli("dlq", "redrive", "--reason", "key_ambiguous")
    assert redriven.exit_code == 0, redriven.output
    lab.carry_out()
    check(stays)


def test_versions_without_an_order_are_named(lab: Lab, captured: list[dict[str, Any]]) -> None:
    """Without keys the older version may win, as its offset is larger: the receipt does not balance."""
    client, entry = create_producer(lab.settings), captured[0]
    for partition, version in ((0, captured[1]), (0, captured[2]), (0, entry), (1, entry)):
        client.produce(lab.pipeline.topic, value_of(version), partition=partition)
    assert client.flush(60) == 0
    lab.carry_out()
    (difference,) = lab.verify().differences
    assert (difference.kind, difference.id) == ("unordered", entry["login"]["uuid"])
    assert "partitions 0 and 1" in difference.why


def replayed(lab: Lab, spans: list[OffsetRange]) -> int:
    """Return the number of replayed records; their range balances."""
    done = replay.replay_ranges(lab.spark, lab.session, lab.settings, spans, lambda *_: None)
    receipt = verify.verify(lab.settings, lab.session, ranges=spans)
    assert list_differences(receipt) == set()
    assert receipt.produced == sum(span.records for span in spans)
    return done.records
