"""Assign write timestamps to the records of a decoded batch, according to the pipeline's `order_by`."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from penstock.contract.batch import Decoded, Reject
from penstock.contract.fault import Fault
from penstock.contract.order_by import OrderBy, Source
from penstock.contract.record import Headers
from penstock.contract.rules import latest_past

TOMBSTONE_HEADERS = "tombstone_headers"
"""Column of raw records with all headers of those without a value; only if the pipeline has `order_of_tombstone`."""

Position = tuple[int, int]


def order_records(decoded: Decoded, batch: pa.RecordBatch, order_by: OrderBy, topic: str, epoch_us: int) -> None:
    """Set the shift of each row and deletion in `decoded`; those without a write timestamp become rejects."""
    faults: dict[Position, Fault] = {}
    for at, place in _iter_timestamps(decoded, batch, order_by):
        if isinstance(place, Fault):
            faults[at] = place
        else:
            decoded.shifts[at] = place - epoch_us - at[1]
    if faults:
        decoded.reject(list(_iter_rejects(faults, batch, topic)))


def _iter_timestamps(
    decoded: Decoded, batch: pa.RecordBatch, order_by: OrderBy
) -> Iterator[tuple[Position, int | Fault]]:
    """Yield the write timestamp at each position, or why it has none."""
    latest, kept = latest_past(), _order_headers(batch)
    for record, timestamp_ms, partition, offset in decoded.rows:
        at = partition, offset
        yield at, order_by.place(record, Source(timestamp_ms, offset, kept.get(at)), latest)
    tombstones = _read_tombstones(batch) if decoded.deletions else {}
    for deletion in decoded.deletions:
        at = deletion.partition, deletion.offset
        key, headers = tombstones[at]
        source = Source(deletion.timestamp_ms, deletion.offset, kept.get(at))
        yield at, order_by.place_tombstone(key, headers, source, latest)


def _order_headers(batch: pa.RecordBatch) -> dict[Position, bytes]:
    """Return the headers `penstock.order` by position."""
    column = batch.column("order_header")
    if column.null_count == batch.num_rows:
        return {}
    return {
        at: value for at, value in zip(_iter_positions(batch), column.to_pylist(), strict=True) if value is not None
    }


def _read_tombstones(batch: pa.RecordBatch) -> dict[Position, tuple[bytes | None, Headers]]:
    """Return key and headers of the records without a value, by position."""
    some = batch.filter(batch.column("value").is_null())
    has_headers = TOMBSTONE_HEADERS in some.schema.names
    headers = some.column(TOMBSTONE_HEADERS).to_pylist() if has_headers else [None] * some.num_rows
    keys = some.column("key").to_pylist()
    return {
        at: (key, [(header["key"], header["value"]) for header in held or []])
        for at, key, held in zip(_iter_positions(some), keys, headers, strict=True)
    }


def _iter_rejects(faults: Mapping[Position, Fault], batch: pa.RecordBatch, topic: str) -> Iterator[Reject]:
    for number, at in enumerate(_iter_positions(batch)):
        if at in faults:
            key, value = (batch.column(name)[number].as_py() for name in ("key", "value"))
            yield Reject(faults[at], topic, at[0], at[1], key, value, [])


def _iter_positions(batch: pa.RecordBatch) -> Iterator[Any]:
    return zip(*(batch.column(name).to_pylist() for name in ("partition", "offset")), strict=True)
