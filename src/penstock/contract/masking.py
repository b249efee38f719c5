"""Personal data hidden: what people look at shows which fields there are, not what they say of a person.

Only fields that the contract knows and does not mark as personal are shown; whatever is not known is hidden too.
"""

from functools import cache
from typing import Any

from penstock.contract.fields import fields, key_of, key_reader
from penstock.contract.record import Arrival, Record

MASK = "•••"
_DEEPEST = 100


@cache
def shown_names(record: type[Record]) -> frozenset[str]:
    """The names of the fields that tell nothing about a person, and of those that say where a record came from.

    Both their names in messages and in rows, unless a personal field has the same name in the other of the two.
    """
    known = (*fields(record), *fields(Arrival))
    personal = {name for field in known if field.personal for name in (field.name, field.column)}
    return frozenset(name for field in known for name in (field.name, field.column)) - personal


def masked(value: Any, record: type[Record]) -> Any:
    """`value`, decoded from JSON, Avro or a row, with what may be personal hidden; None stays None."""
    if not isinstance(value, dict):
        return _hidden(value)
    shown = shown_names(record)
    return {
        name: one if name in shown and not isinstance(one, dict | list) else _hidden(one) for name, one in value.items()
    }


def shows_key(key: bytes, record: type[Record]) -> bool:
    """Whether a Kafka key tells nothing about a person: it is a record's key, and that is not personal."""
    try:
        key_reader(record)(key)
    except ValueError:
        return False
    return not key_of(record).personal


def hidden_bytes(count: int) -> str:
    """What stands in the place of bytes that may be personal."""
    return f"hidden: {count:,} bytes; personal data are hidden"


def _hidden(value: Any, depth: int = 0) -> Any:
    """The same shape, every leaf hidden; what is nested deeper than anybody writes is hidden as a whole."""
    if isinstance(value, dict | list) and depth == _DEEPEST:
        return MASK
    if isinstance(value, dict):
        return {name: _hidden(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one, depth + 1) for one in value]
    return None if value is None else MASK
