"""Convert Arrow batches of raw Kafka records to rows, deletions and rejects; for a transform, to columns and back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast
from uuid import UUID

import pyarrow as pa
from msgspec.structs import asdict

from penstock.codec.records import Decoder
from penstock.contract.batch import Decoded, Deletion, Reject, Row
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.fields import UUID as UUID_KIND
from penstock.contract.fields import fields, from_epoch_ms
from penstock.contract.identity import Identity, identity_of
from penstock.contract.isolation import NOT_OF_A_RECORD, isolate
from penstock.contract.order import ONE_LAYOUT, Order
from penstock.contract.order_by import OrderBy
from penstock.contract.proofs import NOTHING_PROVEN, KeyEvidence, KeyProofs
from penstock.contract.record import Arrival, Record
from penstock.contract.rules import latest_past, validate_record
from penstock.contract.schemas import spark_ddl
from penstock.process.key_evidence import prove_shapes
from penstock.process.ordering import order_records

REJECT_DDL = (
    "_rejected STRUCT<reason: STRING, message: STRING, rules: ARRAY<STRING>, schema_id: BIGINT, "
    "key: BINARY, value: BINARY>"
)
"""Column that distinguishes a reject from a row in a DataFrame of decoded records; null in a row."""
DELETION_DDL = "_deleted BOOLEAN"
"""Column that distinguishes a deletion, which has an id and an arrival, from a row."""


SHIFT_DDL = "_shift_us BIGINT"
"""Column with what is added to a record's `epoch_us` and offset for its write timestamp (`contract.order`)."""


def decode_batches(
    batches: Iterable[pa.RecordBatch],
    decoder: Decoder,
    topic: str,
    order: Order = ONE_LAYOUT,
    epoch_us: int = 0,
    proofs: KeyProofs | KeyEvidence = NOTHING_PROVEN,
    order_by: OrderBy | None = None,
) -> Iterator[Decoded]:
    """Yield batches of raw records (`process.session.RAW_COLUMNS`), decoded. Rejects have no headers yet.

    What a batch's records with values prove about the topic's keys is added to `KeyEvidence`, and counts for its
    tombstones. `order_by` orders the records if it is set, otherwise `order` does.
    """
    for batch in batches:
        decoded = _decode_values(batch, decoder, topic)
        if isinstance(proofs, KeyEvidence) and not decoder.keys.is_declared:
            prove_shapes(batch, decoded.rows, decoder.keys, proofs)
        _decode_tombstones(batch, decoder, topic, proofs, decoded)
        if order_by is not None:
            order_records(decoded, batch, order_by, topic, epoch_us)
        else:
            decoded.shift_us = order.newest.shift_us
            decoded.shifts = _shifts_of(batch, order, epoch_us)
        yield decoded


def _shifts_of(batch: pa.RecordBatch, order: Order, epoch_us: int) -> dict[tuple[int, int], int]:
    """Return the shifts of records whose shift is not the newest layout's: those of an older one, or redriven."""
    if len(order.layouts) == 1 and batch.column("order_header").null_count == batch.num_rows:
        return {}
    usual_us = order.newest.shift_us
    columns = (batch.column(name).to_pylist() for name in ("partition", "offset", "key", "order_header"))
    shifts = {record[:2]: order.rank_of(*record, epoch_us=epoch_us).shift_us for record in zip(*columns, strict=True)}
    return {position: shift_us for position, shift_us in shifts.items() if shift_us != usual_us}


def _decode_values(batch: pa.RecordBatch, decoder: Decoder, topic: str) -> Decoded:
    """Decode the records that have a value."""
    result = Decoded()
    rows, decode = result.rows, decoder.decode
    columns = (batch.column(name).to_pylist() for name in ("value", "timestamp_ms", "partition", "offset"))
    for at, (value, timestamp_ms, partition, offset) in enumerate(zip(*columns, strict=True)):
        if value is None:
            continue
        decoded = decode(value)
        if isinstance(decoded, Fault):
            result.rejects.append(_build_reject(decoded, batch, at, topic, partition, offset, value))
        else:
            rows.append((decoded, timestamp_ms, partition, offset))
    return result


