import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.json_numbers import encode_json, read_number
from penstock.source.entries import Unreadable, read_entry, read_page, split_members

EXACT = b'{"float":0.1,"more":1.10,"big":123456789012345678901234567890,"tiny":5e-324,"text":"a \\" , ] }"}'

BAD = {
    "NaN": (b'{"score": NaN}', "NaN is not a JSON number"),
    "Infinity": (b"[1, Infinity]", "Infinity is not a JSON number"),
    "-Infinity": (b"-Infinity", "-Infinity is not a JSON number"),
    "C's nan": (b'{"score": nan}', "Expecting value"),
    "JavaScript's undefined": (b'{"score": undefined}', "Expecting value"),
    "Python's None": (b"[None]", "Expecting value"),
    "a leading zero": (b'{"code": 007}', "Expecting ',' delimiter"),
    "a comma too many": (b'{"a": [1, 2,]}', "Expecting value"),
    "too large a number": (b"[1e999]", "Number out of range"),
    "too many digits": (b"[1" + b"0" * 5000 + b"]", "out of range"),
    "a byte that is not UTF-8": (b'{"name": "J\xffne"}', "can't decode byte 0xff in position 11"),
    "an overlong form": (b'"\xc0\x80"', "can't decode byte 0xc0"),
    "Latin-1": ('{"city": "Malmö"}'.encode("latin-1"), "can't decode byte 0xf6"),
    "a lone surrogate": (b'{"name": "\\ud800 x and more"}', "surrogate"),
    "a lone low surrogate": (b'{"name": "\\udc80 x and more"}', "surrogate"),
    "an encoded surrogate": (b'"\xed\xa0\x80"', ""),
    "a control character": (b'{"name": "a\x01b"}', "Invalid control character"),
    "a line break in a text": (b'{"name": "a\nb"}', "Invalid control character"),
    "a NUL": (b'{"name": "a\x00b"}', "Invalid control character"),
    "an unknown escape": (b'{"path": "C:\\data"}', "Invalid \\escape"),
    "a name twice": (b'{"a": {"id": 1, "id": 2}}', "duplicate name 'id' in an object"),
    "a name twice, one escaped": (b'{"id": 1, "\\u0069d": 2}', "duplicate name 'id' in an object"),
    "single quotes": (b"{'a': 1}", "property name enclosed in double quotes"),
    "a comment": (b"{/* none */}", "property name enclosed in double quotes"),
    "too deep": (b"[" * 100_000 + b"]" * 100_000, "recursion"),
    "nothing": (b"", "Expecting value"),
}


decode_exactly = msgspec.json.Decoder(float_hook=read_number).decode


@pytest.mark.parametrize("decode", [msgspec.json.decode, decode_exactly])
@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_a_bad_entry_affects_no_other(bad, reason, decode):
    """An invalid entry stays in its place as bytes with the error. Its neighbours are as on a valid page."""
    page = read_page(b'{"info": {"n": 1}, "results": [ %s , %s,%s ]}' % (EXACT, bad, EXACT), decode)
    first, unreadable, last = page["results"]
    assert encode_json(first) == encode_json(last) == encode_json(decode(EXACT))
    assert isinstance(unreadable, Unreadable)
    assert unreadable.value == bad
    assert reason in unreadable.message
    assert unreadable.message.isprintable()
    assert len(unreadable.message) <= 300


LONG = b"12345678901234567890.12345678901234567890"


@pytest.mark.parametrize("other", [b"1", b"NaN", b'{"a": "b", "a": "c"}'], ids=["valid", "invalid", "a name twice"])
def test_a_long_number_keeps_its_digits_on_every_page(other):
    """A number that a float rounds is read exactly if the record needs it, from a valid page and by entry."""
    page = b'{"results": [{"price": %s}, %s]}' % (LONG, other)
    assert encode_json(read_page(page, decode_exactly)["results"][0]) == b'{"price":%s}' % LONG
    assert read_page(page)["results"][0] == {"price": float(LONG)}


GOOD_PAGE = b'{"error": null, "results": [%s, null, 7, "x"]}' % EXACT


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_byte_order_mark_is_accepted(encoding):
    """A page in any Unicode encoding, with or without byte order mark, is parsed like UTF-8."""
    text = '{"results": ["Malmö"], "info": {}}'
    assert read_page(text.encode(encoding)) == {"results": ["Malmö"], "info": {}}


def test_a_page_with_a_byte_order_mark_and_a_bad_entry_is_read():
    """Every invalid entry of a page is found."""
    page = read_page(b"\xef\xbb\xbf" + GOOD_PAGE.replace(b"null, 7", b"NaN, 7"))
    assert page["error"] is None
    assert page["results"][2:] == [7, "x"]
    assert isinstance(page["results"][1], Unreadable)


