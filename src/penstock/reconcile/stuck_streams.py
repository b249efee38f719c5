"""The stuck stream, as a difference that `verify` reports: records pending behind it will not be stored."""

from collections.abc import Iterator, Mapping
from typing import Any

from cassandra.cluster import Session

from penstock import pipelines
from penstock.config import Settings
from penstock.contract.failing import stuck_batches
from penstock.process.checkpoint import folder_of
from penstock.sink import cassandra
from penstock.sink.failing_batches import FailingBatches


def iter_stuck_differences(
    settings: Settings, session: Session, reached: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    """Yield a difference for each partition of a batch on which the stream is stuck.

    `reached` is the offset that the ledger reaches, by partition.
    """
    pipeline = pipelines.of(settings)
    failing = FailingBatches(session, cassandra.keyspace_of(settings, pipeline), pipeline.topic).read()
    for batch in stuck_batches(failing, folder_of(settings, pipeline.topic), reached):
        why = batch.notice
        starts = {partition: batch.first.get(partition, 0) for partition in sorted(batch.end)}
        waiting = {partition: first for partition, first in starts.items() if first < batch.end[partition]}
        if not waiting:
            yield {"partition": None, "offset": None, "id": None, "why": why}
        for partition, first in waiting.items():
            yield {"partition": partition, "offset": first, "id": None, "why": why}
