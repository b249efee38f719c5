"""Well-formed JSON that breaks rules of the contract: types, absence, formats, texts."""

from collections.abc import Iterator
from typing import Any

from tests.corpus.case import Case, Stored, broken, good_fields

_FIELDS = list(good_fields(""))
_NUL = "contains a NUL character"


def _changed(name: str, field: str, value: Any, *rules: str, message: str = "") -> Case:
    codes = [f"{field}:{rule}" for rule in rules]
    return Case(f"{field}: {name}", lambda sender: sender.json(**{field: value}), broken(*codes, message=message))


def _fine(name: str, field: str, value: str) -> Case:
    return Case(f"{field}: {name}", lambda sender: sender.json(**{field: value}), Stored({field: value}))


def _of_each_field() -> Iterator[Case]:
    for field in _FIELDS:
        yield Case(
            f"{field} missing",
            lambda sender, f=field: sender.json(f),
            broken(f"{field}:required", message=f"{field}: is missing"),
        )
        yield _changed("null", field, None, "required", message=f"{field}: is null")
        for kind, value in {"number": 5, "true": True, "array": ["a"], "object": {"a": "b"}, "float": 1.5}.items():
            yield _changed(f"a {kind}", field, value, "type", message=f"got `{_python_name(kind)}`")


def _python_name(kind: str) -> str:
    return {"number": "int", "true": "bool", "array": "array", "object": "object"}.get(kind, kind)


def _everything_wrong() -> Case:
    rules = [f"{field}:type" for field in _FIELDS]
    return Case("every field of a wrong type", lambda sender: sender.json(**dict.fromkeys(_FIELDS, 7)), broken(*rules))


CASES = [
    *_of_each_field(),
    _everything_wrong(),
    Case(
        "no field at all",
        lambda _: b"{}",
        broken(*(f"{field}:required" for field in _FIELDS), message="id: is missing"),
    ),
    Case(
        "several rules at once",
        lambda sender: sender.json("phone", email="nobody", post_code=1, last_name=None, nationality="gb"),
        broken("last_name:required", "post_code:type", "email:pattern", "phone:required", "nationality:pattern"),
    ),
    Case(
        "a broken rule behind a frame",
        lambda sender: sender.framed("json", sender.json(gender="other")),
        broken("gender:pattern"),
    ),
    Case("names in capitals", lambda sender: sender.json("email", EMAIL="a@b.c"), broken("email:required")),
    _changed("no UUID", "id", "12345", "format", message="Invalid UUID"),
    _changed("empty", "id", "", "format"),
    _changed("in braces", "id", "{5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0de}", "format"),
    _changed("as urn", "id", "urn:uuid:5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0de", "format"),
    _changed("a letter too many", "id", "5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0def", "format"),
    _changed("hyphens elsewhere", "id", "5f1d9a4e7-d2f-4f0c-9a55-0c0ffee0c0de", "format"),
    _changed("no hexadecimal", "id", "5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0dg", "format"),
    _changed("space around", "id", " 5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0de ", "format"),
    _changed("a newline at the end", "id", "5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0de\n", "format"),
    _changed("two @", "email", "ada@example@com", "pattern"),
    _changed("no @", "email", "ada.example.com", "pattern"),
    _changed("nothing before the @", "email", "@example.com", "pattern"),
    _changed("a space", "email", "ada lovelace@example.com", "pattern"),
    _changed("a newline at the end", "email", "ada@example.com\n", "pattern", message="ends with a newline"),
    _changed("empty", "email", "", "pattern"),
    _changed("too long", "email", "a" * 320 + "@b", "length"),
    _changed("too long and no address", "email", "a" * 321, "length", "pattern"),
    _changed("ftp", "picture", "ftp://example.com/ada.jpg", "pattern"),
    _changed("javascript", "picture", "javascript:alert(1)", "pattern"),
    _changed("a path", "picture", "/ada.jpg", "pattern"),
    _changed("a newline at the end", "picture", "https://example.com/ada.jpg\n", "pattern"),
    _changed("a newline within", "picture", "https://example.com/\nada.jpg", "pattern"),
    _changed("other", "gender", "other", "pattern"),
    _changed("capitals", "gender", "Female", "pattern"),
    _changed("empty", "gender", "", "pattern"),
    _changed("a newline at the end", "gender", "female\n", "pattern"),
    _changed("lower case", "nationality", "gb", "pattern"),
    _changed("three letters", "nationality", "GBR", "pattern"),
    _changed("letters beyond ASCII", "nationality", "ÄÖ", "pattern"),
    _changed("a newline at the end", "nationality", "GB\n", "pattern"),
    *(_changed("empty", field, "", "length") for field in ("first_name", "last_name", "address", "username", "phone")),
    _changed("empty", "post_code", "", "length"),
    _changed("too long", "first_name", "x" * 501, "length"),
    _changed("too long", "address", "x" * 2001, "length"),
    _changed("too long", "post_code", "x" * 21, "length"),
    _changed("too long", "phone", "5" * 51, "length"),
    _changed("too long, of characters outside of the first plane", "first_name", "😀" * 501, "length"),
    _changed("a NUL", "first_name", "A\0da", "character", message=_NUL),
    _changed("nothing but a NUL", "last_name", "\0", "character", message=_NUL),
    _changed("a NUL at the end", "nationality", "GB\0", "pattern"),
    _changed("a NUL in an address", "email", "ada\0@example.com", "character", message=_NUL),
    Case(
        "NULs in two fields",
        lambda sender: sender.json(first_name="\0", phone="\0"),
        broken("first_name:character", "phone:character"),
    ),
    _fine("as long as may be", "first_name", "x" * 500),
    _fine("as long as may be, outside of the first plane", "first_name", "😀" * 500),
    _fine("control characters", "first_name", "\x01\x1b[31m\x7f\x85"),
    _fine("a newline at the end", "first_name", "Ada\n"),
    _fine("emoji", "first_name", "👩‍👩‍👧‍👦🏳️‍🌈"),
    _fine("right to left", "first_name", "\u202e\u0622\u062f\u0627\u202c"),
    _fine("a character that was never given", "first_name", "\ufdd0\uffff\U0010ffff"),
    _fine("a BOM within", "first_name", "\ufeffAda"),
    _fine("an accent as a character of its own", "first_name", "Zoe\u0308"),
    _fine("quotes and backslashes", "first_name", '"\\"'),
    _fine("CQL", "first_name", "'; DROP TABLE created_users; --"),
    _fine("a space", "first_name", " "),
    _fine("no domain", "email", "ada@localhost"),
    _fine("a NUL as six characters", "first_name", r"\u0000"),
]
