"""A record as keyspace, table and INSERT, and the values that the INSERT binds; how a name is quoted in CQL.

A row is the record's fields, then its arrival. Its write timestamp is bound too, and follows the order of the topic
(`contract.order`): of two records with one key, the later in Kafka wins, in whatever order they are written, and a
replay changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, cast

from penstock.contract.batch import Row
from penstock.contract.cql_values import TypeOrders, build_cql_encoder
from penstock.contract.fields import BIGINT, INT, Field, fields, key_of
from penstock.contract.quoting import name_user_type
from penstock.contract.quoting import quote_name as quote_name  # noqa: PLC0414  others find it here
from penstock.contract.record import Arrival, Record

Encode = Callable[[Sequence[Row], Sequence[int]], Iterator[bytes]]


def quote_table(keyspace: str, table: str) -> str:
    """Return a table's qualified name for use in a statement."""
    return f"{quote_name(keyspace)}.{quote_name(table)}"


def render_create_keyspace(keyspace: str, replication: str) -> str:
    """Return the statement that creates the keyspace if it does not exist."""
    return f"CREATE KEYSPACE IF NOT EXISTS {quote_name(keyspace)} WITH replication = {replication}"


def render_create_table(keyspace: str, table: str, row: type[Record]) -> str:
    """Return the statement that creates the table if it does not exist."""
    lines = [f"  {quote_name(column)} {kind}," for column, kind in column_types(row).items()]
    key = f"  PRIMARY KEY ({quote_name(key_of(row).column)})"
    return "\n".join([f"CREATE TABLE IF NOT EXISTS {quote_table(keyspace, table)} (", *lines, key, ")"])


class UserType(NamedTuple):
    """A user-defined type: its unquoted name, and the CQL type of each of its fields by its unquoted name."""

    name: str
    fields: dict[str, str]


def list_user_types(row: type[Record]) -> list[UserType]:
    """Return the user-defined types of a row, those of nested records, each after the types that it uses."""
    types: dict[str, UserType] = {}
    for field in fields(row):
        _add_user_types(field, types)
    return list(types.values())


def _add_user_types(field: Field, types: dict[str, UserType]) -> None:
    shape = field.shape
    if shape is None or field.kind.is_text:
        return
    for item in shape.items:
        _add_user_types(item, types)
    if shape.record is not None:
        name = name_user_type(shape.record)
        types[name] = UserType(name, {item.column: item.kind.cql for item in shape.items})


def render_create_type(keyspace: str, user_type: UserType) -> str:
    """Return the statement that creates a user-defined type if it does not exist."""
    lines = ",\n".join(f"  {quote_name(name)} {kind}" for name, kind in user_type.fields.items())
    return f"CREATE TYPE IF NOT EXISTS {quote_table(keyspace, user_type.name)} (\n{lines}\n)"


def column_types(row: type[Record]) -> dict[str, str]:
    """Return the CQL type of each column by its unquoted name, in order: the row's fields, then its arrival."""
    return {field.column: field.kind.cql for field in (*fields(row), *fields(Arrival))}


def render_add_column(keyspace: str, table: str, column: str, kind: str) -> str:
    """Return the statement that adds a column to a table; existing rows have null in it."""
    return f"ALTER TABLE {quote_table(keyspace, table)} ADD {quote_name(column)} {kind}"


def render_insert(keyspace: str, table: str, row: type[Record]) -> str:
    """Return the upsert of one row; its last value is the write timestamp in microseconds."""
    names = [quote_name(column) for column in column_types(row)]
    values = ", ".join("?" for _ in names)
    return f"INSERT INTO {quote_table(keyspace, table)} ({', '.join(names)}) VALUES ({values}) USING TIMESTAMP ?"


