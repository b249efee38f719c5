"""Parse a page of an API, entry by entry if the page is not strict JSON. No I/O.

msgspec parses every page. If it fails, the page is split at its brackets, commas and strings, because no JSON library
continues after an error. msgspec then decodes each entry, so that numbers of valid entries are the same on an invalid
page as on a valid one.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from penstock.contract.json_numbers import encode_json
from penstock.contract.json_text import MALFORMED_JSON, count_names
from penstock.errors import clean_line

_STRING = rb'"(?:[^"\\]++|\\.)*+"?'
_TOKEN = re.compile(rb"[][{},]|" + _STRING, re.DOTALL)
_MEMBER = re.compile(rb"\s*(" + _STRING + rb")\s*:(.*)", re.DOTALL)
_CLOSING = {b"{": b"}", b"[": b"]"}
_MESSAGE_CHARS = 300

Decode = Callable[[bytes], Any]
"""Decodes JSON text as msgspec does, perhaps with another reader of numbers."""


class Unreadable(msgspec.Struct, frozen=True):
    """An entry that is not JSON: its bytes and the error message."""

    value: bytes
    message: str

    def without(self, names: frozenset[str]) -> "Unreadable":
        """Return the entry without the members of these names, which may be secret.

        An entry that may contain one is rewritten in ASCII. If Python's json cannot parse it either, its bytes are
        dropped.
        """
        if b"\\u" not in self.value and not any(name.encode() in self.value for name in names):
            return self
        try:
            text = self.value.decode(errors="surrogateescape")
            kept = json.loads(text, strict=False, object_pairs_hook=lambda pairs: _Members(pairs, names))
            return Unreadable(json.dumps(kept).encode(), self.message)
        except MALFORMED_JSON:
            count = len(self.value)
            return Unreadable(
                b"", f"{self.message}; its {count} bytes were dropped, because they may contain a secret field"
            )


class _Members(dict[str, Any]):
    """Members of an object in order, including duplicate names, as `json.dumps` writes them."""

    def __init__(self, pairs: list[tuple[str, Any]], without: frozenset[str]) -> None:
        self._pairs = [(name, value) for name, value in pairs if name not in without]
        super().__init__(self._pairs)

    def items(self) -> Any:
        return self._pairs


def read_page(body: bytes, decode: Decode = msgspec.json.decode) -> Any:
    """Decode a page. Entries of its `results` that are not JSON or have a duplicate field name are `Unreadable`.

    Raises one of `MALFORMED_JSON` if the entry boundaries are ambiguous.
    """
    text = _as_utf8(body)
    try:
        page = decode(text)
    except MALFORMED_JSON:
        return _read_by_entry(text, decode)
    return _read_by_entry(text, decode) if _repeats_a_name(page, text) else page


def _as_utf8(body: bytes) -> bytes:
    """Convert a page to UTF-8 without a byte order mark."""
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    if encoding == "utf-8-sig":
        return body[3:]
    return body.decode(encoding, "surrogatepass").encode(errors="surrogatepass")


def _repeats_a_name(page: Any, text: bytes) -> bool:
    """Return whether an object in `text` may have duplicate names, of which msgspec keeps only the last member.

    The quotes of a dropped member are missing from the page encoded again. All other strings keep theirs.
    """
    return text.count(b'"') + text.count(b"\\u0022") != encode_json(page).count(b'"')


def _read_by_entry(text: bytes, decode: Decode) -> dict[str, Any]:
    members = list(_iter_members(text))
    results = [value for name, value in members if name == "results"]
    if len(results) > 1:
        raise ValueError("duplicate name 'results'")
    page: dict[str, Any] = {}
    for name, value in members:
        if name == "results":
            page[name] = [read_entry(part, decode) for part in split_members(value, b"[")]
        elif name == "error":
            error = read_entry(value)
            page[name] = value.decode(errors="replace") if isinstance(error, Unreadable) else error
    return page


def _iter_members(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and value of each member of an object. Members without a valid name are skipped."""
    for part in split_members(text, b"{"):
        match = _MEMBER.fullmatch(part)
        with suppress(*MALFORMED_JSON):
            if match:
                yield msgspec.json.decode(match[1], type=str), match[2]


def split_members(text: bytes, opening: bytes) -> list[bytes]:
    """Split an array (`opening` is `[`) or an object (`{`) at its top-level commas. An empty last part is dropped.

    Raises `ValueError` if `text` is not exactly one such value.
    """
    if not text.lstrip().startswith(opening):
        raise ValueError(f"it does not start with {opening.decode()}")
    closings: list[bytes] = []
    parts: list[bytes] = []
    start = 0
    for token in _TOKEN.finditer(text):
        char = token[0]
        if char in _CLOSING:
            start = start if closings else token.end()
            closings.append(_CLOSING[char])
        elif char == b"," and len(closings) == 1:
            parts.append(text[start : token.start()])
            start = token.end()
        elif char in _CLOSING.values():
            if closings.pop() != char:
                raise ValueError(f"mismatched brackets at byte {token.start()}")
            if not closings:
                return _check_end([*parts, text[start : token.start()]], text[token.end() :])
    raise ValueError("unexpected end of input")


def _check_end(parts: list[bytes], rest: bytes) -> list[bytes]:
    if rest.strip():
        raise ValueError("data after its end")
    return parts if parts[-1].strip() else parts[:-1]


def read_entry(text: bytes, decode: Decode = msgspec.json.decode) -> Any:
    """Decode an entry. Returns `Unreadable` if it is not strict JSON or an object in it has a duplicate name."""
    text = text.strip()
    try:
        count_names(text, _reject_constant)
        return decode(text)
    except MALFORMED_JSON as error:
        return Unreadable(text, clean_line(str(error), _MESSAGE_CHARS))


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
