"""Composite values as CQL has them (native protocol v5, section 6).

A collection is its number of items and the items, a tuple or a user-defined type its fields; each has its length in
front. Sets and maps are in the order of Cassandra, which sorts only the outermost itself: the same value is the same
bytes at every replay.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from penstock.contract.kinds import UUID, FieldKind, Form, Shape
from penstock.contract.quoting import name_user_type

TypeOrders = Mapping[str, Iterable[str]]
"""The fields of each user-defined type by its name, in the order that the type has in Cassandra.

ALTER TYPE adds a field at the end, whatever its place in the record.
"""

_NULL = b"\xff\xff\xff\xff"


def build_cql_encoder(kind: FieldKind, orders: TypeOrders) -> Callable[[Any], bytes]:
    """Return the function that encodes a value, with the fields of each user-defined type in the order it has."""
    return kind.encode if kind.shape is None or kind.is_text else build_shape_encoder(kind.shape, orders)


def build_shape_encoder(shape: Shape, orders: TypeOrders) -> Callable[[Any], bytes]:
    """Return the function that encodes a value of a composite type."""
    encoders = [build_cql_encoder(item.kind, orders) for item in shape.items]
    if shape.form is Form.RECORD:
        return _build_record_encoder(shape, encoders, orders)
    if shape.form is Form.TUPLE:
        return lambda values: _join_places([encode(value) for encode, value in zip(encoders, values, strict=True)])
    (encode,) = encoders
    if shape.form is Form.MAP:
        return lambda values: _join_map(values, encode)
    if shape.form is Form.SET:
        order = _order_uuid if shape.items[0].kind is UUID else None
        return lambda values: _join_items(list(dict.fromkeys(map(encode, sorted(values, key=order)))))
    return lambda values: _join_items(list(map(encode, values)))


def _build_record_encoder(
    shape: Shape, encoders: Sequence[Callable[[Any], bytes]], orders: TypeOrders
) -> Callable[[Any], bytes]:
    by_column = {item.column: encode for item, encode in zip(shape.items, encoders, strict=True)}
    assert shape.record is not None
    places = [(name, by_column.get(name)) for name in orders.get(name_user_type(shape.record), by_column)]

    def encode_record(record: Any) -> bytes:
        values = ((getattr(record, name), encode) if encode else (None, bytes) for name, encode in places)
        return _join_places([None if value is None else encode(value) for value, encode in values])

    return encode_record


def _join_items(cells: Sequence[bytes]) -> bytes:
    framed = chain.from_iterable((len(cell).to_bytes(4, "big"), cell) for cell in cells)
    return b"".join([len(cells).to_bytes(4, "big"), *framed])


def _join_map(values: Mapping[str, Any], encode: Callable[[Any], bytes]) -> bytes:
    pairs = sorted((name.encode(), encode(value)) for name, value in values.items())
    return len(pairs).to_bytes(4, "big") + _join_items(list(chain.from_iterable(pairs)))[4:]


def _join_places(cells: Sequence[bytes | None]) -> bytes:
    return b"".join(_NULL if cell is None else len(cell).to_bytes(4, "big") + cell for cell in cells)


def _order_uuid(value: Any) -> tuple[Any, ...]:
    """Return what Cassandra sorts UUIDs by: version, then time if they have one, then their bytes."""
    version = value.bytes[6] >> 4
    signed = tuple((byte ^ 0x80) for byte in value.bytes[8:])
    return (version, value.time, signed) if version == 1 else (version, value.bytes)
