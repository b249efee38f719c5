import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codec.wire_format import HEADER_BYTES, is_framed, pack, split_header, unpack


@given(st.integers(0, 2**32 - 1), st.binary())
def test_what_is_packed_is_unpacked(schema_id, body):
    """A frame is 5 bytes, is seen as one, and gives its id back, whatever follows."""
    value = pack(schema_id) + body
    assert len(pack(schema_id)) == HEADER_BYTES
    assert is_framed(value)
    assert unpack(value) == schema_id


def test_the_frame_is_the_registrys():
    """A zero byte, then the id with its highest byte first."""
    assert pack(258) == b"\x00\x00\x00\x01\x02"


@pytest.mark.parametrize("size", range(1, HEADER_BYTES))
def test_a_cut_frame_is_refused(size):
    """A value that ends within its frame has no id; the error says how much is there."""
    with pytest.raises(ValueError, match=f"the frame has {size} of 5 bytes"):
        unpack(pack(7)[:size])


@pytest.mark.parametrize("value", [b"", b"{}", b" {}", b"[", b"\xef\xbb\xbf{}"])
def test_json_is_not_framed(value):
    """No JSON text looks like a frame."""
    assert not is_framed(value)


@pytest.mark.parametrize(
    ("value", "header", "body"),
    [(b"{}", b"", b"{}"), (b"", b"", b""), (pack(7) + b"{}", pack(7), b"{}"), (b"\0\0\0", b"\0\0\0", b"")],
)
def test_a_value_is_split_into_header_and_body(value, header, body):
    """A value without a header is all body; a truncated header has no body."""
    assert split_header(value) == (header, body)
