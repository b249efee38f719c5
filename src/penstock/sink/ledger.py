"""The ledger: what became of each range of offsets, written once every record of the range is acknowledged.

Writing a range again writes the same entry again. Entries of one partition are split into buckets of a million offsets,
so that no Cassandra partition grows without bound.

The ledger also holds each topic's incarnations: a topic that is deleted and recreated starts at offset 0 again, so
write timestamps count from the timestamp base of its incarnation, which is later than any timestamp of the one before.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from cassandra.cluster import Session

from penstock.broker.topics import OffsetRange
from penstock.contract import cql
from penstock.contract.batch import BatchSummary
from penstock.contract.fields import from_epoch_ms, to_epoch_ms
from penstock.contract.order import PARTITIONERS, TopicLayout
from penstock.sink.cassandra import create_missing, has_column

BUCKET_OFFSETS = 1_000_000
REPLAY = "replay-"
"""Job prefix of the entries that a replay wrote, not the stream."""
_LEAST_GENERATION_US = 60_000_000
"""Minimum distance between timestamp bases, even if the clock moves backwards. The distance also exceeds the offsets
reached, so that writes for a recreated topic are newer than all earlier ones.
"""

_LEDGER = """
CREATE TABLE IF NOT EXISTS {keyspace}.ledger (
  topic text,
  generation_us bigint,
  kafka_partition int,
  bucket bigint,
  first_offset bigint,
  job text,
  last_offset bigint,
  batch_id bigint,
  records bigint,
  stored bigint,
  deleted bigint,
  rejected bigint,
  filtered bigint,
  stored_at timestamp,
  nulls map<text, bigint>,
  latencies map<int, bigint>,
  PRIMARY KEY ((topic, generation_us, kafka_partition, bucket), first_offset, job)
)
"""
_GENERATIONS = """
CREATE TABLE IF NOT EXISTS {keyspace}.generations (
  topic text,
  epoch_us bigint,
  topic_id text,
  PRIMARY KEY (topic, epoch_us)
)
"""

_LAYOUTS = """
CREATE TABLE IF NOT EXISTS {keyspace}.layouts (
  topic text,
  generation_us bigint,
  partitions int,
  shift_us bigint,
  starts map<int, bigint>,
  partitioners set<text>,
  PRIMARY KEY ((topic, generation_us), partitions)
)
"""


@dataclass(frozen=True)
class LedgerEntry:
    """One entry of the ledger."""

    summary: BatchSummary
    batch_id: int
    job: str


class Ledger:
    """The ledger of one topic incarnation in one keyspace."""

    def __init__(self, session: Session, keyspace: str, topic: str, epoch_us: int) -> None:
        self._session = session
        self.topic = topic
        self.epoch_us = epoch_us
        self._insert = session.prepare(
            f"INSERT INTO {cql.quote_name(keyspace)}.ledger (topic, generation_us, kafka_partition, bucket, "
            "first_offset, job, last_offset, batch_id, records, stored, deleted, rejected, filtered, stored_at, "
            "nulls, latencies) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        self._select = session.prepare(
            f"SELECT * FROM {cql.quote_name(keyspace)}.ledger "
            "WHERE topic = ? AND generation_us = ? AND kafka_partition = ? AND bucket = ?"
        )
        self._newest = session.prepare(
            f"SELECT job, last_offset FROM {cql.quote_name(keyspace)}.ledger "
            "WHERE topic = ? AND generation_us = ? AND kafka_partition = ? AND bucket = ? "
            "ORDER BY first_offset DESC"
        )
        self._newest.fetch_size = 10
        within = (
            f"FROM {cql.quote_name(keyspace)}.ledger "
            "WHERE topic = ? AND generation_us = ? AND kafka_partition = ? AND bucket = ? "
            "AND first_offset >= ? AND first_offset < ?"
        )
        self._select_begun = session.prepare(f"SELECT * {within}")
        self._sum_begun = session.prepare(f"SELECT SUM(stored) AS stored {within}")

    def write(self, job: str, batch_id: int, summaries: Sequence[BatchSummary], sync_lag_s: float = 0.0) -> None:
        """Write an entry per summary and wait until they are acknowledged.

        With `cassandra.sync_lag_s`, the entries and everything acknowledged before the call are then in the commit log,
        even on a single node: the entries are written again after that time, and Cassandra acknowledges a write only
        when everything older than the lag is in its log.
        """
        self._write_entries(job, batch_id, summaries)
        if sync_lag_s:
            time.sleep(sync_lag_s)
            self._write_entries(job, batch_id, summaries)

    def _write_entries(self, job: str, batch_id: int, summaries: Sequence[BatchSummary]) -> None:
        entries = [self._bind_values(job, batch_id, summary) for summary in summaries]
        for written in [self._session.execute_async(self._insert, entry) for entry in entries]:
            written.result()

    def _bind_values(self, job: str, batch_id: int, summary: BatchSummary) -> tuple[Any, ...]:
        return (
            self.topic,
            self.epoch_us,
            summary.partition,
            summary.first_offset // BUCKET_OFFSETS,
            summary.first_offset,
            job,
            summary.last_offset,
            batch_id,
            summary.records,
            summary.stored,
            summary.deleted,
            summary.rejected,
            summary.filtered,
            from_epoch_ms(summary.stored_at_ms),
            summary.nulls,
            summary.latencies,
        )

    def lines(self, offset_range: OffsetRange) -> Iterator[LedgerEntry]:
        """Yield the entries that overlap `offset_range`, in offset order. An entry may begin in the previous bucket."""
        first_bucket = max(0, offset_range.first // BUCKET_OFFSETS - 1)
        for bucket in range(first_bucket, max(offset_range.end - 1, 0) // BUCKET_OFFSETS + 1):
            for row in self._session.execute(self._select, (self.topic, self.epoch_us, offset_range.partition, bucket)):
                entry = _parse_entry(row)
                if entry.summary.first_offset < offset_range.end and entry.summary.last_offset >= offset_range.first:
                    yield entry

    def begun_in(self, offset_range: OffsetRange) -> Iterator[LedgerEntry]:
        """Yield the entries that begin in `offset_range`, in offset order."""
        for row in self._rows_within(self._select_begun, offset_range):
            yield _parse_entry(row)

    def stored_in(self, offset_range: OffsetRange) -> int:
        """Return the number of rows stored by the entries that begin in `offset_range`, including those of a replay."""
        return sum(row["stored"] or 0 for row in self._rows_within(self._sum_begun, offset_range))

    def _rows_within(self, query: Any, offset_range: OffsetRange) -> Iterator[dict[str, Any]]:
        for bucket in range(offset_range.first // BUCKET_OFFSETS, max(offset_range.end - 1, 0) // BUCKET_OFFSETS + 1):
            key = self.topic, self.epoch_us, offset_range.partition, bucket
            yield from self._session.execute(query, (*key, offset_range.first, offset_range.end))

    def reached(self, offset_range: OffsetRange) -> int:
        """Return the offset after the stream's newest entry in `offset_range`, or `offset_range.first`."""
        query, first_bucket = self._newest, max(0, offset_range.first // BUCKET_OFFSETS - 1)
        for bucket in range(max(offset_range.end - 1, 0) // BUCKET_OFFSETS, first_bucket - 1, -1):
            for row in self._session.execute(query, (self.topic, self.epoch_us, offset_range.partition, bucket)):
                if not row["job"].startswith(REPLAY):
                    return max(offset_range.first, int(row["last_offset"]) + 1)
        return offset_range.first


def _parse_entry(row: dict[str, Any]) -> LedgerEntry:
    summary = BatchSummary(
        partition=row["kafka_partition"],
        first_offset=row["first_offset"],
        last_offset=row["last_offset"],
        records=row["records"],
        stored=row["stored"],
        deleted=row["deleted"],
        rejected=row["rejected"],
        filtered=row["filtered"],
        stored_at_ms=to_epoch_ms(row["stored_at"].replace(tzinfo=UTC)),
        nulls=dict(row["nulls"] or {}),
        latencies=dict(row["latencies"] or {}),
    )
    return LedgerEntry(summary, row["batch_id"], row["job"])


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the ledger's tables, by table name."""
    templates = {"ledger": _LEDGER, "generations": _GENERATIONS, "layouts": _LAYOUTS}
    return {name: template.format(keyspace=cql.quote_name(keyspace)) for name, template in templates.items()}


def create_tables(session: Session, keyspace: str) -> None:
    """Create the ledger's tables if they do not exist."""
    create_missing(session, keyspace, statements(keyspace))


def add_columns(session: Session, keyspace: str) -> None:
    """Add the column that older versions of the table `read_layouts` lack, if it is missing."""
    if not has_column(session, keyspace, "layouts", "partitioners"):
        add = cql.render_add_column(keyspace, "layouts", "partitioners", "set<text>")
        create_missing(session, keyspace, {"layouts.partitioners": add})


def read_layouts(session: Session, keyspace: str, topic: str, epoch_us: int) -> list[TopicLayout]:
    """Return the layouts of a topic incarnation, oldest first; empty if no job has read it yet."""
    query = f"SELECT * FROM {cql.quote_name(keyspace)}.layouts WHERE topic = %s AND generation_us = %s"
    rows = session.execute(query, (topic, epoch_us))
    return sorted(map(_parse_layout, rows), key=lambda layout: layout.partitions)


def _parse_layout(row: Mapping[str, Any]) -> TopicLayout:
    known = frozenset(row.get("partitioners") or ()) & PARTITIONERS.keys()
    return TopicLayout(row["partitions"], row["shift_us"], dict(row["starts"] or {}), known or frozenset(PARTITIONERS))


def read_epoch_us(session: Session, keyspace: str, topic: str, topic_id: str) -> int | None:
    """Return the timestamp base of the topic's current incarnation, or None if no job has read it yet."""
    return read_generations(session, keyspace, topic).get(topic_id)


def adopt_id(session: Session, keyspace: str, topic: str, epoch_us: int, topic_id: str) -> None:
    """Record the id that the topic of an incarnation has since received."""
    session.execute(
        f"INSERT INTO {cql.quote_name(keyspace)}.generations (topic, epoch_us, topic_id) VALUES (%s, %s, %s)",
        (topic, epoch_us, topic_id),
    )


def begin_generation(session: Session, keyspace: str, topic: str, topic_id: str, *, is_recreated: bool = False) -> int:
    """Return the timestamp base of the topic's current incarnation, which begins now if no job has read it yet.

    With `is_recreated` it begins now even if its id is known: no id, or the id of a topic whose log was truncated.
    """
    known = read_generations(session, keyspace, topic)
    if topic_id not in known or is_recreated:
        ends = _find_upper_bounds(session, keyspace, topic) if known else {}
        shifts = {
            epoch: max((at.shift_us for at in read_layouts(session, keyspace, topic, epoch)), default=0)
            for epoch in ends
        }
        after = (
            epoch + shifts.get(epoch, 0) + max(_LEAST_GENERATION_US, ends.get(epoch, 0)) for epoch in known.values()
        )
        known[topic_id] = max([time.time_ns() // 1000, *after])
        adopt_id(session, keyspace, topic, known[topic_id], topic_id)
    return known[topic_id]


def read_ends(session: Session, keyspace: str, topic: str, epoch_us: int) -> dict[int, int]:
    """Return the offset after the stream's newest entry, for each partition of an incarnation."""
    buckets: dict[int, int] = {}
    for row in _iter_buckets(session, keyspace):
        if (row["topic"], row["generation_us"]) == (topic, epoch_us):
            buckets[row["kafka_partition"]] = max(row["bucket"], buckets.get(row["kafka_partition"], 0))
    ledger = Ledger(session, keyspace, topic, epoch_us)
    ranges = [
        OffsetRange(partition, bucket * BUCKET_OFFSETS, (bucket + 1) * BUCKET_OFFSETS)
        for partition, bucket in buckets.items()
    ]
    return {offset_range.partition: ledger.reached(offset_range) for offset_range in ranges}


def _find_upper_bounds(session: Session, keyspace: str, topic: str) -> dict[int, int]:
    """Return an offset above every record of an incarnation, by the incarnation's timestamp base."""
    ends: dict[int, int] = {}
    for row in _iter_buckets(session, keyspace):
        if row["topic"] == topic:  # an entry begins in its bucket and ends in the next one at the latest
            end = (row["bucket"] + 2) * BUCKET_OFFSETS
            ends[row["generation_us"]] = max(end, ends.get(row["generation_us"], 0))
    return ends


def _iter_buckets(session: Session, keyspace: str) -> Iterator[dict[str, Any]]:
    yield from session.execute(
        f"SELECT DISTINCT topic, generation_us, kafka_partition, bucket FROM {cql.quote_name(keyspace)}.ledger"
    )


def read_generations(session: Session, keyspace: str, topic: str) -> dict[str, int]:
    """Return the timestamp base of each of a topic's incarnations by topic id; without ids, that of the newest."""
    query = f"SELECT epoch_us, topic_id FROM {cql.quote_name(keyspace)}.generations WHERE topic = %s"
    rows = sorted(session.execute(query, (topic,)), key=lambda row: row["epoch_us"])
    return {row["topic_id"]: row["epoch_us"] for row in rows}
