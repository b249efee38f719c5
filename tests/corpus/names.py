"""Duplicate names, too many names, and nesting."""

import json

from penstock.contract.fault import Reason
from penstock.contract.rules import MAX_FIELDS
from tests.corpus.case import Case, Rejected, Sender, Stored, broken

_TWICE = Rejected(Reason.JSON_MALFORMED, "duplicate field name")
_DEEP = Rejected(Reason.JSON_MALFORMED, "recursion")
_OWN_FIELDS = 13


def _more(sender: Sender, count: int) -> bytes:
    return sender.json(**{f"x{number}": number for number in range(count)})


def _twice(name: str, addition: bytes) -> Case:
    """A valid user with `addition`, which duplicates a name."""
    return Case(f"a name twice: {name}", lambda sender: sender.json()[:-1] + b", " + addition + b"}", _TWICE)


def _nested(sender: Sender, opening: bytes, closing: bytes, depth: int) -> bytes:
    return sender.with_raw("x", opening * depth + b"1" + closing * depth)


CASES = [
    _twice("of ours, the same value", b'"gender": "female"'),
    _twice("of ours, another value", b'"first_name": "Augusta"'),
    _twice("the id", b'"id": "5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0de"'),
    _twice("of ours, one escaped", rb'"\u0066irst_name": "Augusta"'),
    _twice("the id, escaped", rb'"\u0069d": "5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0de"'),
    _twice("of ours, space before the colon", b'"first_name" \n\t : "Augusta"'),
    _twice("an unknown one", b'"x": 1, "x": 1'),
    _twice("an unknown one, escaped", rb'"x": 1, "\u0078": 2'),
    _twice("an empty one", b'"": 1, "": 2'),
    _twice("nested", b'"x": {"a": 1, "a": 2}'),
    _twice("nested in an array", b'"x": [[{"a": 1, "b": {"c": 1, "c": null}}]]'),
    _twice("with a quote in it", rb'"a\"": 1, "a\u0022": 2'),
    _twice("beyond the first plane", rb'"\ud83d\ude00": 1, "' + "😀".encode() + b'": 2'),
    Case(
        "a name twice: framed",
        lambda sender: sender.framed("json", sender.json()[:-1] + b', "gender": "female"}'),
        _TWICE,
    ),
    Case(
        "a name twice, without any space",
        lambda sender: json.dumps(sender.fields, separators=(",", ":")).encode()[:-1] + b',"gender":"male"}',
        _TWICE,
    ),
    Case(
        "a name in two objects",
        lambda sender: sender.json(x={"id": 1, "y": {"id": 2}}, y=[{"id": 1}, {"id": 2}]),
        Stored(),
    ),
    Case("a name in two cases", lambda sender: sender.json(ID="x", Id="y"), Stored()),
    Case(
        "a name twice as text",
        lambda sender: sender.json(first_name='"id": 1, "id": 2'),
        Stored({"first_name": '"id": 1, "id": 2'}),
    ),
    Case("900 unknown fields", lambda sender: _more(sender, 900), Stored()),
    Case("as many fields as may be", lambda sender: _more(sender, MAX_FIELDS - _OWN_FIELDS), Stored()),
    Case(
        "a field too many",
        lambda sender: _more(sender, MAX_FIELDS - _OWN_FIELDS + 1),
        broken(":size", message="1001 fields"),
    ),
    Case("10,000 unknown fields", lambda sender: _more(sender, 10_000), broken(":size", message="10013 fields")),
    Case(
        "10,000 unknown fields, framed",
        lambda sender: sender.framed("json", _more(sender, 10_000)),
        broken(":size", message="10013 fields"),
    ),
    Case(
        "10,000 fields of an unknown one",
        lambda sender: sender.json(x={str(number): 0 for number in range(10_000)}),
        broken(":size"),
    ),
    Case("10,000 objects of one field", lambda sender: sender.json(x=[{"a": 0}] * 10_000), broken(":size")),
    Case("a hundred thousand items", lambda sender: sender.json(x=[0] * 100_000), Stored()),
    Case("an unknown name of 100,000 letters", lambda sender: sender.json(**{"x" * 100_000: 0}), Stored()),
    Case(
        "a name that is no identifier",
        lambda sender: sender.json(**{"": 0, "a b": 0, "ä": 0, "\0": 0, "__class__": 0}),
        Stored(),
    ),
    Case("nested 400 deep", lambda sender: _nested(sender, b"[", b"]", 400), Stored()),
    Case("arrays nested 100,000 deep", lambda sender: _nested(sender, b"[", b"]", 100_000), _DEEP),
    Case("objects nested 100,000 deep", lambda sender: _nested(sender, b'{"a":', b"}", 100_000), _DEEP),
    Case("a field of ours nested 100,000 deep", lambda sender: sender.with_raw("phone", b"[" * 100_000), _DEEP),
    Case("nested 100,000 deep as the value", lambda _: b"[" * 100_000, _DEEP),
    Case("nested 100,000 deep as the value, to its end", lambda _: b"[" * 100_000 + b"]" * 100_000, _DEEP),
    Case("objects nested 100,000 deep as the value", lambda _: b'{"x":' * 100_000, _DEEP),
]
