"""A record as keyspace, table and INSERT, and the values that the INSERT binds; how a name is quoted in CQL.

A row is the record's fields, the columns derived from its KEY fields, then its arrival. Its write timestamp is bound
too, and follows the order of the topic (`contract.order`): of two records with one identity, the later in Kafka wins,
in whatever order they are written, and a replay changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, cast

from penstock.contract.batch import Row
from penstock.contract.cql_values import TypeOrders, build_cql_encoder
from penstock.contract.fields import BIGINT, INT, Field, fields
from penstock.contract.quoting import name_user_type
from penstock.contract.quoting import quote_name as quote_name  # noqa: PLC0414  others find it here
from penstock.contract.record import Arrival, Record
from penstock.contract.table import KeyColumn, Table

_DEFAULT_TTL = "default_time_to_live"

Encode = Callable[[Sequence[Row], Sequence[int]], Iterator[bytes]]


def quote_table(keyspace: str, table: str) -> str:
    """Return a table's qualified name for use in a statement."""
    return f"{quote_name(keyspace)}.{quote_name(table)}"


def render_create_keyspace(keyspace: str, replication: str) -> str:
    """Return the statement that creates the keyspace if it does not exist."""
    return f"CREATE KEYSPACE IF NOT EXISTS {quote_name(keyspace)} WITH replication = {replication}"


def render_create_table(table: Table) -> str:
    """Return the statement that creates the table if it does not exist."""
    lines = [f"  {quote_name(column)} {kind}," for column, kind in table.columns.items()]
    head = f"CREATE TABLE IF NOT EXISTS {render_name(table)} ("
    return "\n".join([head, *lines, f"  PRIMARY KEY ({_render_key(table)})", f"){_render_options(table)}"])


def render_name(table: Table) -> str:
    """Return a table's qualified name for use in a statement."""
    return quote_table(table.keyspace, table.name)


def _render_key(table: Table) -> str:
    partition = ", ".join(quote_name(column.column) for column in table.partition)
    first = partition if len(table.partition) == 1 else f"({partition})"
    return ", ".join([first, *(quote_name(column.column) for column in table.clustering)])


def _render_options(table: Table) -> str:
    options = []
    if any(column.is_descending for column in table.clustering):
        order = [
            f"{quote_name(column.column)} {'DESC' if column.is_descending else 'ASC'}" for column in table.clustering
        ]
        options.append(f"CLUSTERING ORDER BY ({', '.join(order)})")
    if table.derivations:
        options.append(f"comment = '{table.derivations}'")
    if table.ttl_s:
        options.append(f"{_DEFAULT_TTL} = {table.ttl_s}")
    return f" WITH {' AND '.join(options)}" if options else ""


def render_key_condition(table: Table, value: str = "?") -> str:
    """Return the condition that selects one row; its values are `Table.key_values`, each written as `value`."""
    return " AND ".join(f"{quote_name(column.column)} = {value}" for column in table.key)


def render_token(table: Table) -> str:
    """Return the expression of a row's token, which its partition key determines."""
    return f"token({', '.join(quote_name(column.column) for column in table.partition)})"


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


def render_add_column(keyspace: str, table: str, column: str, kind: str) -> str:
    """Return the statement that adds a column to a table; existing rows have null in it."""
    return f"ALTER TABLE {quote_table(keyspace, table)} ADD {quote_name(column)} {kind}"


def render_set_ttl(table: Table) -> str:
    """Return the statement that gives an existing table its declared TTL; existing rows keep theirs."""
    return f"ALTER TABLE {render_name(table)} WITH {_DEFAULT_TTL} = {table.ttl_s or 0}"


def render_add_member(keyspace: str, user_type: str, member: str, kind: str) -> str:
    """Return the statement that adds a field to a user type; existing values have null in it."""
    return f"ALTER TYPE {quote_table(keyspace, user_type)} ADD {quote_name(member)} {kind}"


def render_insert(table: Table) -> str:
    """Return the upsert of one row; its last value is the write timestamp in microseconds.

    If a field makes the row expire, the TTL in seconds follows (`encode_ttl`).
    """
    names = [quote_name(column) for column in table.columns]
    values = ", ".join("?" for _ in names)
    return f"INSERT INTO {render_name(table)} ({', '.join(names)}) VALUES ({values}) USING TIMESTAMP ?" + (
        " AND TTL ?" if table.expiry else ""
    )


def render_write_times(table: Table) -> tuple[str, int, list[str]]:
    """Return a CQL sum of the write times of all columns that are never null, their number, and the other columns.

    The key has no write time. A sum is a single value to transfer and compare, instead of one per column. The column of
    a renamed field is null in rows that were stored before.
    """
    key = {column.column for column in table.key}
    others = [field for field in (*fields(table.row), *fields(Arrival)) if field.column not in key]
    required = [field.column for field in others if field.required and not field.aliases]
    nullable = [field.column for field in others if not field.required or field.aliases]  # null in older rows
    return " + ".join(f"WRITETIME({quote_name(column)})" for column in required), len(required), nullable


def render_delete(table: Table) -> str:
    """Return the deletion of one row; its values are the write timestamp in microseconds and `Table.key_values`."""
    return f"DELETE FROM {render_name(table)} USING TIMESTAMP ? WHERE {render_key_condition(table)}"


def build_delete_encoder(table: Table) -> Callable[[Any, int], bytes]:
    """Return a function that encodes a deletion's bound values from the identity and the write timestamp in us."""
    encoders = [column.kind.encode for column in table.key]

    def encode(record_id: Any, write_us: int) -> bytes:
        cells = [to_bytes(value) for to_bytes, value in zip(encoders, table.key_values(record_id), strict=True)]
        return _LENGTHS[8] + BIGINT.encode(write_us) + b"".join(_LENGTHS[len(cell)] + cell for cell in cells)

    return encode


def build_key_encoder(table: Table) -> Callable[[Record], bytes]:
    """Return a function that encodes a record's partition key as CQL bytes, which determine its replicas."""
    if table.partition[0].derive is None and len(table.partition) == 1:
        get, to_bytes = attrgetter(table.partition[0].column), table.partition[0].kind.encode
        return lambda record: to_bytes(get(record))  # the usual case, in a third of the time
    return lambda record: table.routing_key(table.identity.of(record))


def build_encoder(table: Table, *, leaves_unset: bool = False, orders: TypeOrders | None = None) -> Encode:
    """Return a function that encodes the bound values of rows, in the INSERT's order, as they appear in a message.

    Each value follows its length; a null is the length -1 (native protocol v5, section 3), or -2 with `leaves_unset`,
    which writes nothing. `orders` has the fields of user-defined types as Cassandra has them. The function takes the
    rows and their write timestamps in us, and encodes column by column, for speed.
    """
    framed = partial(_encode_lengths, null=_UNSET if leaves_unset else _NULL)
    columns: list[tuple[Callable[[Record], Any], Callable[[Any], bytes], bool]]
    columns = [
        (attrgetter(field.column), build_cql_encoder(field.kind, orders or {}), field.nullable)
        for field in fields(table.row)
    ]
    columns += [(_build_getter(table, column), column.kind.encode, False) for column in table.derived]

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


def encode_ttl(ttl_s: int) -> bytes:
    """Return the TTL of a row as it appears in a message; 0: the row does not expire."""
    return _LENGTHS[4] + INT.encode(ttl_s)


def _build_getter(table: Table, column: KeyColumn) -> Callable[[Record], Any]:
    """Return a function that computes a derived column of a record."""
    get, derive = attrgetter(table.identity.columns[column.source]), column.derive
    assert derive is not None
    return lambda record: derive(get(record))


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
