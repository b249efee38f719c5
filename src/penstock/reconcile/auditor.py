"""The facts that a reconciliation compares, read from Kafka, the ledger, the table and the dead-letter topic."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

from cassandra.cluster import Session
from confluent_kafka import Message

from penstock import pipelines
from penstock.broker import headers, topics
from penstock.broker.registry import Registry
from penstock.broker.topics import OffsetRange
from penstock.codec.records import Decoder
from penstock.config import Settings
from penstock.contract.expiry import NEVER_MS, expiry_of
from penstock.contract.fault import Fault
from penstock.contract.identity import identity_of
from penstock.contract.order import FIRST_RANK, ONE_LAYOUT, Order, Rank, digest_of
from penstock.contract.order_by import OrderBy, Source, declared_rank
from penstock.contract.proofs import KeyProofs
from penstock.contract.record import Headers, Record
from penstock.contract.rules import latest_past
from penstock.dead_letters import resolutions
from penstock.dead_letters.message import DeadLetter, index_first_copies
from penstock.dead_letters.topic import read_dead_letters
from penstock.reconcile.audit import Audit, DeadLetterCopy, Row, Sent
from penstock.reconcile.coverage import Coverage
from penstock.reconcile.engine import local_loader
from penstock.reconcile.excuse_evidence import Evidence
from penstock.reconcile.excuses import find_expired_from_ms
from penstock.reconcile.fact_loading import (
    Columns,
    LineFinder,
    OpenLoader,
    arrange_record_columns,
    chunks,
    record_columns,
)
from penstock.reconcile.reconciliation import Reconciliation, Scope
from penstock.reconcile.table_rows import TableRows
from penstock.sink import cassandra, ledger, table_orders
from penstock.sink.incarnation import Incarnation
from penstock.sink.key_formats import read_proofs
from penstock.sink.ledger import Ledger

_CHUNK_MESSAGES = 1_000
_NOT_BEGUN_US = 2**63


class Auditor:
    """Reads the facts about the configured pipeline's topic, and reconciles them.

    Raises `PenstockError` if the table's order differs from the order that the pipeline declares.
    """

    def __init__(self, settings: Settings, session: Session, open_loader: OpenLoader = local_loader) -> None:
        self._settings = settings
        self._session = session
        self._open_loader = open_loader
        self._pipeline = pipelines.of(settings)
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._decoder = Decoder(self._pipeline.record, Registry(settings), self._pipeline.key_format)
        self._identity = identity_of(self._pipeline.record)
        self._expiry = expiry_of(self._pipeline.record, self._pipeline.ttl)
        table_orders.check_order(session, self._keyspace, self._pipeline)
        self._book: Ledger | None = None
        self._table = TableRows(settings, session, self._pipeline, self)
        self.evidence = Evidence(settings, session, self._pipeline, lambda: self.book.epoch_us if self.book else None)
        self.change = ""
        """What shows that the topic was recreated since a job read it; set once `book` has been read."""

    @property
    def book(self) -> Ledger | None:
        """Return the ledger of the current topic incarnation, or None before a job has read it."""
        self._book = self._book or self._open_ledger()
        return self._book

    @cached_property
    def order(self) -> Order:
        """Return the order of the topic's records, with one layout before a job has read the topic."""
        if self.book is None or not cassandra.has_table(self._session, self._keyspace, "layouts"):
            return ONE_LAYOUT
        layouts = ledger.read_layouts(self._session, self._keyspace, self._pipeline.topic, self.book.epoch_us)
        return Order(tuple(layouts)) if layouts else ONE_LAYOUT

    @cached_property
    def proofs(self) -> KeyProofs:
        """Return what is proven about the topic's keys: nothing before a job has read the topic."""
        if self.book is None:
            return KeyProofs()
        return read_proofs(self._session, self._keyspace, self._pipeline.topic, self.book.epoch_us)

    def _open_ledger(self) -> Ledger | None:
        topic = self._pipeline.topic
        if not cassandra.has_table(self._session, self._keyspace, "generations"):
            return None
        topic_id = topics.fetch_topic_id(self._settings, topic)
        self.change = Incarnation(self._session, self._keyspace, self._settings, topic).find_change(topic_id)
        if self.change:
            return None
        epoch_us = ledger.read_epoch_us(self._session, self._keyspace, topic, topic_id)
        return None if epoch_us is None else Ledger(self._session, self._keyspace, topic, epoch_us)

    def coverage(self, span: OffsetRange) -> Coverage:
        """Return the ledger's coverage of `span`."""
        return Coverage([] if self.book is None else list(self.book.lines(span)))

    def waiting(self, spans: list[OffsetRange]) -> int:
        """Return how many offsets of `spans` the ledger has not reached yet."""
        return sum(span.end - max(span.first, self._read_reached_offset(span)) for span in spans)

    def _read_reached_offset(self, span: OffsetRange) -> int:
        return span.first if self.book is None else min(span.end, self.book.reached(span))

    def record_columns(self, spans: list[OffsetRange], finder: LineFinder, run_id: str | None) -> Iterator[Columns]:
        """Yield the records in `spans` as columns of `records`, with the runs' ids instead of their numbers."""
        for messages in chunks(topics.read_records(self._settings, self._pipeline.topic, spans), _CHUNK_MESSAGES):
            yield self._build_plain_records(messages, finder, run_id) or record_columns(
                list(map(self.sent_of, messages)), finder, run_id
            )

    def _build_plain_records(self, messages: list[Message], finder: LineFinder, run_id: str | None) -> Columns | None:
        """Return the columns of records that are values, each in its own place; None if one of them is anything else.

        They are most records, and cost a third less than by `sent_of`.
        """
        rank, pipeline = self.order.only_rank, self._pipeline
        values, held = [message.value() for message in messages], [message.headers() or [] for message in messages]
        if rank is None or pipeline.declared_order is not None or pipeline.one_version_per_id or None in values:
            return None
        if any(map(headers.read_order, held)):
            return None
        count, records = len(messages), list(map(self._decoder.decode, values))
        times_ms = [message.timestamp()[1] for message in messages]
        facts = [
            [message.partition() for message in messages],
            [message.offset() for message in messages],
            times_ms,
            [message.key() for message in messages],
            self._read_ids(records),
            [False] * count,
            [headers.find_text(pairs, headers.RUN) for pairs in held],
        ]
        expiries_ms = [NEVER_MS] * count
        if self._expiry is not None:
            expiries_ms = list(map(self._compute_expired_from_ms, records, times_ms))
        ranks = [[part] * count for part in rank]
        return arrange_record_columns(facts, ranks, [0] * count, expiries_ms, finder, run_id)

    def _compute_expired_from_ms(self, decoded: Any, timestamp_ms: int) -> int:
        """Return from when the row of a record that was decoded to `decoded` may be gone by a field."""
        if self._expiry is None or not isinstance(decoded, Record):
            return NEVER_MS
        expires_ms = self._expiry.compute_ms(decoded, timestamp_ms)
        return NEVER_MS if expires_ms == NEVER_MS else find_expired_from_ms(expires_ms, timestamp_ms)

    def _read_ids(self, records: list[Record | Fault]) -> list[str | None]:
        """Return the id of each record, None if it cannot be decoded."""
        valid = [self._identity.of(record) for record in records if not isinstance(record, Fault)]
        ids = iter(self._identity.texts_of(valid))
        return [None if isinstance(record, Fault) else next(ids) for record in records]

    def sent_of(self, message: Message) -> Sent:
        """Convert a message of the topic into a record."""
        is_deletion, held = message.value() is None, message.headers() or []
        decoded = self._decode_tombstone(message) if is_deletion else self._decoder.decode(message.value())
        rank = self._compute_rank(message, held, decoded)
        if isinstance(rank, Fault):
            decoded, rank = rank, FIRST_RANK
        record_id = None if isinstance(decoded, Fault) else decoded if is_deletion else self._identity.of(decoded)
        return Sent(
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            None if record_id is None else self._identity.text_of(record_id),
            is_deletion and record_id is not None,
            headers.find_text(held, headers.RUN),
            rank,
            digest_of(message.value()) if self._pipeline.one_version_per_id and not is_deletion else 0,
            self._compute_expired_from_ms(decoded, message.timestamp()[1]),
        )

    def _compute_rank(self, message: Message, held: Headers, decoded: Any) -> Rank | Fault:
        """Return the rank of a record that was decoded to `decoded`, or why it cannot be ordered."""
        partition, offset, key, order = message.partition(), message.offset(), message.key(), headers.read_order(held)
        order_by = self._pipeline.declared_order
        if order_by is not None:
            return decoded if isinstance(decoded, Fault) else self._declared_rank(message, held, decoded, order_by)
        if order is None:
            return self.order.rank(partition, offset, key)
        return self.order.rank_of(partition, offset, key, order, epoch_us=self.epoch_us)

    def _declared_rank(self, message: Message, held: Headers, decoded: Any, order_by: OrderBy) -> Rank | Fault:
        source = Source(message.timestamp()[1], message.offset(), headers.read_order(held))
        if message.value() is None:
            place = order_by.compute_tombstone_timestamp(message.key(), held, source, latest_past())
        else:
            place = order_by.compute_timestamp(decoded, source, latest_past())
        if isinstance(place, Fault):
            return place
        return declared_rank(place, self.epoch_us, message.offset(), message.value())

    @property
    def epoch_us(self) -> int:
        """Return the timestamp base: 0 before the first incarnation; later than any row if a new one has not begun."""
        if self.book is not None:
            return self.book.epoch_us
        return _NOT_BEGUN_US if self.change else 0

    def _decode_tombstone(self, message: Message) -> Any:
        return self._decoder.deleted(message.key(), self.proofs.at(message.partition(), message.offset()))

    def row_columns(self, tokens: tuple[int, int] | None = None) -> Iterator[Columns]:
        """Yield the rows of the whole table, or those with a token in `tokens`, as `TableRows.columns`."""
        return self._table.columns(tokens)

    def rows_of(self, ids: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of `ids`, by lookups."""
        return self._table.rows_of(ids)

    def letter_copies(self) -> Iterator[DeadLetterCopy]:
        """Yield the messages of the dead-letter topic, duplicates included."""
        for letter in read_dead_letters(self._settings, self._pipeline):
            yield copy_of(letter, is_current=self._is_current(letter))

    def _is_current(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter is of the current topic incarnation, or of a record that never reached one."""
        origin, epoch_us = letter.origin, None if self.book is None else self.book.epoch_us
        return origin.topic == self._pipeline.topic and (origin.partition < 0 or origin.generation_us == epoch_us)

    def letters(self, within: Callable[[Iterator[DeadLetter]], Iterator[DeadLetter]] = iter) -> dict[str, DeadLetter]:
        """Return the dead letters of the current topic incarnation and of records that never reached it, by identity.

        `within` may stop reading the dead-letter topic early.
        """
        return index_first_copies(within(filter(self._is_current, read_dead_letters(self._settings, self._pipeline))))

    def count_resolutions(self, identities: Iterable[str]) -> dict[str, int]:
        """Return how many of these dead letters have each resolution."""
        return resolutions.count_states(self._session, self._keyspace, self._pipeline.topic, identities)

    def audit(self, spans: list[OffsetRange]) -> Audit:
        """Return the outcome of every record in `spans`."""
        with self.reconciled(Scope(spans)) as (audit, _):
            return audit

    def audit_run(self, spans: list[OffsetRange], run_id: str) -> Audit:
        """Return the outcome of every record of one run. All of them are within `spans`."""
        scope = Scope(spans, run_id, is_whole=False, is_meant=lambda copy: copy.run == run_id)
        with self.reconciled(scope) as (audit, reconciliation):
            return replace(audit, latency_ms=reconciliation.latency_ms())

    @contextmanager
    def reconciled(self, scope: Scope) -> Iterator[tuple[Audit, Reconciliation]]:
        """Reconcile, and keep the reconciliation open for more queries within the block."""
        with self._open_loader(self._settings, self) as loader:
            reconciliation = Reconciliation(loader, self, self.evidence, scope)
            yield reconciliation.carry_out(), reconciliation

    def id_of_key(self, key: bytes) -> str | None:
        """Return the id that a message's key represents, or None if it represents no id."""
        record_id = self._decoder.deleted(key, self.proofs.by_now)
        return None if isinstance(record_id, Fault) else self._identity.text_of(record_id)

    def id_of_text(self, text: str) -> str | None:
        """Return the id that a text represents, as in the delivery log; None if it represents no id."""
        try:
            return self._identity.text_of(self._identity.of_text(text))
        except ValueError:
            return None

    def log_starts(self) -> dict[int, int]:
        """Return the first offset that each partition of the topic holds now."""
        return {span.partition: span.first for span in topics.fetch_offset_ranges(self._settings, self._pipeline.topic)}

    def later_deletions(self, spans: list[OffsetRange]) -> Iterator[Sent]:
        """Yield the tombstones after `spans`."""
        later = topics.find_new_offset_ranges(spans, topics.fetch_offset_ranges(self._settings, self._pipeline.topic))
        messages = topics.read_records(self._settings, self._pipeline.topic, later)
        return (sent for sent in map(self.sent_of, messages) if sent.is_deletion)


def copy_of(letter: DeadLetter, *, is_current: bool) -> DeadLetterCopy:
    """Return what a reconciliation needs to know of a dead letter."""
    return DeadLetterCopy(
        identity=letter.identity,
        queue_partition=letter.partition,
        time=letter.time,
        run=letter.run,
        is_shrunk=letter.left_out is not None,
        partition=letter.origin.partition,
        offset=letter.origin.offset,
        is_current=is_current,
    )
