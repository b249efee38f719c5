"""Spark DDL as an Arrow schema, for the parts that penstock uses: Spark's own parser needs a JVM."""

import re
from collections.abc import Iterator

import pyarrow as pa

_SIMPLE = {
    "STRING": pa.string(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "BINARY": pa.binary(),
    "DATE": pa.date32(),
    "INTERVAL DAY TO SECOND": pa.duration("us"),
}


def arrow_schema(ddl: str) -> pa.Schema:
    """The Arrow form of a DDL string."""
    return pa.schema([(name, _type(kind)) for name, kind in _columns(ddl, " ")])


def _type(kind: str) -> pa.DataType:
    if inner := re.fullmatch("ARRAY<(.*)>", kind):
        return pa.list_(_type(inner[1]))
    if inner := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)( NOT NULL)?", kind):
        return pa.decimal128(int(inner[1]), int(inner[2]))
    if inner := re.fullmatch("MAP<(.*?), (.*)>", kind):
        return pa.map_(_type(inner[1]), _type(inner[2]))
    if inner := re.fullmatch("STRUCT<(.*)>", kind):
        return pa.struct([(name, _type(item)) for name, item in _columns(inner[1], ": ")])
    return _SIMPLE[kind.removesuffix(" NOT NULL")]


def _columns(text: str, separator: str) -> Iterator[tuple[str, str]]:
    depth, begun = 0, 0
    for at, letter in enumerate(f"{text},"):
        depth += {"<": 1, ">": -1, "(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            name, _, kind = text[begun:at].strip().partition(separator)
            yield name, kind
            begun = at + 1