@pytest.mark.parametrize(
    "page",
    [
        b'{"results": [1, 2,], "info": {}}',
        b'{"results": [1, 2], "info": NaN}',
        b'{"results": [1, 2], "in\xfffo": 3}',
        b'{"info": {"a": 1, "a": 2}, "results": [1, 2]}',
        b'{"\\u0072esults": [1, 2], "info": undefined}',
    ],
)
def test_errors_outside_the_entries_do_not_affect_them(page):
    """Entries are returned if they can be parsed, whatever else is on the page."""
    assert read_page(page)["results"] == [1, 2]


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"NaN",
        b"<html>",
        b'{"results": [1, NaN',
        b'{"results": [1, "NaN]}',
        b'{"results": [NaN]} x',
        b'{"results": [NaN}]',
        b'{"results": {"a": NaN}}',
        b'{"results": [NaN], "results": []}',
        b"[NaN]]",
        b"{" * 100_000,
    ],
    ids=range(11),
)
def test_a_page_without_clear_entry_boundaries_is_an_error(page):
    """Truncated pages and pages that are not JSON are errors."""
    with pytest.raises(ValueError, match=r"\S"):
        read_page(page)


def test_a_duplicate_name_is_found_on_a_page_of_valid_json():
    """A duplicate name is found whatever the quotes and escapes. The same name in another object is no duplicate."""
    twice = read_page(b'{"results": [{"a": "\\"", "a": "\\u0022"}, {"a": {"a": "\\u0022\\\\"}}]}')
    assert isinstance(twice["results"][0], Unreadable)
    assert twice["results"][1] == {"a": {"a": '"\\'}}
    evened_out = read_page(b'{"results": [{"a": "x", "a": "y", "t": "%s"}]}' % (b"\\u0022" * 4))
    assert isinstance(evened_out["results"][0], Unreadable)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.lists(VALUES), st.booleans(), st.sampled_from([None, 2]))
def test_valid_entries_are_the_same_on_any_page(entries, ascii_only, indent):
    """Whatever their content."""
    text = json.dumps({"results": entries}, ensure_ascii=ascii_only, indent=indent)
    good = read_page(text.encode())["results"]
    bad = read_page((text[:-1] + ', "info": NaN}').encode())["results"]
    assert msgspec.json.encode(bad) == msgspec.json.encode(good)


@given(st.binary(max_size=60))
def test_no_bytes_raise_another_error(body):
    """Arbitrary bytes are a page or a ValueError. Arbitrary entries are a value or unreadable."""
    for page in (body, b'{"results": [%s]}' % body):
        try:
            read_page(page)
        except ValueError:
            continue
    read_entry(body)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"[]", []),
        (b" [ ] ", []),
        (b"[1,]", [b"1"]),
        (b"[,1]", [b"", b"1"]),
        (b'[{"a":[1,2]},"],"]', [b'{"a":[1,2]}', b'"],"']),
    ],
)
def test_an_array_is_split_at_its_own_commas(text, parts):
    """Commas and brackets within entries do not split. Only an empty last part is dropped."""
    assert split_members(text, b"[") == parts


# what is secret

SECRET = frozenset({"password", "salt"})


def test_secret_fields_are_removed_from_an_unreadable_entry():
    """Secret members are removed at any depth, also with escaped or duplicate names. The rest is kept."""
    entry = read_entry(
        b'{"n": NaN, "n": 1, "login": {"password": "s3cret", "p\\u0061ssword": {"x": "s3cret"}, "salt": 5},'
        b' "t": "\xff"}'
    )
    kept = entry.without(SECRET)
    assert kept == Unreadable(b'{"n": NaN, "n": 1, "login": {}, "t": "\\udcff"}', entry.message)


def test_an_entry_without_secrets_keeps_its_bytes():
    """An entry without secret members is kept byte for byte."""
    entry = Unreadable(b'{"n":  NaN, "t": "\xff"}', "wrong")
    assert entry.without(SECRET) == entry
    assert Unreadable(b'{"password": NaN}', "wrong").without(frozenset()) == Unreadable(b'{"password": NaN}', "wrong")


@pytest.mark.parametrize(
    "value",
    [b"{'password': 's3cret'}", b'{"a": undefined, "salt": "s3cret"}', b'{"a": "x"y", "password": "s3cret", "z"w"}'],
)
def test_an_entry_that_may_hide_a_secret_is_dropped(value):
    """An entry in which a secret field cannot be located is dropped, with its size in the message."""
    kept = Unreadable(value, "wrong").without(SECRET)
    assert kept == Unreadable(
        b"", f"wrong; its {len(value)} bytes were dropped, because they may contain a secret field"
    )