def render_write_times(row: type[Record]) -> tuple[str, int, list[str]]:
    """Return a CQL sum of the write times of all columns that are never null, their number, and the other columns.

    The key has no write time. A sum is a single value to transfer and compare, instead of one per column.
    """
    others = [field for field in (*fields(row), *fields(Arrival)) if field.column != key_of(row).column]
    required = [field.column for field in others if field.required]
    nullable = [field.column for field in others if not field.required]  # with a default: null in older rows
    return " + ".join(f"WRITETIME({quote_name(column)})" for column in required), len(required), nullable


def render_delete(keyspace: str, table: str, row: type[Record]) -> str:
    """Return the deletion of one row; its values are the write timestamp in microseconds and the key."""
    return f"DELETE FROM {quote_table(keyspace, table)} USING TIMESTAMP ? WHERE {quote_name(key_of(row).column)} = ?"


def build_delete_encoder(row: type[Record]) -> Callable[[Any, int], bytes]:
    """Return a function that encodes a deletion's bound values from the key and the write timestamp in us."""
    to_bytes = key_of(row).kind.encode

    def encode(key: Any, write_us: int) -> bytes:
        value = to_bytes(key)
        return _LENGTHS[8] + BIGINT.encode(write_us) + _LENGTHS[len(value)] + value

    return encode


def build_key_encoder(row: type[Record]) -> Callable[[Record], bytes]:
    """Return a function that encodes a record's key as CQL bytes, which determine its replicas."""
    get, to_bytes = attrgetter(key_of(row).column), key_of(row).kind.encode
    return lambda record: to_bytes(get(record))


def build_encoder(row: type[Record], *, leaves_unset: bool = False, orders: TypeOrders | None = None) -> Encode:
    """Return a function that encodes the bound values of rows, in the INSERT's order, as they appear in a message.

    Each value follows its length; a null is the length -1 (native protocol v5, section 3), or -2 with `leaves_unset`,
    which writes nothing. `orders` has the fields of user-defined types as Cassandra has them. The function takes the
    rows and their write timestamps in us, and encodes column by column, for speed.
    """
    framed = partial(_encode_lengths, null=_UNSET if leaves_unset else _NULL)
    columns = [
        (attrgetter(field.column), build_cql_encoder(field.kind, orders or {}), field.nullable) for field in fields(row)
    ]

    def encode(rows: Sequence[Row], written_us: Sequence[int]) -> Iterator[bytes]:
        if not rows:
            return iter(())
        records, timestamps_ms, partitions, offsets = zip(*rows, strict=True)
        values = [_encode_values(map(get, records), to_bytes, nullable) for get, to_bytes, nullable in columns]
        values += [
            list(map(BIGINT.encode, timestamps_ms)),
            list(map(INT.encode, partitions)),
            list(map(BIGINT.encode, offsets)),
            list(map(BIGINT.encode, written_us)),
        ]
        return map(b"".join, zip(*chain.from_iterable(map(framed, values)), strict=True))

    return encode


def _encode_values(values: Iterable[Any], to_bytes: Callable[[Any], bytes], nullable: bool) -> list[bytes | None]:
    if nullable:
        return [None if value is None else to_bytes(value) for value in values]
    return list(map(to_bytes, values))


def _encode_lengths(column: list[bytes | None], null: bytes) -> tuple[Iterable[bytes], Iterable[bytes]]:
    """Return the encoded length of each value of a column, and the values."""
    if None in column:
        lengths = (null if value is None else _LENGTHS[len(value)] for value in column)
        return lengths, (value or b"" for value in column)
    filled = cast(list[bytes], column)
    return map(_LENGTHS.__getitem__, map(len, filled)), filled


class _Lengths(dict[int, bytes]):
    """Lengths as four bytes, big-endian; those of most values are precomputed."""

    def __missing__(self, length: int) -> bytes:
        return length.to_bytes(4, "big")


_LENGTHS = _Lengths((length, length.to_bytes(4, "big")) for length in range(1024))
_NULL = b"\xff\xff\xff\xff"
_UNSET = b"\xff\xff\xff\xfe"
