"""Avro: truncated, too long, of other schemas, and values that no schema forbids."""

from datetime import UTC, datetime
from typing import Any

from penstock.contract.fault import Reason
from tests.corpus.case import Case, Rejected, Sender, Stored, Value, broken

_YEAR_300000_MS = 9_404_942_400_000_000
_NOON = datetime(2000, 1, 1, 12, tzinfo=UTC)


def number(value: int) -> bytes:
    """Encode a number as Avro does: zigzag, seven bits per byte."""
    left, out = (value << 1) ^ (value >> 63), bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _malformed(name: str, value: Value, message: str = "") -> Case:
    return Case(f"Avro: {name}", value, Rejected(Reason.AVRO_MALFORMED, message))


def _cut(name: str, length: int) -> Case:
    return _malformed(name, lambda sender: sender.avro()[:length])


def _id_length(length: int) -> Value:
    """A user whose id claims a length of `length` bytes."""
    return lambda sender: sender.framed("avro", number(length) + sender.avro_body()[1:])


def _broken(name: str, *rules: str, **changes: Any) -> Case:
    return Case(f"Avro: {name}", lambda sender: sender.avro(**changes), broken(*rules))


def _dated(milliseconds: int) -> Value:
    """A user born this many milliseconds from 1970, possibly in a year that Python does not have."""
    return lambda sender: sender.framed("avro", sender.avro_body("plain-long", dob=milliseconds))


def _in_union(sender: Sender, index: bytes) -> bytes:
    """A user whose e-mail address is at `index` of a union of two types."""
    body, text = sender.avro_body("nullable"), sender.user.email.encode()
    at = body.index(number(len(text)) + text)
    return sender.framed("nullable", body[: at - 1] + index + body[at:])


def _unsafe(name: str, schema: str, rest: bytes) -> Case:
    """A user by a schema with an additional field whose decoding might not terminate."""
    return Case(
        f"Avro: {name}",
        lambda sender: sender.framed(schema, sender.avro_body() + rest),
        Rejected(Reason.SCHEMA_UNKNOWN, "cannot be read"),
    )


def _more(schema: str, rest: bytes) -> Value:
    """A user by a schema with an additional field, and its value."""
    return lambda sender: sender.framed(schema, sender.avro_body() + rest)


def _too_much(name: str, schema: str, rest: bytes) -> Case:
    """A user with an additional field that contains more values than a record may."""
    return Case(f"Avro: {name}", _more(schema, rest), broken(":size", message="more than 100,000 values"))


def _with_username(sender: Sender, value: bytes) -> bytes:
    """A user whose name, a text, is encoded as these bytes."""
    return sender.avro_body().replace(number(3) + b"ada", value, 1)


