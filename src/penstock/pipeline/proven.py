"""The currently proven key formats of a topic: whether a tombstone sent again would identify the row to delete."""

from cassandra.cluster import Session

from penstock.broker import topics
from penstock.config import Settings
from penstock.contract.proofs import Proven
from penstock.pipelines import Pipeline
from penstock.sink import cassandra, key_formats, ledger


def proven_by_now(settings: Settings, session: Session, pipeline: Pipeline) -> Proven:
    """Return the key shapes that are proven for records arriving now. Raises an `Unreachable`."""
    keyspace = cassandra.keyspace_of(settings, pipeline)
    if not cassandra.has_table(session, keyspace, "generations"):
        return frozenset()
    topic_id = topics.fetch_topic_id(settings, pipeline.topic)
    epoch_us = ledger.read_epoch_us(session, keyspace, pipeline.topic, topic_id)
    if epoch_us is None:
        return frozenset()
    return key_formats.read_proofs(session, keyspace, pipeline.topic, epoch_us).by_now
