"""Versions of penstock's stored formats. Data in a newer format than this penstock knows is not read.

A version is incremented if an older penstock would misread the format, not if it merely lacks something new. Data
without a version is version 1. A JSON object stores its version as `format` and that of its writer as `penstock`; a
table stores both in its comment, a dead letter in headers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock import __version__, remedies
from penstock.errors import FormatTooNew


@dataclass(frozen=True)
class Format:
    """A stored format: the newest version that this penstock reads, and writes. `instead`: how to do without it."""

    name: str
    version: int
    instead: str


DELIVERY_LOG = Format("delivery log", 1, "move the file away: `verify` then ignores what it acknowledges")
STAGING = Format("staged answer", 2, "delete its folder: the run then asks the API again")
CHECKPOINT = Format("checkpoint", 1, f"start again from the topic: {remedies.reset_checkpoint()}")
DEAD_LETTER = Format("dead letter", 2, "redrive or discard it with the penstock that wrote it")
RECEIPT = Format("receipt", 1, "delete it from the table receipts")
ALERTS = Format("alert history", 1, "move the file away: alerts that still fire are then sent again")
AUDIT_LOG = Format("audit log", 1, "move the file away: it is evidence, keep it")

_OTHER_KEYSPACE = "set PENSTOCK_CASSANDRA_KEYSPACE to another keyspace"
TABLES: Mapping[str, Format] = {
    name: Format(f"table {name}", 1, _OTHER_KEYSPACE)
    for name in (
        *("ledger", "generations", "layouts", "key_formats", "settled", "receipts", "leases", "batches", "failures"),
        *("failing_batches", "marks", "accepted", "table_orders"),
    )
}
"""Formats of penstock's own tables in a pipeline's keyspace, by table name."""

_COMMENT = re.compile(r"^penstock (?P<penstock>\S+), format (?P<version>\d+)$")


class _Mark(msgspec.Struct):
    """Format version and writer of a JSON object."""

    format: int = 1
    penstock: str = ""


def check_version(stored: Format, version: int, where: str, writer: str = "") -> None:
    """Raise `FormatTooNew`, naming `where` the data is, unless this penstock reads `version` of a format.

    `writer` is the version of the penstock that wrote it.
    """
    if version <= stored.version:
        return
    newer = f"penstock {writer} or newer" if writer else f"a penstock newer than {__version__}"
    raise FormatTooNew(
        f"{where}: {stored.name} in format {version}" + (f", written by penstock {writer}" if writer else "") + "; "
        f"this penstock, {__version__}, reads format {stored.version} and older. Nothing was changed",
        hint=f"install {newer}, or {stored.instead}",
        name=stored.name,
        version=version,
        known=stored.version,
    )


def encode_marked(stored: Format, value: Any) -> bytes:
    """Return a value that is a JSON object as JSON, with the version of its format in front."""
    mark = _Mark(stored.version, __version__)
    return msgspec.json.encode(msgspec.to_builtins(mark) | msgspec.to_builtins(value, str_keys=True))


def check_marked(stored: Format, data: bytes, where: str) -> None:
    """Raise `FormatTooNew` unless this penstock reads a JSON object's format, `ValueError` if it is not one."""
    mark = msgspec.json.decode(data, type=_Mark)
    check_version(stored, mark.format, where, mark.penstock)


def with_comment(table: str, statement: str) -> str:
    """Return the CQL that creates a table, with its format version as a comment if the table is in `TABLES`."""
    stored = TABLES.get(table)
    if stored is None:
        return statement
    word = "AND" if re.search(r"\)\s+WITH\s", statement) else "WITH"
    return f"{statement.rstrip()} {word} comment = 'penstock {__version__}, format {stored.version}'\n"


def check_tables(keyspace: str, comments: Mapping[str, str | None]) -> None:
    """Raise `FormatTooNew` unless this penstock reads the tables of a keyspace, given as comments by name."""
    for name, comment in comments.items():
        marked = _COMMENT.match(comment or "")
        if name in TABLES and marked:
            check_version(TABLES[name], int(marked["version"]), f"keyspace {keyspace}", marked["penstock"])
