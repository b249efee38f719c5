"""Null and empty values, with keys that are ids, in every format, and keys that are not."""

from io import BytesIO

import fastavro

from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Reason
from penstock.contract.record import Headers
from tests.corpus.case import Case, Deleted, Key, Rejected, Sender, Stored, broken
from tests.corpus.schemas import SCHEMAS, UNKNOWN_ID

_NO_ID = Rejected(Reason.VALUE_MISSING, "the value is null, and the key is no id")
_MANY: Headers = [(f"header-{number}", b"%d" % number) for number in range(1000)]


def _deleted(name: str, key: Key) -> Case:
    return Case(f"a null value: {name}", lambda _: None, Deleted(), key)


def _kept(name: str, key: Key) -> Case:
    return Case(f"a null value: {name}", lambda _: None, _NO_ID, key)


def _avro(sender: Sender, schema: str, value: object) -> bytes:
    """A key as another team's Avro producer writes it."""
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(SCHEMAS[schema].schema), value)
    return sender.framed(schema, body.getvalue())


CASES = [
    _deleted("its id as key", lambda sender: sender.id.encode()),
    _deleted("its id in capitals as key", lambda sender: sender.id.upper().encode()),
    _deleted("its id without hyphens as key", lambda sender: sender.id.replace("-", "").encode()),
    _kept("no key", lambda _: None),
    _kept("an empty key", lambda _: b""),
    _kept("a word as key", lambda _: b"key"),
    _kept("its id in braces as key", lambda sender: b"{%b}" % sender.id.encode()),
    _deleted("its id in quotes as key", lambda sender: b'"%b"' % sender.id.encode()),
    _deleted("its id in a JSON object as key", lambda sender: b'{"id": "%b"}' % sender.id.encode()),
    _deleted("its id in a JSON object with escapes", lambda sender: b'{"\\u0069d": "%b"}' % sender.id.encode()),
    _deleted(
        "a Connect key", lambda sender: b'{"schema":{"type":"struct"},"payload":{"id":"%b"}}' % sender.id.encode()
    ),
    _deleted(
        "a Connect key of a scalar", lambda sender: b'{"schema":{"type":"string"},"payload":"%b"}' % sender.id.encode()
    ),
    _deleted("a Connect key without its schema", lambda sender: b'{"payload":{"id":"%b"}}' % sender.id.encode()),
    _deleted("a Connect key of no schema", lambda sender: b'{"schema":null,"payload":"%b"}' % sender.id.encode()),
    _deleted("its id as framed JSON", lambda sender: sender.framed("json", b'"%b"' % sender.id.encode())),
    _deleted(
        "its id in a framed JSON object", lambda sender: sender.framed("json", b'{"id":"%b"}' % sender.id.encode())
    ),
    _deleted("its id as framed Avro", lambda sender: _avro(sender, "text", sender.id)),
    _deleted("its id in a framed Avro record", lambda sender: _avro(sender, "key", {"id": sender.id})),
    _deleted("its id as a UUID of Avro in a record", lambda sender: _avro(sender, "uuid-key", {"id": sender.id})),
    _deleted("its id or null in a framed Avro record", lambda sender: _avro(sender, "nullable-key", {"id": sender.id})),
    _kept("null in a framed Avro record", lambda sender: _avro(sender, "nullable-key", {"id": None})),
    _kept(
        "its id in an Avro record with another field",
        lambda sender: _avro(sender, "wide-key", {"id": sender.id, "at": 1}),
    ),
    _kept("an Avro record of something else", lambda sender: _avro(sender, "other-record", {"number": 1})),
    _kept("a framed Avro record and a byte", lambda sender: _avro(sender, "key", {"id": sender.id}) + b"x"),
    _kept("a framed Avro record that is cut", lambda sender: _avro(sender, "key", {"id": sender.id})[:-1]),
    _kept("a frame that is cut as key", lambda sender: _avro(sender, "key", {"id": sender.id})[:3]),
    _kept("its id framed by a schema that nobody has", lambda sender: encode_header(UNKNOWN_ID) + sender.id.encode()),
    _kept("a JSON object with another field as key", lambda sender: b'{"id":"%b","at":1}' % sender.id.encode()),
    _kept("a JSON object of another name as key", lambda sender: b'{"user":"%b"}' % sender.id.encode()),
    _kept("a JSON object that names its id twice", lambda sender: b'{"id":"%b","id":"x"}' % sender.id.encode()),
    _kept("a JSON object with null as id", lambda _: b'{"id":null}'),
    _kept("a JSON list as key", lambda sender: b'["%b"]' % sender.id.encode()),
    _kept("a Connect key in a Connect key", lambda sender: b'{"payload":{"payload":"%b"}}' % sender.id.encode()),
    _kept("a Connect key without a payload", lambda _: b'{"schema":{},"payload":null}'),
    _kept("a struct in Java's words as key", lambda sender: b"Struct{id=%b}" % sender.id.encode()),
    _kept("JSON that is nested 100,000 deep as key", lambda _: b"[" * 100_000),
    _kept("its id and a newline as key", lambda sender: sender.id.encode() + b"\n"),
    _kept("its id cut as key", lambda sender: sender.id.encode()[:-1]),
    _kept("the 16 bytes of its id as key", lambda sender: b"\xff" + sender.user.id.bytes[1:]),
    _kept("its id framed as key", lambda sender: sender.framed("json", sender.id.encode())),
    _kept("a key that is no UTF-8", lambda _: b"\xff\xfe"),
    _kept("a key of NULs", lambda _: b"\0" * 36),
    Case("an empty value", lambda _: b"", Rejected(Reason.VALUE_MISSING, "the value is empty")),
    Case(
        "an empty value without a key",
        lambda _: b"",
        Rejected(Reason.VALUE_MISSING, "the value is empty"),
        lambda _: None,
    ),
    Case("no key", lambda sender: sender.json(), Stored(), lambda _: None),
    Case("an empty key", lambda sender: sender.json(), Stored(), lambda _: b""),
    Case("another key than its id", lambda sender: sender.json(), Stored(), lambda _: b"\xffkey"),
    Case("no key, and bad", lambda _: b"{", Rejected(Reason.JSON_MALFORMED), lambda _: None),
    Case("a binary key, and bad", lambda _: b"{}x", Rejected(Reason.JSON_MALFORMED), lambda _: b"\0\xff\xfe\0"),
    Case("no headers", lambda sender: sender.json(gender="x"), broken("gender:pattern"), headers=[]),
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
    Case("1,000 headers of a good record", lambda sender: sender.json(), Stored(), headers=_MANY),
    Case("a null value with headers and no id", lambda _: None, _NO_ID, lambda _: b"x", [("h", None), ("h", b"\0")]),
]
