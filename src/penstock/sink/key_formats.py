"""Proven key formats of a topic incarnation (`contract.proofs`), so that a replay decides as the stream did.

A proof is written before the ledger entries of the batch that found it, and never changed.
"""

from collections.abc import Callable, Iterable, Mapping

from cassandra.cluster import Session

from penstock.broker import topics
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract import cql
from penstock.contract.batch import BatchSummary
from penstock.contract.proofs import ASSUMED, KEY_SHAPES, KeyProofs, KeyShape, Proven, Starts
from penstock.log import get_logger
from penstock.pipelines import Pipeline
from penstock.sink import ledger
from penstock.sink.cassandra import has_table, keyspace_of
from penstock.sink.ledger import Ledger

log = get_logger(__name__)

TABLE = "key_formats"
_ASSUMED = "assumed"
"""Shape of the row that records the offsets from which proofs are kept."""
_STATEMENT = """
CREATE TABLE IF NOT EXISTS {keyspace}.key_formats (
  topic text,
  generation_us bigint,
  shape text,
  starts map<int, bigint>,
  PRIMARY KEY ((topic, generation_us), shape)
)
"""


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by table name."""
    return {TABLE: _STATEMENT.format(keyspace=cql.name(keyspace))}


def read_proofs(session: Session, keyspace: str, topic: str, epoch_us: int) -> KeyProofs:
    """Return the proofs of a topic incarnation, or `ASSUMED` if no job that keeps them has read it."""
    if not has_table(session, keyspace, TABLE):
        return ASSUMED
    query = f"SELECT shape, starts FROM {cql.name(keyspace)}.{TABLE} WHERE topic = %s AND generation_us = %s"
    found = {row["shape"]: dict(row["starts"] or {}) for row in session.execute(query, (topic, epoch_us))}
    if _ASSUMED not in found:
        return ASSUMED
    return KeyProofs({shape: found[shape] for shape in KEY_SHAPES if shape in found}, found[_ASSUMED])


class KeyFormats:
    """The proofs of one topic incarnation, kept current by the job. `spans_now` returns the topic's current spans."""

    def __init__(self, session: Session, keyspace: str, book: Ledger, spans_now: Callable[[], list[Span]]) -> None:
        self._session, self._keyspace, self._book, self._spans_now = session, keyspace, book, spans_now
        self.known = self._load_proofs()
        if self.known is ASSUMED:  # the ledger's entries were stored before proofs were kept
            self._insert_proof(_ASSUMED, {span.partition: book.reached(span) for span in spans_now()})

    def note(self, found: Mapping[KeyShape, Starts], tallies: Iterable[BatchSummary]) -> None:
        """Write the proofs found in a batch. In partitions without evidence they apply from the end of the batch."""
        if found:
            ends = self._find_end_offsets(tallies)
            for shape, starts in found.items():
                self._insert_proof(shape, {**ends, **starts})
                log.info("key_format_proven", topic=self._book.topic, shape=shape)

    def _find_end_offsets(self, tallies: Iterable[BatchSummary]) -> dict[int, int]:
        """Return the next offset of each partition after a batch that is not in the ledger yet."""
        read = {tally.partition: tally.last_offset + 1 for tally in tallies}
        spans = self._spans_now()
        return {span.partition: read.get(span.partition) or self._book.reached(span) for span in spans}

    def _insert_proof(self, shape: str, starts: Starts) -> None:
        """Write one row, or use the one that another process has just written."""
        query = (
            f"INSERT INTO {cql.name(self._keyspace)}.{TABLE} (topic, generation_us, shape, starts) "
            "VALUES (%s, %s, %s, %s) IF NOT EXISTS"
        )
        positive = {partition: start for partition, start in starts.items() if start}
        self._session.execute(query, (self._book.topic, self._book.epoch_us, shape, positive))
        self.known = self._load_proofs()

    def _load_proofs(self) -> KeyProofs:
        return read_proofs(self._session, self._keyspace, self._book.topic, self._book.epoch_us)


def proven_by_now(settings: Settings, session: Session, pipeline: Pipeline) -> Proven:
    """Return the key shapes that are proven for records arriving now. Raises an `Unreachable`.

    They determine whether a tombstone sent again would identify the row to delete.
    """
    keyspace = keyspace_of(settings, pipeline)
    if not has_table(session, keyspace, "generations"):
        return frozenset()
    topic_id = topics.topic_id(settings, pipeline.topic)
    epoch_us = ledger.epoch_us(session, keyspace, pipeline.topic, topic_id)
    if epoch_us is None:
        return frozenset()
    return read_proofs(session, keyspace, pipeline.topic, epoch_us).by_now
