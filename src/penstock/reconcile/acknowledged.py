"""Acknowledgements to the producers, for comparison with what Kafka holds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.broker.topics import OffsetRange
from penstock.produce import delivery_log
from penstock.produce.delivery_log import Acknowledgement


@dataclass
class Acknowledged:
    """Acknowledgements to the producers, compared with Kafka."""

    attempts: int = 0
    records: int = 0
    runs: int | None = None
    """Successful runs in Airflow whose records all lie in the verified range; None if Airflow could not be queried."""
    why: str = ""
    """Why Airflow could not be queried."""


def iter_deliveries(
    attempts: Iterable[delivery_log.Attempt], ranges: list[OffsetRange], *, to_the_end: bool
) -> Iterator[Acknowledgement]:
    """Yield the acknowledgements in `ranges`; `to_the_end`: also beyond them, and in other partitions."""
    by_partition = {offset_range.partition: offset_range for offset_range in ranges}
    nowhere = OffsetRange(0, 0, 0)
    for attempt in attempts:
        for entry in attempt.entries:
            offset_range = by_partition.get(entry.partition, nowhere)
            if offset_range.first <= entry.offset and (to_the_end or entry.offset < offset_range.end):
                yield entry
