"""Stand-ins for remote services; `test_fakes.py` compares their methods with the real ones'."""

import re
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from cassandra.cluster import ResultSet
from cassandra.cqltypes import BytesType
from cassandra.protocol import ColumnMetadata
from cassandra.query import BatchStatement, PreparedStatement
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from penstock.broker.registry import WireFormat, WriterSchema
from penstock.contract.record import Record
from penstock.contract.schemas import avro_schema, json_schema
from penstock.errors import PenstockError, SchemaUnknown
from penstock.sink.cassandra import TUPLES

JSON_ID, AVRO_ID = 1, 2


class Clock:
    """A clock that sleeping advances."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


def kafka_error(code: int, reason: str = "no reason") -> KafkaException:
    """The error that confluent-kafka raises."""
    return KafkaException(KafkaError(code, reason))


class FakeSchemas:
    """A schema registry that knows some schemas; `penstock.broker.registry.Schemas`."""

    def __init__(self, writers: dict[int, WriterSchema] | None = None, error: PenstockError | None = None) -> None:
        self._writers = writers or {}
        self._error = error
        self.asked: list[int] = []

    @classmethod
    def of(cls, record: type[Record]) -> "FakeSchemas":
        return cls(
            {JSON_ID: WriterSchema("json", json_schema(record)), AVRO_ID: WriterSchema("avro", avro_schema(record))}
        )

    def writer(self, schema_id: int) -> WriterSchema:
        self.asked.append(schema_id)
        if self._error:
            raise self._error
        if schema_id not in self._writers:
            raise SchemaUnknown(f"no schema {schema_id}")
        return self._writers[schema_id]


class FakeRegistry(FakeSchemas):
    """A schema registry that also registers schemas."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: list[tuple[str, type[Record], WireFormat]] = []

    def register(self, subject: str, record: type[Record], wire_format: WireFormat) -> int:
        self.registered.append((subject, record, wire_format))
        return JSON_ID


class FakeProducer:
    """A producer whose records are acknowledged at the next `poll` or `flush`, in one partition.

    At most `queue` records are queued; those that `fails` accepts are reported as failed; `held` are never reported.
    Those that are reported together are a batch: one of more than `limit_bytes` is rejected as a whole, as by Kafka.
    """

    def __init__(
        self,
        *,
        queue: int = 1000,
        fails: Callable[[Message], bool] = lambda _: False,
        held: int = 0,
        refuses: KafkaException | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        self._queue, self._fails, self._held, self._refuses = queue, fails, held, refuses
        self.limit_bytes = limit_bytes
        self._refused = 0
        self._waiting: list[tuple[Message, Any]] = []
        self.full = 0
        self.flushed_s: list[float] = []
        self.sent: list[Message] = []
        self.asked_partitions: list[int] = []

    def produce(
        self,
        topic: str,
        value: Any,
        key: Any,
        headers: Any,
        on_delivery: Any,
        timestamp: int = 0,
        partition: int = -1,
    ) -> None:
        if self._refuses:
            raise self._refuses
        if len(self._waiting) >= self._queue:
            self.full += 1
            raise BufferError
        self.asked_partitions.append(partition)
        where = {"topic": topic, "partition": 0, "offset": len(self.sent) + self._refused, "timestamp": (1, timestamp)}
        message = Message(**where, key=key, value=value, headers=headers)
        self.sent.append(message)
        self._waiting.append((message, on_delivery))

    def poll(self, timeout: float) -> int:
        return self._report(len(self._waiting)) if timeout else 0

    def flush(self, timeout: float) -> int:
        self.flushed_s.append(timeout)
        self._report(max(0, len(self._waiting) - self._held))
        return len(self._waiting)

    def _report(self, count: int) -> int:
        reported, self._waiting = self._waiting[:count], self._waiting[count:]
        if self.limit_bytes is not None and sum(_size_bytes(item) for item, _ in reported) > self.limit_bytes:
            self._refused += count
            self.sent = [item for item in self.sent if all(item is not message for message, _ in reported)]
            for message, on_delivery in reported:
                on_delivery(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "too large"), message)
            return count
        for message, on_delivery in reported:
            error = KafkaError(KafkaError._MSG_TIMED_OUT, "timed out") if self._fails(message) else None
            on_delivery(error, message)
        return count


def _size_bytes(message: Message) -> int:
    named = sum(len(name) + len(value or b"") for name, value in message.headers() or [])
    return len(message.key() or b"") + len(message.value() or b"") + named


