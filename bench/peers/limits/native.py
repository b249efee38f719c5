"""Minimal CQL client: one connection to one node, many requests in flight, native protocol version 4.

It has no routing, retries, compression or authentication. The protocol is described in
https://github.com/apache/cassandra/blob/trunk/doc/native_protocol_v4.spec.
"""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from struct import Struct, pack
from typing import NamedTuple

TIMEOUT_S = 30.0
_HEADER = Struct(">BBhBi")
"""Version, flags, stream, opcode, body length."""
_VERSION = 4
_ERROR, _STARTUP, _RESULT, _READY, _PREPARE, _BATCH = 0x00, 0x01, 0x08, 0x02, 0x09, 0x0D
_UNLOGGED, _IS_PREPARED, _LOCAL_ONE = 1, 1, 0x0A


class ResponseError(Exception):
    """The server responded with an error or with an unexpected opcode."""


class Response(NamedTuple):
    """A frame from the server."""

    stream: int
    opcode: int
    body: bytes


class Connection:
    """Sends and receives frames. `stream` is the number of a request and identifies its response."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._responses = link.makefile("rb", 64 * 1024)

    def prepare(self, query: str) -> bytes:
        """Prepare a statement and return its id."""
        text = query.encode()
        self.send(0, _PREPARE, pack(">i", len(text)) + text)
        body = self.receive(_RESULT).body
        length = int.from_bytes(body[4:6], "big")
        return body[6 : 6 + length]

    def send(self, stream: int, opcode: int, body: bytes) -> None:
        """Send a request."""
        self._link.sendall(_HEADER.pack(_VERSION, 0, stream, opcode, len(body)) + body)

    def send_batch(self, stream: int, rows: Iterable[bytes], count: int) -> None:
        """Send an unlogged batch of `count` rows, each encoded by `encode_head` and `encode_values`."""
        start, end = pack(">BH", _UNLOGGED, count), pack(">HB", _LOCAL_ONE, 0)
        self.send(stream, _BATCH, b"".join((start, *rows, end)))

    def receive(self, opcode: int = _RESULT) -> Response:
        """Return the next response. Raises `Refused` if its opcode differs."""
        _, _, stream, actual_opcode, length = _HEADER.unpack(self._read(_HEADER.size))
        body = self._read(length)
        if actual_opcode != opcode:
            raise ResponseError(f"opcode {actual_opcode}: {body!r}")
        return Response(stream, actual_opcode, body)

    def _read(self, size: int) -> bytes:
        data = self._responses.read(size)
        if len(data) < size:
            raise ConnectionError("the server closed the connection")
        return data


@contextmanager
def connect(host: str, port: int) -> Iterator[Connection]:
    """Open a connection and complete the handshake. Closed on exit."""
    with socket.create_connection((host, port), TIMEOUT_S) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(link)
        connection.send(0, _STARTUP, pack(">H", 1) + _string("CQL_VERSION") + _string("3.0.0"))
        connection.receive(_READY)
        yield connection


def encode_head(statement: bytes, count: int) -> bytes:
    """Encode the header of a row in a batch. `count` is the number of values that follow."""
    return pack(">BH", _IS_PREPARED, len(statement)) + statement + pack(">H", count)


def encode_values(values: Iterable[bytes]) -> bytes:
    """Encode non-null values for a batch."""
    return b"".join(pack(">i", len(value)) + value for value in values)


def _string(text: str) -> bytes:
    return pack(">H", len(text)) + text.encode()
