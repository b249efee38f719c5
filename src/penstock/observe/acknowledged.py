"""What the producers were told, held against what Kafka was seen to hold."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from penstock.broker.topics import Place, Span
from penstock.observe.audit import Sent
from penstock.produce import journal


@dataclass
class Acknowledged:
    """What the producers were told, held against Kafka."""

    attempts: int = 0
    records: int = 0
    runs: int | None = None
    """Successful runs that Airflow knows of and whose records are all in the stretch; None: Airflow did not tell."""
    why: str = ""
    """Why it did not."""


class Seen:
    """What Kafka was seen to hold, for the journal and the runs to be compared with."""

    def __init__(self, attempts: list[journal.Attempt], spans: list[Span], *, to_the_end: bool) -> None:
        """`to_the_end`: what was acknowledged behind the spans, or in a partition without one, is looked for too."""
        by_partition = {span.partition: span for span in spans}
        nowhere = Span(0, 0, 0)
        self.attempts = len(attempts)
        self._told = {
            (one.partition, one.offset): one.key
            for attempt in attempts
            for one in attempt.entries
            if (span := by_partition.get(one.partition, nowhere)).first <= one.offset
            and (to_the_end or one.offset < span.end)
        }
        self.wrong: list[dict[str, Any]] = []
        """Records that lie where Kafka acknowledged another key."""
        self.records = 0
        self.of_run: Counter[str] = Counter()

    def note(self, one: Sent) -> None:
        """Note a record in Kafka."""
        if one.run is not None:
            self.of_run[one.run] += 1
        key = self._told.pop((one.partition, one.offset), None)
        if key is None:
            return
        self.records += 1
        if one.key != key.encode():
            self.wrong.append(_wrong(one.partition, one.offset, key))

    @property
    def gone(self) -> dict[Place, str]:
        """The keys of records that Kafka acknowledged, and that are not where it said."""
        return {Place(*place): key for place, key in self._told.items()}


def _wrong(partition: int, offset: int, key: str) -> dict[str, Any]:
    return {"partition": partition, "offset": offset, "id": key, "why": "Kafka acknowledged another key at this offset"}