def _decode_tombstones(
    batch: pa.RecordBatch, decoder: Decoder, topic: str, proofs: KeyProofs | KeyEvidence, result: Decoded
) -> None:
    """Add the deletions of the records without a value to `result`, or rejects."""
    if not batch.column("value").null_count:
        return
    for row in batch.filter(batch.column("value").is_null()).to_pylist():
        key, partition, offset = row["key"], row["partition"], row["offset"]
        deleted = decoder.deleted(key, proofs.at(partition, offset))
        if isinstance(deleted, Fault):
            result.rejects.append(Reject(deleted, topic, partition, offset, key, None, []))
        else:
            result.deletions.append(Deletion(deleted, row["timestamp_ms"], partition, offset))


def _build_reject(
    fault: Fault, batch: pa.RecordBatch, at: int, topic: str, partition: int, offset: int, value: bytes | None
) -> Reject:
    return Reject(
        fault=fault,
        topic=topic,
        partition=partition,
        offset=offset,
        key=batch.column("key")[at].as_py(),
        value=value,
        headers=[],
    )


def decoded_ddl(record: type[Record]) -> str:
    """Return the Spark schema of decoded records: record, arrival, and columns for rejects, deletions and shifts."""
    columns = f"{spark_ddl(record)}, {spark_ddl(Arrival)}".replace(" NOT NULL", "")
    return f"{columns}, {REJECT_DDL}, {DELETION_DDL}, {SHIFT_DDL}"


