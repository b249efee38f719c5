"""A record as keyspace, table and INSERT, and the values that the INSERT binds; how a name is quoted in CQL.

A row is the record's fields, then its arrival. Its write timestamp is bound too, and follows the order of the topic
(`contract.order`): of two records with one key, the later in Kafka wins, in whatever order they are written, and a
replay changes nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, cast

from penstock.contract.batch import Row
from penstock.contract.fields import BIGINT, INT, fields, key_of
from penstock.contract.record import Arrival, Record

_UNQUOTED = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = frozenset(
    """
    add allow alter and apply asc authorize batch begin by columnfamily create default delete desc describe drop
    entries execute false from full grant if in index infinity insert into is keyspace limit materialized mbean
    mbeans modify nan norecursive not null of on or order primary rename replace revoke schema select set table
    to token true truncate unlogged unset update use using view where with
    """.split()  # noqa: SIM905  a list would take a line per word
)
"""Words that Cassandra 3.11 to 5.0 accepts as a name only if they are quoted."""

Encode = Callable[[Sequence[Row], Sequence[int]], Iterator[bytes]]


def quote_name(identifier: str) -> str:
    """Return the name of a keyspace, table or column for use in a statement, quoted where CQL requires it.

    Every name in every statement goes through this function.
    """
    if _UNQUOTED.fullmatch(identifier) and identifier not in RESERVED:
        return identifier
    return '"' + identifier.replace('"', '""') + '"'


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


def column_types(row: type[Record]) -> dict[str, str]:
    """Return the CQL type of each column by its unquoted name, in order: the row's fields, then its arrival."""
    return {field.column: field.kind.cql for field in (*fields(row), *fields(Arrival))}


def render_add_column(keyspace: str, table: str, column: str, kind: str) -> str:
    """Return the statement that adds a column to a table; existing rows have null in it."""
    return f"ALTER TABLE {quote_table(keyspace, table)} ADD {quote_name(column)} {kind}"


def render_add_member(keyspace: str, user_type: str, member: str, kind: str) -> str:
    """Return the statement that adds a field to a user type; existing values have null in it."""
    return f"ALTER TYPE {quote_table(keyspace, user_type)} ADD {quote_name(member)} {kind}"


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
    required = [field.column for field in others if not field.nullable]
    nullable = [field.column for field in others if field.nullable]
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


def build_encoder(row: type[Record], *, leaves_unset: bool = False) -> Encode:
    """Return a function that encodes the bound values of rows, in the INSERT's order, as they appear in a message.

    Each value follows its length; a null is the length -1 (native protocol v5, section 3), or -2 with `leaves_unset`,
    which writes nothing. The function takes the rows and their write timestamps in us, and encodes column by column,
    for speed.
    """
    framed = partial(_encode_lengths, null=_UNSET if leaves_unset else _NULL)
    columns = [(attrgetter(field.column), field.kind.encode, field.nullable) for field in fields(row)]

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
