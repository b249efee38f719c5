"""Disk usage of topics on the brokers: Kafka's DescribeLogDirs, which the client library does not have.

Request and response are version 1 of the protocol (https://kafka.apache.org/protocol, API key 35).
"""

import socket
import ssl
import struct
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing

from penstock.config import Settings

_API_KEY, _VERSION = 35, 1
_MOST_BYTES = 64 * 1024 * 1024


def fetch_sizes(
    settings: Settings, brokers: Iterable[tuple[str, int]], timeout_s: float = 3.0
) -> dict[str, int] | None:
    """Return bytes per topic on these brokers, counting every replica; None if a request fails, or with SASL."""
    if settings.kafka_security_protocol.startswith("SASL"):
        return None
    total: dict[str, int] = defaultdict(int)
    try:
        for host, port in brokers:
            for topic, held_bytes in _parse_sizes(_request_log_dirs(settings, host, port, timeout_s)):
                total[topic] += held_bytes
    except (OSError, ValueError, struct.error):
        return None
    return dict(total)


def _request_log_dirs(settings: Settings, host: str, port: int, timeout_s: float) -> bytes:
    client = b"penstock"
    body = struct.pack(">hhih", _API_KEY, _VERSION, 1, len(client)) + client + struct.pack(">i", -1)
    with closing(_open_connection(settings, host, port, timeout_s)) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        (length,) = struct.unpack(">i", _receive_bytes(connection, 4))
        if not 0 <= length <= _MOST_BYTES:
            raise ValueError(f"a response of {length} bytes")
        return _receive_bytes(connection, length)


def _open_connection(settings: Settings, host: str, port: int, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=timeout_s)
    if settings.kafka_security_protocol != "SSL":
        return connection
    authority = settings.kafka_ca_file and str(settings.kafka_ca_file)
    try:
        return ssl.create_default_context(cafile=authority).wrap_socket(connection, server_hostname=host)
    except OSError:
        connection.close()
        raise


def _receive_bytes(connection: socket.socket, length: int) -> bytes:
    parts: list[bytes] = []
    while length:
        part = connection.recv(min(length, 65_536))
        if not part:
            raise ValueError("the response is truncated")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


class _ResponseReader:
    """Reads the bytes of a response sequentially."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(">" + form)
        return values

    def text(self) -> str:
        (length,) = self.take("h")
        text = self._data[self._at : self._at + max(0, length)]
        self._at += max(0, length)
        return text.decode()


def _parse_sizes(data: bytes) -> Iterable[tuple[str, int]]:
    """Yield topic and bytes of each partition in a response: correlation id, throttle time, then folders of topics."""
    response = _ResponseReader(data)
    _, _, folders = response.take("iii")
    for _ in range(folders):
        (error,) = response.take("h")
        if error:
            raise ValueError(f"Kafka error {error}")
        response.text()
        for _ in range(response.take("i")[0]):
            topic = response.text()
            for _ in range(response.take("i")[0]):
                _, held_bytes, _, _ = response.take("iqqb")
                yield topic, held_bytes
