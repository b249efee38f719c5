"""Mask personal data: user interfaces show which fields there are, not what they say about a person.

Only fields that the contract knows and does not mark as personal are shown, within collections and nested records too.
Unknown fields are hidden, and so is `Json`, which may be anything.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from itertools import chain, repeat
from typing import Any

import msgspec

from penstock.contract.composites import JSON
from penstock.contract.fields import Field, fields
from penstock.contract.identity import identity_of
from penstock.contract.kinds import Form, Shape
from penstock.contract.record import Arrival, Record
from penstock.contract.table import Table

MASK = "•••"
_DEEPEST = 100


@cache
def shown_names(record: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of the fields without personal data, including those of the arrival."""
    return frozenset(_shown_fields(record))


@cache
def _shown_fields(record: type[msgspec.Struct]) -> dict[str, Field]:
    """Return the fields without personal data, including those of the arrival, by each of their names.

    Their names in messages, also former ones, and in rows, unless another field that is hidden or composite has it too.
    """
    named: dict[str, list[Field]] = defaultdict(list)
    for field in (*fields(record), *fields(Arrival)):
        for name in {field.name, field.column, *field.aliases}:
            named[name].append(field)
    return {
        name: found[0]
        for name, found in named.items()
        if not any(field.personal for field in found) and (len(found) == 1 or not any(field.shape for field in found))
    }


def mask_personal(value: Any, record: type[msgspec.Struct]) -> Any:
    """Return `value`, decoded from JSON, Avro or a row, with what may be personal hidden; None stays None."""
    if not isinstance(value, dict):
        return _mask_leaves(value)
    known, shown = _known_fields(record), _shown_fields(record)
    return {
        name: _mask_member(member, shown[name]) if name in shown else _mask_hidden(member, known.get(name))
        for name, member in value.items()
    }


def mask_row(columns: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return the columns of a row with what may be personal hidden.

    A column derived from a KEY field is hidden if that is. Composite values that a row has as one text are shown if
    nothing in them is personal; in a message, such a text has not been checked.
    """
    texts = {name for name, field in _shown_fields(table.row).items() if _is_safe_text(field)}
    derived = {column.column for column in table.derived if not table.identity.fields[column.source].personal}
    masked = mask_personal(dict(columns), table.row)
    return {name: columns[name] if name in texts | derived else member for name, member in masked.items()}


@cache
def _known_fields(record: type[msgspec.Struct]) -> dict[str, Field]:
    return {name: field for field in fields(record) for name in (field.name, field.column, *field.aliases)}


def _is_safe_text(field: Field) -> bool:
    return field.kind.is_text and field.shape is not None and not _has_personal(field.shape)


def _mask_member(value: Any, field: Field) -> Any:
    """Return the value of a field that is shown, with what is personal within it hidden."""
    if field.personal:
        return _mask_hidden(value, field)
    shape = field.shape
    if shape is None:
        return _mask_leaves(value) if field.kind is JSON or isinstance(value, dict | list) else value
    if shape.form is Form.RECORD and shape.record is not None:
        return mask_personal(value, shape.record)
    return _mask_items(value, shape)


def _mask_items(value: Any, shape: Shape) -> Any:
    if shape.form is Form.MAP and isinstance(value, dict):
        has_personal_names = shape.key is not None and shape.key.personal
        return MASK if has_personal_names else {name: _mask_member(it, shape.items[0]) for name, it in value.items()}
    if shape.form is Form.MAP or not isinstance(value, list):
        return _mask_leaves(value)
    items = chain(shape.items, repeat(None)) if shape.form is Form.TUPLE else repeat(shape.items[0])
    pairs = zip(value, items, strict=False)
    return [_mask_leaves(item) if of_item is None else _mask_member(item, of_item) for item, of_item in pairs]


def _mask_hidden(value: Any, field: Field | None) -> Any:
    """Return a personal or unknown value with every leaf hidden, and the keys of a dict, which are data too."""
    is_map = field is not None and field.shape is not None and _has_maps(field.shape)
    return MASK if is_map and value is not None else _mask_leaves(value)


def _has_maps(shape: Shape) -> bool:
    return shape.form is Form.MAP or any(_has_maps(item.shape) for item in shape.items if item.shape is not None)


def _has_personal(shape: Shape) -> bool:
    items = (*shape.items, *([shape.key] if shape.key else []))
    return any(
        item.personal or item.kind is JSON or (item.shape is not None and _has_personal(item.shape)) for item in items
    )


def has_personal_key(record: type[Record]) -> bool:
    """Return whether a record's identity says something about a person."""
    return any(field.personal for field in identity_of(record).fields)


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