class FakeConsumer:
    """A consumer that returns each of `batches` once, then waits in vain; it knows the watermarks of `partitions`.

    `times` has the offset that it finds for any time, by partition; -1: no record is that new.
    """

    def __init__(
        self,
        batches: Iterable[list[Message]] = (),
        partitions: dict[int, tuple[int, int] | None] | None = None,
        error: KafkaError | None = None,
        raises: KafkaException | None = None,
        clock: Clock | None = None,
        times: dict[int, int | KafkaError] | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._times = times or {}
        self.asked_ms: list[int] = []
        self._batches = list(batches)
        self._partitions = partitions or {}
        self._error, self._raises = error, raises
        self.assigned: list[tuple[str, int, int]] = []
        self.closed = False
        self.is_assigned = False

    def list_topics(self, topic: str, timeout: float) -> Any:
        if self._raises:
            raise self._raises
        return SimpleNamespace(topics={topic: SimpleNamespace(error=self._error, partitions=self._partitions)})

    def get_watermark_offsets(self, partition: Any, timeout: float) -> tuple[int, int] | None:
        return self._partitions[partition.partition] if self._partitions else (0, 1_000_000)

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[Any]:
        if self._raises:
            raise self._raises
        self.asked_ms += [partition.offset for partition in partitions]
        return [self._at(partition.partition, self._times[partition.partition]) for partition in partitions]

    def _at(self, partition: int, result: int | KafkaError) -> Any:
        is_error = isinstance(result, KafkaError)
        return SimpleNamespace(
            partition=partition, offset=-1 if is_error else result, error=result if is_error else None
        )

    def assign(self, partitions: list[Any]) -> None:
        self.assigned += [(partition.topic, partition.partition, partition.offset) for partition in partitions]
        self.is_assigned = True

    def unassign(self) -> None:
        self.is_assigned = False

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        if self._raises:
            raise self._raises
        if self._batches:
            return self._batches.pop(0)
        self._clock.sleep(timeout)
        return []

    def close(self) -> None:
        self.closed = True


def message(
    offset: int,
    value: bytes | None = b"{}",
    *,
    partition: int = 0,
    topic: str = "t",
    key: bytes | None = None,
    headers: list[tuple[str, bytes | None]] | None = None,
    timestamp_ms: int = 0,
) -> Message:
    """A record as it is read from Kafka."""
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        value=value,
        headers=headers,
        timestamp=(1, timestamp_ms),
    )


def event(code: int, offset: int = 0) -> Message:
    """An event among the records."""
    return Message(topic="t", partition=0, offset=offset, error=KafkaError(code, "event"))


class FakeFuture:
    """A response of Cassandra that is available already."""

    has_more_pages = False
    _paging_state = None
    _col_names: Sequence[str] = ()
    _col_types: Sequence[Any] = ()

    def __init__(self, rows: list[dict[str, Any]], error: Exception | None) -> None:
        self._rows, self._error = rows, error

    def add_callbacks(self, callback: Any, errback: Any, callback_args: Any, errback_args: Any) -> None:
        if self._error:
            errback(self._error, *errback_args)
        else:
            callback(self._rows, *callback_args)

    def clear_callbacks(self) -> None:
        pass

    def result(self) -> ResultSet:
        if self._error:
            raise self._error
        return ResultSet(self, self._rows)


Answer = Callable[[str, tuple[Any, ...]], list[dict[str, Any]]]


class FakeSession:
    """A session whose rows are what `answer` returns for a query and its values; it records its queries."""

    def __init__(self, answer: Answer = lambda *_: [], error: Exception | None = None) -> None:
        self._answer, self._error = answer, error
        self.executed: list[tuple[str, tuple[Any, ...]]] = []
        self.batches: list[BatchStatement] = []
        self.cluster = FakeCluster()

    def prepare(self, query: str) -> PreparedStatement:
        columns = re.findall(r"\w+", query.partition("(")[2].partition(")")[0])
        metadata = [ColumnMetadata("ks", "t", name, BytesType) for name in columns]
        return PreparedStatement(metadata, b"id", [0], query, "ks", 5, None, None)

    def execute(
        self, query: Any, parameters: Any = None, paging_state: Any = None, execution_profile: Any = None
    ) -> ResultSet:
        return self.execute_async(query, parameters, execution_profile).result()

    def execute_async(self, query: Any, parameters: Any = None, execution_profile: Any = None) -> FakeFuture:
        if isinstance(query, BatchStatement):
            self.batches.append(query)
            return FakeFuture([], self._error)
        text = getattr(query, "query_string", query)
        values = tuple(parameters or ())
        self.executed.append((text, values))
        if "SELECT table_name, comment FROM system_schema.tables" in text and self.cluster.metadata.keyspaces:
            return FakeFuture(self._tables(values), self._error)
        rows = self._answer(text, values)
        return FakeFuture(_as_tuples(text, rows) if execution_profile == TUPLES else rows, self._error)

    def _tables(self, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        """The tables of a keyspace, by the schema."""
        keyspace = self.cluster.metadata.keyspaces.get(values[0])
        return [{"table_name": name, "comment": ""} for name in keyspace.tables] if keyspace else []


def _as_tuples(query: str, rows: list[dict[str, Any]]) -> list[Any]:
    """The rows as tuples of the selected columns, each of which has a name in the query."""
    names = re.findall(r' AS "?([^",)]+?)"?(?=,| FROM )', query)
    return [tuple(row[name] for name in names) for row in rows]


def created(session: FakeSession) -> list[str]:
    """The statements with which a session was to create something."""
    return [query for query, _ in session.executed if query.lstrip().startswith("CREATE ")]


class FakeCluster:
    """A cluster of three nodes: a key's last byte determines its replicas."""

    def __init__(self) -> None:
        self.metadata = FakeMetadata()
        self.is_shutdown = False

    def shutdown(self) -> None:
        self.is_shutdown = True


class FakeMetadata:
    """What a cluster knows of itself."""

    def __init__(self) -> None:
        self.keyspaces: dict[str, Any] = {}
        self.hosts = ["host-0", "host-1", "host-2"]

    def all_hosts(self) -> list[str]:
        return self.hosts

    def get_replicas(self, keyspace: str, key: bytes) -> list[str]:
        return [f"host-{key[-1] % 3}"]
