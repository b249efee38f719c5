"""JSON text in which each name occurs once per object: checked here for values, keys and the entries of an API.

Readers differ on which of two members with one name counts (RFC 8259, section 4); msgspec takes the last.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

MALFORMED_JSON = (ValueError, RecursionError)
"""Errors that readers of JSON raise: those of msgspec, Python and UTF-8 are kinds of ValueError."""


class DuplicateName(ValueError):
    """An object has two members with one name: `name`, truncated."""

    def __init__(self, name: str) -> None:
        self.name = name[:100]
        super().__init__(f"duplicate name {self.name!r} in an object")


def count_names(text: bytes | str, parse_constant: Callable[[str], Any] | None = None) -> int:
    """Return the number of members of all objects in a JSON text.

    `parse_constant` is called for NaN and Infinity. Raises `DuplicateName`, or another of `MALFORMED_JSON`.
    """
    names = 0

    def visit_object(pairs: list[tuple[str, Any]]) -> None:
        nonlocal names
        names += len(pairs)
        if len(dict(pairs)) < len(pairs):
            raise DuplicateName(_find_duplicate(pairs))

    json.loads(text, object_pairs_hook=visit_object, parse_int=str, parse_float=str, parse_constant=parse_constant)
    return names


def parse_json(text: str) -> Any:
    """Return the value of a JSON text. Raises `ValueError`, also for an object with a duplicate field name."""
    try:
        count_names(text)
        return msgspec.json.decode(text)
    except DuplicateName:
        raise ValueError("duplicate field name in JSON") from None
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"invalid JSON: {error}") from None


def _find_duplicate(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            break
        seen.add(name)
    return name
