"""Values that are not JSON, or not only JSON, or not UTF-8."""

import codecs
import gzip
import random

from penstock.contract.fault import Reason
from tests.corpus.case import Case, Rejected, Stored, Value, broken, good_fields


def _malformed(name: str, value: Value, message: str = "") -> Case:
    return Case(name, value, Rejected(Reason.JSON_MALFORMED, message))


_NOTHING_OF_OURS = broken(*(f"{name}:required" for name in good_fields("")), message="id: is missing")


def _random(length: int) -> bytes:
    return b"\x80" + random.Random(7).randbytes(length)


def _cut(sevenths: int) -> Case:
    return _malformed(
        f"JSON cut after {sevenths} sevenths", lambda sender: sender.json()[: len(sender.json()) * sevenths // 7]
    )


CASES = [
    *(_cut(sevenths) for sevenths in range(1, 7)),
    _malformed("JSON without its last byte", lambda sender: sender.json()[:-1], "truncated"),
    _malformed("framed JSON cut", lambda sender: sender.framed("json", sender.json()[:-1]), "truncated"),
    _malformed("a frame and no JSON", lambda sender: sender.framed("json", b""), "truncated"),
    _malformed("only whitespace", lambda _: b" \n\t\r ", "truncated"),
    _malformed("a word", lambda _: b"hello"),
    _malformed("single quotes", lambda sender: sender.json().replace(b'"', b"'")),
    _malformed("names without quotes", lambda _: b"{id: 1}"),
    _malformed("a trailing comma", lambda sender: sender.json()[:-1] + b",}", "trailing comma"),
    _malformed("a missing comma", lambda sender: sender.json().replace(b", ", b" ", 1)),
    _malformed("a missing colon", lambda sender: sender.json().replace(b": ", b" ", 1)),
    _malformed("a comment", lambda sender: b"/* a user */" + sender.json()),
    _malformed("two JSON texts", lambda sender: sender.json() + sender.json(), "trailing"),
    _malformed("two JSON texts on two lines", lambda sender: sender.json() + b"\n" + sender.json(), "trailing"),
    _malformed("trailing garbage", lambda sender: sender.json() + b"x", "trailing"),
    _malformed("a trailing NUL", lambda sender: sender.json() + b"\0", "trailing"),
    _malformed("a BOM", lambda sender: codecs.BOM_UTF8 + sender.json()),
    _malformed("UTF-16 with a BOM", lambda sender: sender.json().decode().encode("utf-16")),
    _malformed("UTF-16 little-endian", lambda sender: sender.json().decode().encode("utf-16-le")),
    Case(
        "UTF-16 big-endian, which starts as a frame does",
        lambda sender: sender.json().decode().encode("utf-16-be"),
        Rejected(Reason.SCHEMA_UNKNOWN, "schema 2063606272"),
    ),
    _malformed("Latin-1", lambda sender: sender.json(first_name="Zoë").decode().encode("latin-1"), "utf-8"),
    _malformed("a byte that is never UTF-8", lambda sender: sender.with_raw("first_name", b'"\xff"'), "utf-8"),
    _malformed("UTF-8 cut in a character", lambda sender: sender.with_raw("first_name", b'"\xe2\x82"'), "utf-8"),
    _malformed("UTF-8 longer than needed", lambda sender: sender.with_raw("first_name", b'"\xc0\xaf"'), "utf-8"),
    _malformed("UTF-8 beyond Unicode", lambda sender: sender.with_raw("first_name", b'"\xf4\x90\x80\x80"'), "utf-8"),
    _malformed("a surrogate in UTF-8", lambda sender: sender.with_raw("first_name", b'"\xed\xa0\x80"'), "utf-8"),
    _malformed(
        "a byte that is never UTF-8, in an unknown field", lambda sender: sender.with_raw("x", b'"\xff"'), "utf-8"
    ),
    _malformed("a lone high surrogate", lambda sender: sender.with_raw("first_name", rb'"\ud83d"')),
    _malformed(
        "a lone high surrogate before a letter", lambda sender: sender.with_raw("first_name", rb'"\ud83dabcdef"')
    ),
    _malformed("a lone low surrogate", lambda sender: sender.with_raw("first_name", rb'"\ude00"'), "surrogate"),
    _malformed("a lone surrogate in an unknown field", lambda sender: sender.with_raw("x", rb'"\ude00"'), "surrogate"),
    _malformed("surrogates the wrong way round", lambda sender: sender.with_raw("x", rb'"\ude00\ud83d"'), "surrogate"),
    _malformed("an escape that is none", lambda sender: sender.with_raw("first_name", rb'"\x41"'), "escape"),
    _malformed("an escape cut", lambda sender: sender.with_raw("first_name", rb'"\u00"'), "escape"),
    _malformed("a raw newline in a text", lambda sender: sender.with_raw("first_name", b'"a\nb"'), "invalid character"),
    _malformed("a raw NUL in a text", lambda sender: sender.with_raw("first_name", b'"a\0b"'), "invalid character"),
    _malformed("a raw NUL in an unknown field", lambda sender: sender.with_raw("x", b'"\0"'), "invalid character"),
    _malformed("gzip", lambda sender: gzip.compress(sender.json(), mtime=0)),
    _malformed("a PNG", lambda _: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
    _malformed("random bytes", lambda _: _random(500)),
    _malformed("a Java object", lambda _: b"\xac\xed\x00\x05sr\x00\x04User"),
    _malformed("XML", lambda _: b"<user><id>1</id></user>"),
    _malformed("Avro's bytes under a JSON schema", lambda sender: sender.framed("json", sender.avro_body())),
    Case("JSON of another thing", lambda sender: sender.framed("other-json", b'{"room": 5}'), _NOTHING_OF_OURS),
    Case("a user under another JSON schema", lambda sender: sender.framed("other-json", sender.json()), Stored()),
    *(
        Case(f"{name} as the whole value", lambda _, v=value: v, broken(":type", message="Expected `object`"))
        for name, value in {
            "an array": b"[]",
            "a list of users": b'[{"id": 1}]',
            "a text": b'"user"',
            "a number": b"42",
            "a float": b"-1.5e3",
            "null": b"null",
            "true": b"true",
            "false": b"false",
        }.items()
    ),
    Case("a framed null", lambda sender: sender.framed("json", b"null"), broken(":type", message="Expected `object`")),
    _malformed("NaN as the whole value", lambda _: b"NaN"),
]
