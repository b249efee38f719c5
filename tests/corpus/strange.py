"""Valid but unusual values, which are stored."""

import json

from tests.corpus.case import Case, Sender, Stored


def _everywhere_space(sender: Sender) -> bytes:
    return ("\r\n\t " + json.dumps(sender.fields, indent="\t \n", separators=(" \n,", "\t: ")) + " \n").encode()


def _escaped(sender: Sender) -> bytes:
    """The user with each character of each name and value escaped."""
    return _all_escaped(json.dumps(sender.fields))


def _all_escaped(text: str) -> bytes:
    parts = text.split('"')
    parts[1::2] = ["".join(f"\\u{ord(letter):04X}" for letter in part) for part in parts[1::2]]
    return '"'.join(parts).encode()


CASES = [
    Case(
        "fields in another order", lambda sender: json.dumps(dict(reversed(sender.fields.items()))).encode(), Stored()
    ),
    Case("no space", lambda sender: json.dumps(sender.fields, separators=(",", ":")).encode(), Stored()),
    Case("space everywhere", _everywhere_space, Stored()),
    Case("every character escaped", _escaped, Stored()),
    Case(
        "escaped beyond ASCII",
        lambda sender: json.dumps(sender.fields | {"first_name": "Zoë 😀"}).encode(),
        Stored({"first_name": "Zoë 😀"}),
    ),
    Case(
        "beyond ASCII, not escaped", lambda sender: sender.json(first_name="Zoë 😀"), Stored({"first_name": "Zoë 😀"})
    ),
    Case(
        "slashes escaped, as PHP does",
        lambda sender: sender.json().replace(b"/", rb"\/"),
        Stored(),
    ),
    Case("unknown fields", lambda sender: sender.json(x=None, y=[1, {"z": True}], z={"a": {"b": []}}), Stored()),
    Case("an id in capitals", lambda sender: sender.json(id=sender.id.upper()), Stored()),
    Case("an id without hyphens", lambda sender: sender.json(id=sender.id.replace("-", "")), Stored()),
    Case("a NUL in an unknown field", lambda sender: sender.json(x="\0"), Stored()),
    Case("a surrogate in UTF-8 in an unknown field", lambda sender: sender.with_raw("x", b'"\xed\xa0\x80"'), Stored()),
]
