"""What the producers were told, for it to be compared with what Kafka holds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.broker.topics import Span
from penstock.produce import journal
from penstock.produce.journal import Entry


@dataclass
class Acknowledged:
    """What the producers were told, held against Kafka."""

    attempts: int = 0
    records: int = 0
    runs: int | None = None
    """Successful runs that Airflow knows of and whose records are all in the stretch; None: Airflow did not tell."""
    why: str = ""
    """Why it did not."""


def deliveries(attempts: Iterable[journal.Attempt], spans: list[Span], *, to_the_end: bool) -> Iterator[Entry]:
    """Give what was acknowledged in the spans; `to_the_end`: behind them too, and in partitions without one."""
    by_partition = {span.partition: span for span in spans}
    nowhere = Span(0, 0, 0)
    for attempt in attempts:
        for entry in attempt.entries:
            span = by_partition.get(entry.partition, nowhere)
            if span.first <= entry.offset and (to_the_end or entry.offset < span.end):
                yield entry
