"""Arrow batches of raw Kafka records become rows and rejects; for a transform, these become columns and back."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
from msgspec.structs import asdict

from penstock.contract.batch import Decoded, Row
from penstock.contract.fields import fields
from penstock.contract.record import Arrival, Record
from penstock.contract.reject import Fault, Reason, Reject, Stage
from penstock.contract.rules import judge, latest_past
from penstock.contract.schemas import spark_ddl
from penstock.process.decode import Decoder

REJECT_DDL = (
    "_rejected STRUCT<reason: STRING, message: STRING, rules: ARRAY<STRING>, schema_id: BIGINT, "
    "key: BINARY, value: BINARY, headers: ARRAY<STRUCT<key: STRING, value: BINARY>>>"
)
"""The column that tells a reject from a row in a DataFrame of decoded records; null in a row."""


def decode_batches(batches: Iterable[pa.RecordBatch], decoder: Decoder, topic: str) -> Iterator[Decoded]:
    """Each batch of raw records (`process.session.RAW_COLUMNS`), decoded."""
    for batch in batches:
        yield _decode_batch(batch, decoder, topic)


def _decode_batch(batch: pa.RecordBatch, decoder: Decoder, topic: str) -> Decoded:
    rows: list[Row] = []
    rejects: list[Reject] = []
    decode = decoder.decode
    columns = (batch.column(name).to_pylist() for name in ("value", "timestamp_ms", "partition", "offset"))
    for at, (value, timestamp_ms, partition, offset) in enumerate(zip(*columns, strict=True)):
        decoded = decode(value)
        if isinstance(decoded, Fault):
            rejects.append(_reject(decoded, batch, at, topic, partition, offset, value))
        else:
            rows.append((decoded, timestamp_ms, partition, offset))
    return Decoded(rows, rejects)


def _reject(
    fault: Fault, batch: pa.RecordBatch, at: int, topic: str, partition: int, offset: int, value: bytes | None
) -> Reject:
    headers = batch.column("headers")[at].as_py() or []
    return Reject(
        fault=fault,
        topic=topic,
        partition=partition,
        offset=offset,
        key=batch.column("key")[at].as_py(),
        value=value,
        headers=[(header["key"], header["value"]) for header in headers],
    )


def decoded_ddl(record: type[Record]) -> str:
    """The Spark schema of decoded records: the record's columns and its arrival, and the reject when it is one."""
    columns = f"{spark_ddl(record)}, {spark_ddl(Arrival)}".replace(" NOT NULL", "")
    return f"{columns}, {REJECT_DDL}"


def to_columns(decoded: Iterable[Decoded], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Decoded records as Arrow batches of `schema`, the Arrow form of `decoded_ddl`."""
    for batch in decoded:
        rows = [_as_columns(row) for row in batch.rows]
        rejects = [_reject_as_columns(reject) for reject in batch.rejects]
        yield pa.RecordBatch.from_pylist(rows + rejects, schema=schema)


def _as_columns(row: Row) -> dict[str, Any]:
    record, timestamp_ms, partition, offset = row
    columns = {name: str(value) if isinstance(value, UUID) else value for name, value in asdict(record).items()}
    return {**columns, "ingested_at": _utc(timestamp_ms), "kafka_partition": partition, "kafka_offset": offset}


def _reject_as_columns(reject: Reject) -> dict[str, Any]:
    rejected = {
        "reason": str(reject.fault.reason),
        "message": reject.fault.message,
        "rules": list(reject.fault.rules),
        "schema_id": reject.fault.schema_id,
        "key": reject.key,
        "value": reject.value,
        "headers": [{"key": name, "value": value} for name, value in reject.headers],
    }
    return {"kafka_partition": reject.partition, "kafka_offset": reject.offset, "_rejected": rejected}


def _utc(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC)


def from_columns(batches: Iterable[pa.RecordBatch], row: type[Record], topic: str) -> Iterator[Decoded]:
    """Rows that a transform gave, and the rejects that went past it, as decoded batches again.

    A row that breaks the rules of `row` becomes a reject of stage `transform`, without its bytes: they are in Kafka.
    """
    names = [field.name for field in fields(row)]
    for batch in batches:
        decoded = Decoded([], [])
        for columns in batch.to_pylist():
            _sort_in(columns, names, row, topic, decoded)
        yield decoded


def _sort_in(columns: dict[str, Any], names: list[str], row: type[Record], topic: str, decoded: Decoded) -> None:
    partition, offset = columns["kafka_partition"], columns["kafka_offset"]
    rejected = columns["_rejected"]
    if rejected is not None:
        reason, rules = Reason(rejected["reason"]), tuple(rejected["rules"])
        fault = Fault(reason, rejected["message"], Stage.DECODE, rejected["schema_id"], rules)
        headers = [(header["key"], header["value"]) for header in rejected["headers"]]
        decoded.rejects.append(Reject(fault, topic, partition, offset, rejected["key"], rejected["value"], headers))
        return
    judged = judge({name: columns[name] for name in names}, row, latest_past())
    if isinstance(judged, list):
        fault = Fault.of(judged, Stage.TRANSFORM)
        decoded.rejects.append(Reject(fault, topic, partition, offset, None, None, []))
    else:
        timestamp_ms = round(columns["ingested_at"].timestamp() * 1000)
        decoded.rows.append((judged, timestamp_ms, partition, offset))
