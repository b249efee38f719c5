"""The batches that the local stack's Spark job is stuck on, as recorded in Cassandra."""

import socket

from penstock import pipelines
from penstock.config import LOOPBACK, Settings
from penstock.contract.failing import FailingBatch, stuck_batches
from penstock.errors import CassandraUnreachable, PenstockError
from penstock.log import get_logger
from penstock.process.checkpoint import folder_of

log = get_logger(__name__)

_TIMEOUT_S = 3.0


def describe_stuck_batches(settings: Settings) -> str:
    """Return what the job is stuck on and what to do, or '' if it is not stuck or Cassandra is unavailable."""
    try:
        batches = find_stuck_batches(settings)
    except PenstockError as error:
        log.debug("service_unreachable", service="cassandra", error=error.message)
        return ""
    return "; ".join(batch.notice for batch in batches)


def find_stuck_batches(settings: Settings) -> list[FailingBatch]:
    """Return the batches of the job's own checkpoint that it is stuck on. Raises `PenstockError`."""
    from penstock.sink import cassandra
    from penstock.sink.failing_batches import FailingBatches

    _check_port(settings)
    pipeline = pipelines.of(settings)
    checkpoint = folder_of(settings, pipeline.topic)
    quick = settings.model_copy(update={"cassandra_timeout_s": _TIMEOUT_S})
    with cassandra.connected(quick) as session:
        recorded = FailingBatches(session, cassandra.keyspace_of(settings, pipeline), pipeline.topic).read()
    return stuck_batches([batch for batch in recorded if batch.checkpoint == checkpoint], checkpoint, {})


def _check_port(settings: Settings) -> None:
    """Check that the port accepts connections, which is cheaper than loading a driver that then waits."""
    try:
        socket.create_connection((LOOPBACK, settings.cassandra_port), _TIMEOUT_S).close()
    except OSError as error:
        raise CassandraUnreachable(f"{LOOPBACK}:{settings.cassandra_port}: {error.strerror or error}") from None
