"""Read a page of an API, and each entry by itself when the page is not strict JSON. No I/O.

msgspec reads every page. Where it refuses one, only brackets, commas and strings are looked at, to find where each
entry begins and ends: no JSON library reads on behind a fault. msgspec then decodes the entries, so that the numbers
of good ones are the same on a bad page as on a good page.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from penstock.contract.rules import repeated_name
from penstock.errors import clean_line

NOT_JSON = (ValueError, RecursionError)
"""What readers of JSON raise for broken bytes: errors of msgspec, Python's json and UTF-8 are kinds of ValueError."""
_STRING = rb'"(?:[^"\\]++|\\.)*+"?'
_TOKEN = re.compile(rb"[][{},]|" + _STRING, re.DOTALL)
_MEMBER = re.compile(rb"\s*(" + _STRING + rb")\s*:(.*)", re.DOTALL)
_CLOSING = {b"{": b"}", b"[": b"]"}
_MESSAGE_CHARS = 300


class Unreadable(msgspec.Struct, frozen=True):
    """An entry that is not JSON: its bytes, and what is wrong with them."""

    value: bytes
    message: str

    def without(self, names: frozenset[str]) -> "Unreadable":
        """Return the entry without the members of these names.

        An entry that may hold one is written again, in ASCII. Where Python's json cannot read it either, no bytes of it
        are kept.
        """
        if b"\\u" not in self.value and not any(name.encode() in self.value for name in names):
            return self
        try:
            text = self.value.decode(errors="surrogateescape")
            kept = json.loads(text, strict=False, object_pairs_hook=lambda pairs: _Members(pairs, names))
            return Unreadable(json.dumps(kept).encode(), self.message)
        except NOT_JSON:
            count = len(self.value)
            return Unreadable(b"", f"{self.message}; its {count} bytes are not kept, they may hold a secret field")


class _Members(dict[str, Any]):
    """The members of an object, in their order, several of one name too, which `json.dumps` writes."""

    def __init__(self, pairs: list[tuple[str, Any]], without: frozenset[str]) -> None:
        self._pairs = [(name, value) for name, value in pairs if name not in without]
        super().__init__(self._pairs)

    def items(self) -> Any:
        return self._pairs


def read_page(body: bytes) -> Any:
    """Decode a page. Entries of its `results` that are not JSON, or name a field twice, are `Unreadable`.

    Raises one of `NOT_JSON` when it is not clear where its entries begin and end.
    """
    text = _as_utf8(body)
    try:
        page = msgspec.json.decode(text)
    except NOT_JSON:
        return _read_by_entry(text)
    return _read_by_entry(text) if _repeats_a_name(page, text) else page


def _as_utf8(body: bytes) -> bytes:
    """Return a page as UTF-8 without a byte order mark."""
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    if encoding == "utf-8-sig":
        return body[3:]
    return body.decode(encoding, "surrogatepass").encode(errors="surrogatepass")


def _repeats_a_name(page: Any, text: bytes) -> bool:
    """Return whether an object in `text` may have two members of one name, of which msgspec keeps the last.

    A member that was dropped lacks its quotes; every other string is written with as many as it was read with.
    """
    return text.count(b'"') + text.count(b"\\u0022") != msgspec.json.encode(page).count(b'"')


def _read_by_entry(text: bytes) -> dict[str, Any]:
    members = list(_members(text))
    results = [value for name, value in members if name == "results"]
    if len(results) > 1:
        raise ValueError("it names results twice")
    page: dict[str, Any] = {}
    for name, value in members:
        if name == "results":
            page[name] = [read_entry(part) for part in split(value, b"[")]
        elif name == "error":
            error = read_entry(value)
            page[name] = value.decode(errors="replace") if isinstance(error, Unreadable) else error
    return page


def _members(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and value of each member of an object; members without a readable name are left out."""
    for part in split(text, b"{"):
        match = _MEMBER.fullmatch(part)
        with suppress(*NOT_JSON):
            if match:
                yield msgspec.json.decode(match[1], type=str), match[2]


def split(text: bytes, opening: bytes) -> list[bytes]:
    """Split an array (`opening` is `[`) or an object (`{`) at its own commas; an empty last part is left out.

    Raises `ValueError` when `text` is not all of one such value.
    """
    if not text.lstrip().startswith(opening):
        raise ValueError(f"it does not begin with {opening.decode()}")
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
                raise ValueError(f"its brackets do not match at byte {token.start()}")
            if not closings:
                return _ended([*parts, text[start : token.start()]], text[token.end() :])
    raise ValueError("it ends in the middle")


def _ended(parts: list[bytes], rest: bytes) -> list[bytes]:
    if rest.strip():
        raise ValueError("it goes on after its end")
    return parts if parts[-1].strip() else parts[:-1]


def read_entry(text: bytes) -> Any:
    """Decode one entry; `Unreadable` when it is not strict JSON, or an object in it has two members of one name."""
    text = text.strip()
    try:
        json.loads(text, object_pairs_hook=_check_names, parse_int=str, parse_float=str, parse_constant=_refuse)
        return msgspec.json.decode(text)
    except NOT_JSON as error:
        return Unreadable(text, clean_line(str(error), _MESSAGE_CHARS))


def _check_names(pairs: list[tuple[str, Any]]) -> None:
    """Raise `ValueError` when a name stands twice."""
    if (name := repeated_name(pairs)) is not None:
        raise ValueError(f"duplicate name {name[:100]!r} in an object")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
