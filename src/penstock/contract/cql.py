"""A record as keyspace, table and INSERT, and the values that the INSERT binds.

A row is the record's fields, then its arrival. Its write timestamp is bound too: the topic's generation epoch in
microseconds plus the offset, so that of two records with one key the later in Kafka wins, in whatever order they
are written, and a replay changes nothing.
"""

import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import astuple

from penstock.contract.fields import BIGINT, INT, fields, key_of
from penstock.contract.record import Arrival, Record

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")

Encode = Callable[[Record, int, int, int, int], list[bytes | None]]


def name(identifier: str) -> str:
    """`identifier` if it can stand in CQL without quotes. Raises `ValueError`."""
    if not _NAME.fullmatch(identifier):
        raise ValueError(f"{identifier!r} is not a CQL name: lower-case letters, digits and _, at most 48")
    return identifier


def create_keyspace(keyspace: str, replication: str) -> str:
    """The statement that makes the keyspace when it is not there."""
    return f"CREATE KEYSPACE IF NOT EXISTS {name(keyspace)} WITH replication = {replication}"


def create_table(keyspace: str, table: str, row: type[Record]) -> str:
    """The statement that makes the table when it is not there."""
    lines = [f"  {column} {kind}," for column, kind in columns(row).items()]
    key = f"  PRIMARY KEY ({key_of(row).name})"
    return "\n".join([f"CREATE TABLE IF NOT EXISTS {name(keyspace)}.{name(table)} (", *lines, key, ")"])


def columns(row: type[Record]) -> dict[str, str]:
    """The type of each column by its name, in order: the row's fields, then its arrival."""
    return {name(field.name): field.kind.cql for field in (*fields(row), *fields(Arrival))}


def add_column(keyspace: str, table: str, column: str, kind: str) -> str:
    """The statement that gives a table one more column; rows that are there have null in it."""
    return f"ALTER TABLE {name(keyspace)}.{name(table)} ADD {name(column)} {kind}"


def insert(keyspace: str, table: str, row: type[Record]) -> str:
    """The upsert of one row; its last value is the write timestamp in microseconds."""
    names = [field.name for field in (*fields(row), *fields(Arrival))]
    values = ", ".join("?" for _ in names)
    return f"INSERT INTO {keyspace}.{table} ({', '.join(names)}) VALUES ({values}) USING TIMESTAMP ?"


def delete(keyspace: str, table: str, row: type[Record]) -> str:
    """The deletion of one row; its values are the write timestamp in microseconds and the key."""
    return f"DELETE FROM {keyspace}.{table} USING TIMESTAMP ? WHERE {key_of(row).name} = ?"


def delete_encoder(row: type[Record]) -> Callable[[Any, int], list[bytes]]:
    """The function that gives a deletion's bound values as CQL bytes, from the key and the write timestamp in us."""
    to_bytes = key_of(row).kind.encode
    return lambda key, write_us: [BIGINT.encode(write_us), to_bytes(key)]


def encoder(row: type[Record]) -> Encode:
    """The function that gives a row's bound values as CQL bytes, in the INSERT's order.

    It takes the record, its Kafka timestamp in ms, partition, offset, and the write timestamp in us.
    """
    encodes = tuple(field.kind.encode for field in fields(row))

    def encode(record: Record, timestamp_ms: int, partition: int, offset: int, write_us: int) -> list[bytes | None]:
        values = [
            None if value is None else to_bytes(value) for to_bytes, value in zip(encodes, astuple(record), strict=True)
        ]
        values += BIGINT.encode(timestamp_ms), INT.encode(partition), BIGINT.encode(offset), BIGINT.encode(write_us)
        return values

    return encode