CASES = [
    _unsafe("an array of 2^62 nulls", "endless", number(2**62) + b"\0"),
    _unsafe("a record in itself, 900,000 deep", "recursive", b"\x02" * 900_000 + b"\0"),
    _unsafe("records by name, 5 bytes for 10^7 nulls", "exploding", b""),
    _unsafe("a schema nested 100 deep", "deep", b"\0"),
    _too_much("a million numbers", "numbers", number(900_000) + b"\2" * 900_000 + b"\0"),
    _too_much("an array of 2^62 doubles, and none there", "doubles", number(2**62)),
    _too_much("an array of -2^62 doubles, and one there", "doubles", number(-(2**62)) + number(8) + b"\0" * 9),
    _malformed(
        "an array of 90,000 doubles, and one there", _more("doubles", number(90_000) + b"\0" * 8), "unexpected end"
    ),
    Case("Avro: 90,000 doubles that nobody asks for", _more("doubles", number(90_000) + b"\0" * 720_001), Stored()),
    _too_much("a million numbers in blocks", "numbers", (number(9) + b"\2" * 9) * 90_000 + b"\0"),
    _too_much("records by name, each byte a number", "nested", number(900) + b"\2" * 900_000 + b"\0"),
    _malformed(
        "a decimal of 400 kB for a text",
        lambda sender: sender.framed("decimal-text", _with_username(sender, number(400_000) + b"\x7f" * 400_000)),
        "a decimal of 400,000 bytes",
    ),
    Case(
        "Avro: a decimal of 400 kB that nobody asks for",
        _more("decimal", number(400_000) + b"\x7f" * 400_000),
        Stored(),
    ),
    Case("Avro: a decimal", _more("decimal", number(2) + b"\4\xd2"), Stored()),
    Case(
        "Avro: a decimal for a text",
        lambda sender: sender.framed("decimal-text", _with_username(sender, number(2) + b"\4\xd2")),
        broken("username:type"),
    ),
    Case(
        "Avro: 90,000 numbers that nobody asks for", _more("numbers", number(90_000) + b"\2" * 90_000 + b"\0"), Stored()
    ),
    Case("Avro: 9,000 records by name", _more("nested", number(9) + b"\2" * 9_000 + b"\0"), Stored()),
    _cut("a frame alone", 5),
    _cut("cut in the first text", 20),
    _cut("cut in the middle", 150),
    _malformed("without its last byte", lambda sender: sender.avro()[:-1], "EOFError"),
    _malformed("a byte too many", lambda sender: sender.avro() + b"\0", "extra bytes"),
    _malformed("two records", lambda sender: sender.avro() + sender.avro_body(), "extra bytes"),
    _malformed("a negative length", _id_length(-1), "EOFError"),
    _malformed("a very negative length", _id_length(-(2**63)), "EOFError"),
    _malformed("a length of 2 GiB", _id_length(2**31), "EOFError"),
    _malformed("a length of 2^62", _id_length(2**62), "EOFError"),
    _malformed("a number without end", lambda sender: sender.framed("avro", b"\xff" * 5000)),
    _malformed("bad UTF-8", lambda sender: sender.avro().replace(b"Lovelace", b"Love\xfface"), "UnicodeDecodeError"),
    _malformed(
        "a surrogate in UTF-8", lambda sender: sender.avro().replace(b"lace", b"\xed\xa0\x80e"), "UnicodeDecodeError"
    ),
    _malformed(
        "an id that is no UUID", lambda sender: sender.framed("avro", sender.avro_body("plain-id", id="5")), "UUID"
    ),
    _malformed("JSON under its schema", lambda sender: sender.framed("avro", sender.json())),
    _malformed("nothing but NULs", lambda sender: sender.framed("avro", b"\0" * 500)),
    _malformed("the year 300000", _dated(_YEAR_300000_MS), "OverflowError"),
    _malformed("the first millisecond of 64 bits", _dated(-(2**63)), "OverflowError"),
    _malformed("the last millisecond of 64 bits", _dated(2**63 - 1), "OverflowError"),
    _malformed("another record's", lambda sender: sender.framed("other-record", number(7)), "SchemaResolutionError"),
    _malformed("a text's", lambda sender: sender.framed("text", number(3) + b"Ada"), "SchemaResolutionError"),
    _malformed(
        "an array's", lambda sender: sender.framed("array", number(1) + number(7) + b"\0"), "SchemaResolutionError"
    ),
    _malformed("a map's", lambda sender: sender.framed("map", b"\0"), "SchemaResolutionError"),
    _malformed("an enum's", lambda sender: sender.framed("enum", number(1)), "SchemaResolutionError"),
    _malformed("a schema without a field", lambda sender: sender.avro("less"), "SchemaResolutionError"),
    _malformed(
        "a number where a text belongs",
        lambda sender: sender.avro("int-post-code", post_code=5),
        "SchemaResolutionError",
    ),
    _malformed(
        "a float where a date belongs", lambda sender: sender.avro("float-date", dob=1.5), "SchemaResolutionError"
    ),
    _malformed("an index beyond the union", lambda sender: _in_union(sender, number(2)), "IndexError"),
    _malformed("the null of a union", lambda sender: sender.avro("nullable", email=None), "SchemaResolutionError"),
    _malformed("an index before the union", lambda sender: _in_union(sender, number(-3))),
    Case("Avro: a date without its logical type", lambda sender: sender.avro("plain-long", dob=0), broken("dob:type")),
    Case(
        "Avro: a date of 32 bits without its logical type",
        lambda sender: sender.avro("int-date", dob=0),
        broken("dob:type"),
    ),
    _broken(
        "rules broken", "gender:pattern", "email:pattern", "nationality:pattern", gender="x", email="x", nationality="x"
    ),
    _broken("empty texts", "first_name:length", "gender:pattern", first_name="", gender=""),
    _broken("a NUL", "first_name:character", first_name="A\0da"),
    _broken("a newline at the end", "gender:pattern", gender="female\n"),
    _broken("a date in the future", "dob:date", dob=datetime(2999, 1, 1, tzinfo=UTC)),
    _broken("too long a text", "phone:length", phone="5" * 51),
    Case("Avro: as the producer writes it", lambda sender: sender.avro(), Stored()),
    Case("Avro: a user with a field more", lambda sender: sender.avro("more", shoe_size=38, tags=["a", "b"]), Stored()),
    Case("Avro: fields in another order", lambda sender: sender.avro("other-order"), Stored()),
    Case("Avro: the text of a union", lambda sender: sender.avro("nullable"), Stored()),
    Case("Avro: bytes for a text", lambda sender: sender.avro("bytes", username=b"ada"), Stored()),
    Case("Avro: an id without its logical type", lambda sender: sender.avro("plain-id"), Stored()),
    Case(
        "Avro: microseconds", lambda sender: sender.avro("micros", dob=_NOON), Stored({"dob": "2000-01-01T12:00:00Z"})
    ),
    Case("Avro: the first moment", _dated(-62_135_596_800_000), Stored({"dob": "0001-01-01T00:00:00Z"})),
    Case(
        "Avro: an id in capitals",
        lambda sender: sender.framed("avro", sender.avro_body("plain-id", id=sender.id.upper())),
        Stored(),
    ),
    Case("Avro: emoji", lambda sender: sender.avro(first_name="👩‍🚀"), Stored({"first_name": "👩‍🚀"})),
]
