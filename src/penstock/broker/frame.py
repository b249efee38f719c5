"""The schema registry's frame: a zero byte and the schema id in 4 bytes, big-endian, in front of a value.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

FRAME_BYTES = 5
_MAGIC = b"\x00"


def pack(schema_id: int) -> bytes:
    """The frame of a value written with schema `schema_id`."""
    return _MAGIC + schema_id.to_bytes(4, "big")


def is_framed(value: bytes) -> bool:
    """Whether `value` starts as a frame does. No JSON text starts with a zero byte."""
    return value[:1] == _MAGIC


def unpack(value: bytes) -> int:
    """The schema id in the frame of `value`. Raises `ValueError` when the frame is cut."""
    if len(value) < FRAME_BYTES:
        raise ValueError(f"the frame has {len(value)} of {FRAME_BYTES} bytes")
    return int.from_bytes(value[1:FRAME_BYTES], "big")
