"""Values that are null or empty, with keys that are ids and keys that are none."""

from penstock.contract.reject import Headers, Reason
from tests.corpus.case import Case, Deleted, Key, Rejected, Stored, broken

_NO_ID = Rejected(Reason.VALUE_MISSING, "the value is null, and the key is no id")
_MANY: Headers = [(f"header-{number}", b"%d" % number) for number in range(1000)]


def _deleted(name: str, key: Key) -> Case:
    return Case(f"a null value: {name}", lambda _: None, Deleted(), key)


def _kept(name: str, key: Key) -> Case:
    return Case(f"a null value: {name}", lambda _: None, _NO_ID, key)


CASES = [
    _deleted("its id as key", lambda one: one.id.encode()),
    _deleted("its id in capitals as key", lambda one: one.id.upper().encode()),
    _deleted("its id without hyphens as key", lambda one: one.id.replace("-", "").encode()),
    _kept("no key", lambda _: None),
    _kept("an empty key", lambda _: b""),
    _kept("a word as key", lambda _: b"key"),
    _kept("its id in braces as key", lambda one: b"{%b}" % one.id.encode()),
    _kept("its id in quotes as key", lambda one: b'"%b"' % one.id.encode()),
    _kept("its id as JSON as key", lambda one: b'{"id": "%b"}' % one.id.encode()),
    _kept("its id and a newline as key", lambda one: one.id.encode() + b"\n"),
    _kept("its id cut as key", lambda one: one.id.encode()[:-1]),
    _kept("the 16 bytes of its id as key", lambda one: b"\xff" + one.user.id.bytes[1:]),
    _kept("its id framed as key", lambda one: one.framed("json", one.id.encode())),
    _kept("a key that is no UTF-8", lambda _: b"\xff\xfe"),
    _kept("a key of NULs", lambda _: b"\0" * 36),
    Case("an empty value", lambda _: b"", Rejected(Reason.VALUE_MISSING, "the value is empty")),
    Case(
        "an empty value without a key",
        lambda _: b"",
        Rejected(Reason.VALUE_MISSING, "the value is empty"),
        lambda _: None,
    ),
    Case("no key", lambda one: one.json(), Stored(), lambda _: None),
    Case("an empty key", lambda one: one.json(), Stored(), lambda _: b""),
    Case("another key than its id", lambda one: one.json(), Stored(), lambda _: b"\xffkey"),
    Case("no key, and bad", lambda _: b"{", Rejected(Reason.JSON_MALFORMED), lambda _: None),
    Case("a binary key, and bad", lambda _: b"{}x", Rejected(Reason.JSON_MALFORMED), lambda _: b"\0\xff\xfe\0"),
    Case("no headers", lambda one: one.json(gender="x"), broken("gender:pattern"), headers=[]),
    Case("a header that is null", lambda _: b"{", Rejected(Reason.JSON_MALFORMED), headers=[("h", None)]),
    Case("a header that is empty", lambda _: b"{", Rejected(Reason.JSON_MALFORMED), headers=[("h", b""), ("", b"x")]),
    Case(
        "a header twice",
        lambda _: b"{",
        Rejected(Reason.JSON_MALFORMED),
        headers=[("h", b"1"), ("h", b"2"), ("h", b"1")],
    ),
    Case("a binary header", lambda _: b"{", Rejected(Reason.JSON_MALFORMED), headers=[("h", bytes(range(256)))]),
    Case("a header name beyond ASCII", lambda _: b"{", Rejected(Reason.JSON_MALFORMED), headers=[("ключ 🔑", b"1")]),
    Case("1,000 headers", lambda _: b"{", Rejected(Reason.JSON_MALFORMED), headers=_MANY),
    Case("1,000 headers of a good record", lambda one: one.json(), Stored(), headers=_MANY),
    Case("a null value with headers and no id", lambda _: None, _NO_ID, lambda _: b"x", [("h", None), ("h", b"\0")]),
]
