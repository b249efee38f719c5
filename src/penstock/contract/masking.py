"""Mask personal data: user interfaces show which fields there are, not what they say about a person.

Only fields that the contract knows and does not mark as personal are shown. Unknown fields are hidden too.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from penstock.contract.fields import fields
from penstock.contract.identity import identity_of
from penstock.contract.record import Arrival, Record
from penstock.contract.table import Table

MASK = "•••"
_DEEPEST = 100


@cache
def shown_names(record: type[Record]) -> frozenset[str]:
    """Return the names of the fields without personal data, including those of the arrival.

    Their names in messages, also former ones, and in rows, unless a personal field has one of these names too.
    """
    known = (*fields(record), *fields(Arrival))
    names = [(field.personal, name) for field in known for name in (field.name, field.column, *field.aliases)]
    return frozenset(name for _, name in names) - {name for is_personal, name in names if is_personal}


def mask_personal(value: Any, record: type[Record]) -> Any:
    """Return `value`, decoded from JSON, Avro or a row, with what may be personal hidden; None stays None."""
    return _mask_members(value, shown_names(record)) if isinstance(value, dict) else _mask_leaves(value)


def mask_row(columns: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return the columns of a row with what may be personal hidden; a column derived from a KEY field, if that is."""
    derived = {column.column for column in table.derived if not table.identity.fields[column.source].personal}
    return _mask_members(columns, shown_names(table.row) | derived)


def has_personal_key(record: type[Record]) -> bool:
    """Return whether a record's identity says something about a person."""
    return any(field.personal for field in identity_of(record).fields)


def _mask_members(value: Mapping[str, Any], shown: frozenset[str]) -> dict[str, Any]:
    return {
        name: member if name in shown and not isinstance(member, dict | list) else _mask_leaves(member)
        for name, member in value.items()
    }


def shows_key(key: bytes, record: type[Record]) -> bool:
    """Return whether a Kafka key may be shown: it is a record's key, and no field of the key is personal."""
    try:
        identity_of(record).of_text(key.decode())
    except ValueError:
        return False
    return not has_personal_key(record)


def hidden_bytes(count: int) -> str:
    """Return the placeholder for bytes that may be personal."""
    return f"{count:,} bytes hidden, which may be personal data"


def _mask_leaves(value: Any, depth: int = 0) -> Any:
    """Return the same structure with every leaf hidden; anything nested `_DEEPEST` levels deep is hidden as a whole."""
    if isinstance(value, dict | list) and depth == _DEEPEST:
        return MASK
    if isinstance(value, dict):
        return {name: _mask_leaves(member, depth + 1) for name, member in value.items()}
    if isinstance(value, list):
        return [_mask_leaves(member, depth + 1) for member in value]
    return None if value is None else MASK
