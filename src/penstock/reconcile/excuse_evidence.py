"""Evidence for excuses, read from Cassandra and Kafka the first time that something needs to be excused."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from cassandra.cluster import Session

from penstock.broker import admin, kafka, topics
from penstock.config import Settings
from penstock.contract.fields import from_epoch_ms
from penstock.errors import KafkaUnreachable, PenstockError
from penstock.log import get_logger
from penstock.pipelines import Pipeline
from penstock.reconcile.excuses import Compaction, Lifetime, expiries, is_expired, with_present
from penstock.sink import accepted, cassandra, receipts

log = get_logger(__name__)

_COUNTS = {"miscounted", "doubled", "run"}
"""Kinds of differences that are counts: if a count changes, it is no longer the difference that was accepted."""


class Evidence:
    """The table's TTL, the topic's compaction and the dead-letter topic's log start, from Cassandra and Kafka."""

    def __init__(
        self, settings: Settings, session: Session, pipeline: Pipeline, epoch_us: Callable[[], int | None]
    ) -> None:
        """Initialize the evidence; nothing is read yet.

        `epoch_us` returns the timestamp base of the current topic incarnation, or None before a job has read it.
        """
        self._settings, self._session, self._pipeline = settings, session, pipeline
        self._epoch_us = epoch_us
        self._keyspace = cassandra.keyspace_of(settings, pipeline)

    def accepts(self, kind: str, difference: Mapping[str, Any]) -> bool:
        """Return whether an operator accepted a difference, which has partition, offset, id and why."""
        place = difference["partition"], difference["offset"], difference["id"]
        why = self._accepted.get((kind, *place))
        return why is not None and (kind not in _COUNTS or why == difference["why"])

    @cached_property
    def _accepted(self) -> dict[tuple[str, int | None, int | None, str | None], str]:
        """Return the `why` of each accepted difference, by kind, partition, offset and id."""
        epoch_us = self._epoch_us()
        if epoch_us is None:
            return {}
        entries = accepted.read_accepted(self._session, self._keyspace, self._pipeline.topic, epoch_us)
        return {(entry.kind, entry.partition, entry.offset, entry.id): entry.difference for entry in entries}

    def accepted_rows(self) -> Iterator[tuple[str, int | None, int | None, str | None, str | None]]:
        """Yield kind, partition, offset and id of each accepted difference, and its `why` if the kind is a count."""
        for (kind, partition, offset, record_id), why in self._accepted.items():
            yield kind, partition, offset, record_id, why if kind in _COUNTS else None

    @property
    def expiries(self) -> list[tuple[int, int]]:
        """Return the ranges of write times whose rows have expired by now."""
        return expiries(self.lifetimes, now_ms())

    def is_expired(self, written_ms: int) -> bool:
        """Return whether a row that was written at `written_ms` has expired by now."""
        return is_expired(written_ms, self.lifetimes, now_ms())

    @property
    def now_ms(self) -> int:
        """Return the current time, by which rows expire that have a field for it, in ms since the epoch."""
        return now_ms()

    @cached_property
    def lifetimes(self) -> list[Lifetime]:
        """Return the known TTLs of the table, oldest first: those in the last receipt, and the current TTL."""
        ttl = cassandra.table_ttl(self._session, self._keyspace, self._pipeline.table)
        last = receipts.read_latest_receipt(self._session, self._keyspace, self._pipeline.topic) or {}
        known = [Lifetime(**entry) for entry in last.get("lifetimes") or []]
        return with_present(known, ttl and Lifetime(*ttl))

    @cached_property
    def compaction(self) -> Compaction | None:
        """Return how the topic is compacted; None if it is not, or if its settings may not be read."""
        topic = self._pipeline.topic
        try:
            settings = {
                entry.name: entry.value or ""
                for entry in admin.read_settings(kafka.create_admin(self._settings), self._settings, topic)
            }
        except KafkaUnreachable:
            raise
        except PenstockError as error:
            log.warning("topic_settings_unreadable", topic=topic, error=error.message)
            return None
        if "compact" not in settings.get("cleanup.policy", "").split(","):
            return None
        return Compaction(now_ms() - int(settings.get("delete.retention.ms") or 0))

    @cached_property
    def queue_firsts(self) -> dict[int, int]:
        """Return the log start of each partition of the dead-letter topic."""
        ranges = topics.fetch_offset_ranges(self._settings, self._pipeline.dead_letter_topic)
        return {offset_range.partition: offset_range.first for offset_range in ranges}

    def described(self) -> list[str]:
        """Return the evidence that was read, as sentences."""
        asked: dict[str, Any] = vars(self)
        lines = []
        if asked.get("compaction"):
            lines.append(f"cleanup.policy of {self._pipeline.topic} includes compact")
        if any(asked.get("queue_firsts", {}).values()):
            starts = ", ".join(f"{partition}:{first}" for partition, first in self.queue_firsts.items())
            lines.append(f"log start of {self._pipeline.dead_letter_topic}: {starts}")
        if "lifetimes" in asked and isinstance(self._pipeline.ttl, str):
            lines.append(f"rows of {self._pipeline.table} expire by the field {self._pipeline.ttl} of their records")
        lines += [
            f"default_time_to_live of {self._pipeline.table} is {lifetime.ttl_s} s, in effect since at least "
            f"{from_epoch_ms(lifetime.since_ms).isoformat(timespec='seconds')}"
            for lifetime in asked.get("lifetimes", [])
            if lifetime.ttl_s
        ]
        return lines


def now_ms() -> int:
    """Return the current time, in ms since the epoch."""
    return time.time_ns() // 1_000_000
