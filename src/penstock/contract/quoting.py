"""How names are written in CQL statements."""

import re

import msgspec

_UNQUOTED = re.compile(r"[a-z][a-z0-9_]*")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
RESERVED = frozenset(
    """
    add allow alter and apply asc authorize batch begin by columnfamily create default delete desc describe drop
    entries execute false from full grant if in index infinity insert into is keyspace limit materialized mbean
    mbeans modify nan norecursive not null of on or order primary rename replace revoke schema select set table
    to token true truncate unlogged unset update use using view where with
    """.split()  # noqa: SIM905  a list would take a line per word
)
"""Words that Cassandra 3.11 to 5.0 accepts as a name only if they are quoted."""

NATIVE_TYPES = frozenset(
    """
    ascii bigint blob boolean counter date decimal double duration empty float frozen inet int list map set smallint
    text time timestamp timeuuid tinyint tuple uuid varchar varint vector
    """.split()  # noqa: SIM905
)
"""Names that a user-defined type cannot have."""


def quote_name(identifier: str) -> str:
    """Return the name of a keyspace, table, type or column for use in a statement, quoted where CQL requires it.

    Every name in every statement goes through this function.
    """
    if _UNQUOTED.fullmatch(identifier) and identifier not in RESERVED:
        return identifier
    return '"' + identifier.replace('"', '""') + '"'


def name_user_type(record: type[msgspec.Struct]) -> str:
    """Return the name of the user-defined type of a nested record, unquoted: its class's in snake_case."""
    return _WORDS.sub("_", record.__name__).lower()