def to_columns(decoded: Iterable[Decoded], record: type[Record], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield decoded records as Arrow batches of `schema`, the Arrow form of `decoded_ddl`."""
    identity, as_columns = identity_of(record), _build_column_writer(record)

    def encode(items: Sequence[Row | Deletion]) -> pa.RecordBatch:
        rows = [
            _deletion_as_columns(item, identity) if isinstance(item, Deletion) else as_columns(item) for item in items
        ]
        return pa.RecordBatch.from_pylist(rows, schema=schema.remove(schema.get_field_index("_shift_us")))

    for batch in decoded:
        encoded, failures = isolate([*batch.rows, *batch.deletions], encode)
        rejects = [
            _rejected_columns(reject.fault, (reject.partition, reject.offset), reject.key, reject.value)
            for reject in batch.rejects
        ]
        rejects += [_rejected_columns(Fault.of_exception(error), item[2:]) for item, error in failures]
        whole = pa.concat_batches([encoded, pa.RecordBatch.from_pylist(rejects, schema=encoded.schema)])
        yield pa.RecordBatch.from_arrays([*whole.columns, _shift_column(batch, whole)], schema=schema)


def _shift_column(decoded: Decoded, columns: pa.RecordBatch) -> pa.Array:
    if not decoded.shifts:
        return pa.repeat(pa.scalar(decoded.shift_us, pa.int64()), columns.num_rows)
    positions = zip(*(columns.column(name).to_pylist() for name in ("kafka_partition", "kafka_offset")), strict=True)
    return pa.array([decoded.shifts.get(position, decoded.shift_us) for position in positions], pa.int64())


def _build_column_writer(record: type[Record]) -> Callable[[Row], dict[str, Any]]:
    """Return a function that converts a row to columns, as Arrow takes them."""
    converters = [(field.column, field.kind.to_arrow) for field in fields(record) if field.kind.to_arrow is not None]

    def as_columns(row: Row) -> dict[str, Any]:
        instance, timestamp_ms, partition, offset = row
        columns = asdict(instance)
        for name, convert in converters:
            if columns[name] is not None:
                columns[name] = convert(columns[name])
        return columns | _build_metadata(timestamp_ms, partition, offset)

    return as_columns


def _build_metadata(timestamp_ms: int, partition: int, offset: int) -> dict[str, Any]:
    return {"ingested_at": from_epoch_ms(timestamp_ms), "kafka_partition": partition, "kafka_offset": offset}


def _deletion_as_columns(deletion: Deletion, identity: Identity) -> dict[str, Any]:
    values = zip(identity.fields, identity.values_of(deletion.key), strict=True)
    columns = {
        field.column: value if field.kind.to_arrow is None else field.kind.to_arrow(value) for field, value in values
    }
    metadata = _build_metadata(deletion.timestamp_ms, deletion.partition, deletion.offset)
    return columns | {"_deleted": True} | metadata


def _rejected_columns(
    fault: Fault, position: tuple[int, int], key: bytes | None = None, value: bytes | None = None
) -> dict[str, Any]:
    partition, offset = position
    rejected = {
        "reason": str(fault.reason),
        "message": fault.message,
        "rules": list(fault.rules),
        "schema_id": fault.schema_id,
        "key": key,
        "value": value,
    }
    return {"kafka_partition": partition, "kafka_offset": offset, "_rejected": rejected}


def from_columns(batches: Iterable[pa.RecordBatch], row: type[Record], topic: str) -> Iterator[Decoded]:
    """Yield the rows that a transform returned, and the rejects and deletions that bypassed it, as decoded batches.

    A row that breaks the rules of `row`, or holds what Python cannot, becomes a reject of stage `transform`, without
    its bytes: they are in Kafka.
    """
    sorter = _Sorter(row, topic)
    for batch in batches:
        rows, failures = isolate(range(batch.num_rows), partial(_rows_at, batch))
        decoded = Decoded(shift_us=rows[0]["_shift_us"] if rows else 0)
        for columns in rows:
            sorter.sort_in(columns, decoded)
            if columns["_shift_us"] != decoded.shift_us:
                decoded.shifts[_read_position(columns)] = columns["_shift_us"]
        for at, error in failures:
            sorter.reject(Fault.of_exception(error, Stage.TRANSFORM), _read_position_at(batch, at), decoded)
        yield decoded


def _rows_at(batch: pa.RecordBatch, some: Sequence[int]) -> list[dict[str, Any]]:
    rows = batch if len(some) == batch.num_rows else batch.take(pa.array(some, pa.int64()))
    return cast(list[dict[str, Any]], rows.to_pylist())


def _read_position_at(batch: pa.RecordBatch, at: int) -> tuple[int, int]:
    return batch.column("kafka_partition")[at].as_py(), batch.column("kafka_offset")[at].as_py()


class _Sorter:
    """Separates rows, rejects and deletions of one topic."""

    def __init__(self, row: type[Record], topic: str) -> None:
        self._row = row
        self._topic = topic
        self._fields = [(field.name, field.column, field.kind.from_arrow) for field in fields(row)]
        self._identity = identity_of(row)

    def sort_in(self, columns: dict[str, Any], decoded: Decoded) -> None:
        """Add the row, reject or deletion in `columns` to `decoded`."""
        if columns["_rejected"] is not None:
            decoded.rejects.append(self._build_reject(columns))
        elif columns["_deleted"]:
            decoded.deletions.append(self._build_deletion(columns))
        else:
            self._sort_in_row(columns, decoded)

    def _build_reject(self, columns: dict[str, Any]) -> Reject:
        rejected = columns["_rejected"]
        reason, rules = Reason(rejected["reason"]), tuple(rejected["rules"])
        stage = Stage.TRANSFORM if reason == Reason.TRANSFORM_FAILED else Stage.DECODE
        fault = Fault(reason, rejected["message"], stage, rejected["schema_id"], rules)
        return Reject(fault, self._topic, *_read_position(columns), rejected["key"], rejected["value"], [])

    def _build_deletion(self, columns: dict[str, Any]) -> Deletion:
        values = [
            UUID(columns[field.column]) if field.kind is UUID_KIND else columns[field.column]
            for field in self._identity.fields
        ]
        return Deletion(self._identity.of_values(values), _timestamp_ms(columns), *_read_position(columns))

    def _sort_in_row(self, columns: dict[str, Any], decoded: Decoded) -> None:
        try:
            values = {
                name: columns[column] if read is None or columns[column] is None else read(columns[column])
                for name, column, read in self._fields
            }
            validated = validate_record(values, self._row, latest_past())
            time_ms = _timestamp_ms(columns)
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001  types of a pipeline's file run here and may raise anything
            self.reject(Fault.of_exception(error, Stage.TRANSFORM), _read_position(columns), decoded)
            return
        if isinstance(validated, list):
            self.reject(Fault.of(validated, Stage.TRANSFORM), _read_position(columns), decoded)
        else:
            decoded.rows.append((validated, time_ms, *_read_position(columns)))

    def reject(self, fault: Fault, position: tuple[int, int], decoded: Decoded) -> None:
        """Add a reject for the record at a position, without its bytes: they are in Kafka."""
        decoded.rejects.append(Reject(fault, self._topic, *position, None, None, []))


def _read_position(columns: dict[str, Any]) -> tuple[int, int]:
    return columns["kafka_partition"], columns["kafka_offset"]


def _timestamp_ms(columns: dict[str, Any]) -> int:
    moment: datetime = columns["ingested_at"]
    return round(moment.timestamp() * 1000)
