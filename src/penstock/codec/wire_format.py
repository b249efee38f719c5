"""The schema registry's wire-format header: a zero byte and the schema id in 4 bytes, big-endian, in front of a value.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

HEADER_BYTES = 5
_MAGIC = b"\x00"


def pack(schema_id: int) -> bytes:
    """Return the wire-format header of a value written with schema `schema_id`."""
    return _MAGIC + schema_id.to_bytes(4, "big")


def is_framed(value: bytes) -> bool:
    """Return whether `value` starts like a wire-format header. No JSON text starts with a zero byte."""
    return value[:1] == _MAGIC


def unpack(value: bytes) -> int:
    """Return the schema id in the wire-format header of `value`. Raises `ValueError` if the header is truncated."""
    if len(value) < HEADER_BYTES:
        raise ValueError(f"the frame has {len(value)} of {HEADER_BYTES} bytes")
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def split_header(value: bytes) -> tuple[bytes, bytes]:
    """Return the wire-format header, empty if there is none, and the body of `value`."""
    return (value[:HEADER_BYTES], value[HEADER_BYTES:]) if is_framed(value) else (b"", value)
