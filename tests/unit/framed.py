"""The content of a message to Cassandra, parsed (native protocol v5, sections 3 and 4.1.7)."""

from struct import unpack_from
from typing import Any, NamedTuple

from cassandra import cqltypes
from cassandra.query import BatchStatement

from penstock.contract.fields import Field
from penstock.contract.kinds import Form
from penstock.contract.quoting import name_user_type

TYPES = {
    "text": cqltypes.UTF8Type,
    "uuid": cqltypes.UUIDType,
    "timestamp": cqltypes.DateType,
    "int": cqltypes.Int32Type,
    "bigint": cqltypes.LongType,
    "double": cqltypes.DoubleType,
    "boolean": cqltypes.BooleanType,
    "date": cqltypes.SimpleDateType,
    "time": cqltypes.TimeType,
    "decimal": cqltypes.DecimalType,
    "blob": cqltypes.BytesType,
}
"""The driver's own type for each of CQL's that a field may have."""


def driver_type(field: Field) -> Any:
    """The driver's type of a field's column, composite or not, as Cassandra describes it."""
    if field.shape is None or field.kind.is_text:
        return TYPES[field.kind.cql]
    shape, inner = field.shape, [driver_type(item) for item in field.shape.items]
    if shape.record is not None:
        names = tuple(item.column for item in shape.items)
        return cqltypes.UserType.make_udt_class("ks", name_user_type(shape.record), names, tuple(inner))
    if shape.form is Form.MAP:
        return cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, *inner])
    of = {Form.LIST: cqltypes.ListType, Form.SET: cqltypes.SetType, Form.TUPLE: cqltypes.TupleType}
    return of[shape.form].apply_parameters(inner)


class Sent(NamedTuple):
    """A prepared statement of a batch."""

    query_id: bytes
    values: list[bytes | None]


def values_in(framed: bytes) -> list[bytes | None]:
    """The values: each follows its length, and a null is only the length -1."""
    values: list[bytes | None] = []
    at = 0
    while at < len(framed):
        (length,) = unpack_from(">i", framed, at)
        begin, at = at + 4, at + 4 + max(length, 0)
        assert length >= -1
        assert at <= len(framed), "the last value is cut"
        values.append(None if length < 0 else framed[begin:at])
    return values


def statements_in(batch: BatchStatement) -> list[Sent]:
    """The statements of an `EncodedBatch`."""
    return [_statement(statement) for _, statement, _ in batch._statements_and_parameters]


def _statement(framed: bytes) -> Sent:
    kind, id_bytes = unpack_from(">BH", framed)
    assert kind == 1, "a statement that is not prepared"
    end = 3 + id_bytes
    (count,) = unpack_from(">H", framed, end)
    values = values_in(framed[end + 2 :])
    assert len(values) == count
    return Sent(framed[3:end], values)
