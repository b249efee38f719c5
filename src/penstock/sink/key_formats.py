"""Proven key formats of a topic incarnation (`contract.proofs`), so that a replay decides as the stream did.

A proof is written before the ledger entries of the batch that found it, and never changed.
"""

from collections.abc import Callable, Iterable, Mapping

from cassandra.cluster import Session

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
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
    return {TABLE: _STATEMENT.format(keyspace=cql.quote_name(keyspace))}


def read_proofs(session: Session, keyspace: str, topic: str, epoch_us: int) -> KeyProofs:
    """Return the proofs of a topic incarnation, or `ASSUMED` if no job that keeps them has read it."""
    if not has_table(session, keyspace, TABLE):
        return ASSUMED
    query = f"SELECT shape, starts FROM {cql.quote_name(keyspace)}.{TABLE} WHERE topic = %s AND generation_us = %s"
    starts = {row["shape"]: dict(row["starts"] or {}) for row in session.execute(query, (topic, epoch_us))}
    if _ASSUMED not in starts:
        return ASSUMED
    return KeyProofs({shape: starts[shape] for shape in KEY_SHAPES if shape in starts}, starts[_ASSUMED])


class KeyFormats:
    """The proofs of one topic incarnation, kept current by the job. `ranges_now` returns what the topic holds."""

    def __init__(
        self, session: Session, keyspace: str, topic_ledger: Ledger, ranges_now: Callable[[], list[OffsetRange]]
    ) -> None:
        self._session, self._keyspace, self._ledger, self._ranges_now = session, keyspace, topic_ledger, ranges_now
        self.known = self._load_proofs()
        if self.known is ASSUMED:  # the ledger's entries were stored before proofs were kept
            self._insert_proof(
                _ASSUMED, {offset_range.partition: topic_ledger.reached(offset_range) for offset_range in ranges_now()}
            )

    def note(self, proofs: Mapping[KeyShape, Starts], summaries: Iterable[BatchSummary]) -> None:
        """Write the proofs found in a batch. In partitions without evidence they apply from the end of the batch."""
        if proofs:
            ends = self._find_end_offsets(summaries)
            for shape, starts in proofs.items():
                self._insert_proof(shape, {**ends, **starts})
                log.info("key_format_proven", topic=self._ledger.topic, shape=shape)

    def _find_end_offsets(self, summaries: Iterable[BatchSummary]) -> dict[int, int]:
        """Return the next offset of each partition after a batch that is not in the ledger yet."""
        read = {summary.partition: summary.last_offset + 1 for summary in summaries}
        ranges = self._ranges_now()
        return {
            offset_range.partition: read.get(offset_range.partition) or self._ledger.reached(offset_range)
            for offset_range in ranges
        }

    def _insert_proof(self, shape: str, starts: Starts) -> None:
        """Write one row, or use the one that another process has just written."""
        query = (
            f"INSERT INTO {cql.quote_name(self._keyspace)}.{TABLE} (topic, generation_us, shape, starts) "
            "VALUES (%s, %s, %s, %s) IF NOT EXISTS"
        )
        positive = {partition: start for partition, start in starts.items() if start}
        self._session.execute(query, (self._ledger.topic, self._ledger.epoch_us, shape, positive))
        self.known = self._load_proofs()

    def _load_proofs(self) -> KeyProofs:
        return read_proofs(self._session, self._keyspace, self._ledger.topic, self._ledger.epoch_us)


def proven_by_now(settings: Settings, session: Session, pipeline: Pipeline) -> Proven:
    """Return the key shapes that are proven for records arriving now. Raises an `Unreachable`.

    They determine whether a tombstone sent again would identify the row to delete.
    """
    keyspace = keyspace_of(settings, pipeline)
    if not has_table(session, keyspace, "generations"):
        return frozenset()
    topic_id = topics.fetch_topic_id(settings, pipeline.topic)
    epoch_us = ledger.read_epoch_us(session, keyspace, pipeline.topic, topic_id)
    if epoch_us is None:
        return frozenset()
    return read_proofs(session, keyspace, pipeline.topic, epoch_us).by_now
