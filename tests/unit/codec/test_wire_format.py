import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codec.wire_format import HEADER_BYTES, decode_schema_id, encode_header, is_framed, split_header


@given(st.integers(0, 2**32 - 1), st.binary())
def test_a_header_round_trips(schema_id, body):
    """A header has 5 bytes, is recognized as one, and gives its id back, whatever follows."""
    value = encode_header(schema_id) + body
    assert len(encode_header(schema_id)) == HEADER_BYTES
    assert is_framed(value)
    assert decode_schema_id(value) == schema_id


def test_the_header_is_the_registrys():
    """A zero byte, then the id in big-endian order."""
    assert encode_header(258) == b"\x00\x00\x00\x01\x02"


@pytest.mark.parametrize("size", range(1, HEADER_BYTES))
def test_a_truncated_header_is_rejected(size):
    """A value that ends within its header has no id; the error says how many bytes there are."""
    with pytest.raises(ValueError, match=f"truncated schema-registry header: {size} of 5 bytes"):
        decode_schema_id(encode_header(7)[:size])


@pytest.mark.parametrize("value", [b"", b"{}", b" {}", b"[", b"\xef\xbb\xbf{}"])
def test_json_has_no_header(value):
    """No JSON text looks like a header."""
    assert not is_framed(value)


@pytest.mark.parametrize(
    ("value", "header", "body"),
    [
        (b"{}", b"", b"{}"),
        (b"", b"", b""),
        (encode_header(7) + b"{}", encode_header(7), b"{}"),
        (b"\0\0\0", b"\0\0\0", b""),
    ],
)
def test_a_value_is_split_into_header_and_body(value, header, body):
    """A value without a header is all body; a truncated header has no body."""
    assert split_header(value) == (header, body)
