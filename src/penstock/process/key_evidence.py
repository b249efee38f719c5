"""Find what records with a value prove about a topic's keys: that a key of some shape is the id of its record."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from penstock.codec.keys import KeyReader
from penstock.contract.batch import Row
from penstock.contract.identity import Identity, identity_of
from penstock.contract.isolation import NOT_OF_A_RECORD
from penstock.contract.keys import is_structured
from penstock.contract.proofs import KeyEvidence, KeyShape, find_agreed_shapes
from penstock.errors import RegistryUnreachable

_SAMPLED, _SAMPLED_FOR_TOMBSTONES = 16, 1000
"""Number of records sampled per batch, and per batch with tombstones."""


def prove_shapes(batch: pa.RecordBatch, rows: Sequence[Row], keys: KeyReader, evidence: KeyEvidence) -> None:
    """Add what the keys of a batch's first records prove to `evidence`; it counts from those records on."""
    most = _SAMPLED_FOR_TOMBSTONES if batch.column("value").null_count else _SAMPLED
    new = [
        shape for shape in find_agreed_shapes(_iter_samples(batch, rows, most, keys)) if not evidence.is_known(shape)
    ]
    if new:
        starts = _first_offsets(batch)
        for shape in new:
            evidence.note(shape, starts)


def _iter_samples(
    batch: pa.RecordBatch, rows: Sequence[Row], most: int, keys: KeyReader
) -> Iterator[tuple[Mapping[KeyShape, Any], Any]]:
    """Yield the readings of the first records' keys, and the records' ids; omit those without a key or a valid value.

    Stops at a key that needs an unavailable registry: the records, which may not need it, are not held up.
    """
    if not rows:
        return
    identity = identity_of(type(rows[0][0]))
    ids = {(partition, offset): identity.of(record) for record, _, partition, offset in rows[:most]}
    sampled = (batch.column(name).slice(0, most).to_pylist() for name in ("key", "partition", "offset"))
    for key, *position in zip(*sampled, strict=True):
        record_id = ids.get(tuple(position))
        if key and record_id is not None:
            try:
                readings = _read_key(keys, key, record_id, identity)
            except RegistryUnreachable:
                return
            yield readings, record_id


def _read_key(keys: KeyReader, key: bytes, record_id: Any, identity: Identity) -> Mapping[KeyShape, Any]:
    """Return the readings of a key by shape; empty if it is not an id. Raises `RegistryUnreachable`."""
    try:
        if key == identity.text_of(record_id).encode():  # the usual case
            if not identity.is_single:
                return {"json_object": record_id}
            if not is_structured(key.decode()):
                return {"text": record_id}
        return keys.readings(key)
    except NOT_OF_A_RECORD:
        raise
    except Exception:  # noqa: BLE001  types of a pipeline's file run here and may raise anything
        return {}


def _first_offsets(batch: pa.RecordBatch) -> dict[int, int]:
    """Return the first offset of each partition in a batch, in which offsets rise per partition."""
    partitions, offsets = (reversed(batch.column(name).to_pylist()) for name in ("partition", "offset"))
    return dict(zip(partitions, offsets, strict=True))
