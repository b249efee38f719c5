"""A dead-letter topic for tests: Kafka with what was sent to it, and the table of resolutions."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from confluent_kafka import Message

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.contract.batch import Reject
from penstock.contract.fault import Fault, Reason
from penstock.dead_letters.message import DeadLetter, parse_message
from penstock.dead_letters.topic import send_dead_letters
from tests.unit.fakes import FakeProducer

GENERATION_US = 7
TOPIC_ID = "id-1"
_LOOKED_UP = ("readings", "samples")


def reject(offset: int = 5, value: bytes | None = b"{}", **changes: Any) -> Reject:
    """A record that was rejected at `offset`."""
    fault = Fault(changes.pop("reason", Reason.CONTRACT_BROKEN), "is wrong", rules=changes.pop("rules", ("a:type",)))
    plain = {"fault": fault, "topic": "readings", "partition": 0, "key": b"k", "headers": []}
    return Reject(**plain | {"offset": offset, "value": value} | changes)


class FakeKafka:
    """Topics of one partition that contain what the producer was given. Offsets count over all topics."""

    def __init__(self, producer: FakeProducer | None = None) -> None:
        self.producer = producer or FakeProducer()

    def use(self, monkeypatch: Any) -> "FakeKafka":
        """Stand in for the broker."""
        monkeypatch.setattr(topics, "fetch_offset_ranges", self.spans)
        monkeypatch.setattr(topics, "read_records", self.records)
        monkeypatch.setattr(topics, "fetch_topic_id", lambda *_: TOPIC_ID)
        monkeypatch.setattr(topics, "ensure_pipeline_topics", lambda *_: None)
        return self

    def lying(self, topic: str) -> list[Message]:
        return [message for message in self.producer.sent if message.topic() == topic]

    def spans(self, settings: Any, topic: str) -> list[OffsetRange]:
        lying = self.lying(topic)
        return [OffsetRange(0, 0, lying[-1].offset() + 1)] if lying else []

    def records(self, settings: Any, topic: str, wanted: list[OffsetRange]) -> Iterator[Message]:
        for span in wanted:
            yield from (item for item in self.lying(topic) if span.first <= item.offset() < span.end)

    def set_aside(self, *rejects: Reject, topic: str = "readings.dlq") -> list[DeadLetter]:
        """The dead letters of `rejects`, which are then in the topic."""
        send_dead_letters(self.producer, topic, rejects, GENERATION_US)
        result = [parse_message(item) for item in self.lying(topic)[-len(rejects) :]]
        return [item for item in result if item is not None]


def set_aside_shrunk(kafka: FakeKafka, dead_letter: Reject) -> DeadLetter:
    """The dead letter of a record that exceeds the topic's limit, with its value or more omitted."""
    kafka.producer.limit_bytes = 2000
    (letter,) = kafka.set_aside(dead_letter)
    kafka.producer.limit_bytes = None
    assert letter.left_out is not None
    return letter


class FakeSettled:
    """The table `settled`, its transactions and its clock; the responses of a `FakeSession`."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, str], dict[str, Any]] = {}
        self.now = datetime(2026, 1, 1)
        self.is_there = False
        self.asked: list[str] = []
        self.others: dict[str, list[dict[str, Any]]] = {}
        """The rows of other tables that are there; those of `_LOOKED_UP` are looked up by their keys."""

    def __call__(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        self.asked.append(query)
        if "system_schema" in query:
            return [{"table_name": name, "comment": ""} for name in ["settled"] * self.is_there + list(self.others)]
        table = re.search(r"FROM \w+\.(\w+)", query)
        if table and table[1] in self.others:
            rows = self.others[table[1]]
            wanted = dict(zip(re.findall(r"(\w+) = \?", query), values, strict=False))
            is_looked_up = table[1] in _LOOKED_UP
            return [row for row in rows if wanted and wanted.items() <= row.items()] if is_looked_up else rows
        if query.lstrip().startswith("CREATE"):
            self.is_there = self.is_there or ".settled" in query
            return []
        assert self.is_there, "unconfigured table settled"
        if query.startswith("SELECT"):
            wanted = values[2] if len(values) > 2 else None
            result = {key: row for key, row in self.rows.items() if key[:2] == values[:2]}
            return [row | {"read_at": self.now} for key, row in result.items() if wanted is None or key[2] in wanted]
        if query.startswith("INSERT"):
            return self._insert(*values)
        if "SET state = ?" in query:
            return self._replace(*values)
        return self._finish("superseded" if "'superseded'" in query else "redriven", *values)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _insert(self, topic: str, bucket: int, identity: str, *rest: Any) -> list[dict[str, Any]]:
        key = topic, bucket, identity
        if key in self.rows:
            return [{"[applied]": False} | self.rows[key]]
        names = ("state", "claim", "who", "note", "ends")
        plain = {"identity": identity, "at": self.now, "new_partition": None, "new_offset": None}
        self.rows[key] = plain | dict(zip(names, rest, strict=True))
        return [{"[applied]": True}]

    def _replace(self, state: str, claim: UUID, who: str, note: str, ends: Any, *where: Any) -> list[dict[str, Any]]:
        changes = {"state": state, "claim": claim, "who": who, "note": note, "ends": ends or None}
        return self._update(where, changes)

    def _finish(self, state: str, partition: int, offset: int, *where: Any) -> list[dict[str, Any]]:
        return self._update(where, {"state": state, "new_partition": partition, "new_offset": offset})

    def _update(self, where: tuple[Any, ...], changes: dict[str, Any]) -> list[dict[str, Any]]:
        row = self.rows.get(where[:3])
        if row is None:
            return [{"[applied]": False}]
        if (row["state"], row["claim"]) != ("claimed", where[3]):
            return [{"[applied]": False, "state": row["state"], "claim": row["claim"]}]
        row |= changes | {"at": self.now}
        return [{"[applied]": True}]
