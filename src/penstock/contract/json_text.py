"""JSON text in which each name occurs once per object: checked here for values, keys and the entries of an API.

Readers differ on which of two members with one name counts (RFC 8259, section 4); msgspec takes the last. Values that
are stored as text are written and read here too: any JSON, and what is a text or a number.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

_ENCODE = msgspec.json.Encoder(decimal_format="number").encode
_PARSE = msgspec.json.Decoder(float_hook=str).decode

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


def is_null(raw: msgspec.Raw) -> bool:
    """Return whether a JSON text is null."""
    return bytes(raw).strip() == b"null"


def to_raw(value: Any) -> Any:
    """Return a JSON value as its text. What has no JSON text is returned as it is."""
    if value is None or isinstance(value, msgspec.Raw) or not _has_text(value):
        return value
    try:
        return msgspec.Raw(_ENCODE(value))
    except (TypeError, ValueError, RecursionError):
        return value


def _has_text(value: Any) -> bool:
    """Return whether a value is finite where it is a number, at every level, which JSON requires."""
    level = [value]
    while level:
        if not all(isfinite(item) for item in level if isinstance(item, float | Decimal)):
            return False
        below: list[Any] = []
        for item in level:
            below += item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
        level = below
    return True


def find_malformed(raw: msgspec.Raw) -> str:
    """Return what is wrong with a JSON text, or '' if it is valid and no name is in an object twice."""
    try:
        count_names(bytes(raw).decode(), _refuse_constant)
        _PARSE(raw)
    except MALFORMED_JSON as error:
        return f"is not JSON: {error}"
    return ""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def find_lone_surrogate(raw: msgspec.Raw) -> str:
    r"""Return what is wrong with a valid JSON text whose escapes are not characters, such as `\ud800`, or ''."""
    if b"\\u" not in bytes(raw):
        return ""
    try:
        _PARSE(raw)
    except MALFORMED_JSON:
        return "has an escape that is no character"
    return ""


def encode_scalar(value: Any) -> str:
    """Return a text, number or boolean as text: as JSON has it, a text without quotes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def parse_scalar(text: Any, hint: Any, *, may_be_text: bool) -> Any:
    """Return the value of the union `hint` that `encode_scalar` writes as `text`, else the text as it is."""
    if not isinstance(text, str):
        return text
    try:
        value = msgspec.json.decode(text, type=hint)
    except MALFORMED_JSON:
        return text
    return value if not may_be_text or encode_scalar(value) == text else text


def parse_text(text: Any, hint: Any) -> Any:
    """Return the value of type `hint` in a JSON text, else the JSON value, else the text as it is."""
    if not isinstance(text, str):
        return text
    try:
        count_names(text, _refuse_constant)
        try:
            return msgspec.json.decode(text, type=hint)
        except msgspec.ValidationError:
            return msgspec.json.decode(text)
    except MALFORMED_JSON:
        return text
