"""Valid names of topics, keyspaces, tables and fields, and the names that services and penstock itself use."""

import re

from penstock.contract.fields import fields
from penstock.contract.record import Arrival

DEAD_LETTERS = ".dlq"
"""Suffix that a topic's name gets in the name of its dead-letter topic."""
REGISTRY_TOPICS = frozenset({"kafkasql-journal", "kafkasql-snapshots", "registry-events"})
"""Topics in which Apicurio stores its schemas."""
OWN_TABLES = frozenset(
    {"accepted", "batches", "failing_batches", "failures", "generations", "key_formats", "layouts", "leases", "ledger"}
    | {"marks", "receipts", "settled", "table_orders"}
)
"""Tables that penstock creates in the pipeline's keyspace."""
OWN_COLUMNS = frozenset(
    {*(field.column for field in fields(Arrival)), "_deleted", "_rejected", "_shift_us", "row_position", "written_us"}
)
"""Columns that penstock adds to tables, DataFrames and queries."""
MOST_TOPIC_CHARACTERS = 249 - len(DEAD_LETTERS)
MOST_TABLE_CHARACTERS = 48

_SYSTEM_KEYSPACES = frozenset(
    f"system{part}"
    for part in ("", "_auth", "_distributed", "_schema", "_traces", "_views", "_virtual_schema", "_cluster_metadata")
)
_TOPIC = re.compile(rf"[a-zA-Z0-9._-]{{1,{MOST_TOPIC_CHARACTERS}}}")
_TABLE = re.compile(rf"[a-zA-Z0-9_]{{1,{MOST_TABLE_CHARACTERS}}}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_internal(topic: str) -> bool:
    """Return whether the topic is internal to a service, and must not be written or changed by others."""
    return topic.startswith("__") or topic in REGISTRY_TOPICS


def check_topic(topic: object) -> None:
    """Raise `ValueError` unless a pipeline's topic and its dead-letter topic can have these names."""
    if not (isinstance(topic, str) and _TOPIC.fullmatch(topic)) or topic in {".", ".."}:
        raise ValueError(
            f"invalid topic name {topic!r}: expected 1 to {MOST_TOPIC_CHARACTERS} of a-z, A-Z, 0-9, '.', '_' and '-' "
            f"({DEAD_LETTERS!r} takes {len(DEAD_LETTERS)} of Kafka's 249), not '.' or '..'"
        )
    if is_internal(topic):
        raise ValueError(f"topic {topic!r} is internal to Kafka or the schema registry: use another name")


def check_keyspace(keyspace: object) -> None:
    """Raise `ValueError` unless penstock can create a keyspace of that name in Cassandra."""
    _check_table_word(keyspace, "keyspace")
    if str(keyspace).lower() in _SYSTEM_KEYSPACES:
        raise ValueError(f"{keyspace!r} is a system keyspace of Cassandra: use another name")


def check_table(table: object) -> None:
    """Raise `ValueError` unless a pipeline's table can have that name in addition to penstock's own tables."""
    _check_table_word(table, "table")
    if table in OWN_TABLES:
        raise ValueError(f"{table!r} is one of penstock's own tables in the keyspace: use another name")


def _check_table_word(name: object, what: str) -> None:
    if not (isinstance(name, str) and _TABLE.fullmatch(name)):
        raise ValueError(
            f"invalid {what} name {name!r}: expected 1 to {MOST_TABLE_CHARACTERS} of a-z, A-Z, 0-9 and '_'"
        )


def check_word(name: str) -> None:
    """Raise `ValueError` unless a record or a field can have that name in Avro, Spark and Cassandra."""
    if not _WORD.fullmatch(name):
        raise ValueError(f"invalid name {name!r}: Avro allows a-z, A-Z, 0-9 and '_', and no digit at the start")


def check_field(name: str, column: str) -> None:
    """Raise `ValueError` unless a field can have that name in messages, and that column in tables and DataFrames."""
    check_word(name)
    check_word(column)
    if column.lower() in OWN_COLUMNS:
        raise ValueError(f"{column!r} is one of penstock's own columns: {suggest_rename(name, column)}")


def suggest_rename(name: str, column: str) -> str:
    """Return how to declare a field whose column must have another name."""
    other = f"source_{column.lstrip('_')}"
    return f"write `{other}: ... = msgspec.field(name={name!r})`; it is {name!r} in messages, `{other}` in the table"
