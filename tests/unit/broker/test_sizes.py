"""Bytes per topic, as reported by a broker in memory."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from penstock.broker.sizes import fetch_sizes
from penstock.config import read


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def part(partition: int, held_bytes: int) -> bytes:
    return struct.pack(">iqqb", partition, held_bytes, 0, 0)


FOLDER = struct.pack(">h", 0) + text("/data") + struct.pack(">i", 2)
TOPICS = text("a") + struct.pack(">i", 2) + part(0, 10) + part(1, 5) + text("b") + struct.pack(">i", 1) + part(0, 7)
WHOLE = struct.pack(">iii", 1, 0, 1) + FOLDER + TOPICS
REFUSED = struct.pack(">iii", 1, 0, 1) + struct.pack(">h", 31) + text("") + struct.pack(">i", 0)


@pytest.fixture
def broker() -> Iterator:
    """Start a broker that sends each response once."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def start(*answers: bytes) -> tuple[str, int]:
        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    (length,) = struct.unpack(">i", connection.recv(4))
                    assert struct.unpack(">hh", connection.recv(length)[:4]) == (35, 1)
                    connection.sendall(answer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return listener.getsockname()[:2]

    yield start
    for thread in threads:
        thread.join(10)
    listener.close()


def add_length(answer: bytes) -> bytes:
    return struct.pack(">i", len(answer)) + answer


def test_sizes_are_summed_over_partitions_and_brokers(broker):
    """Every replica counts."""
    place = broker(add_length(WHOLE), add_length(WHOLE))
    assert fetch_sizes(read(home="unused"), [place, place]) == {"a": 30, "b": 14}


@pytest.mark.parametrize(
    "answer", [b"", add_length(WHOLE)[:-3], add_length(WHOLE[:-3]), add_length(REFUSED), b"\x7f\xff\xff\xff"]
)
def test_an_invalid_response_leaves_the_size_unknown(broker, answer):
    """Truncated, rejected, or longer than any valid one."""
    assert fetch_sizes(read(home="unused"), [broker(answer)]) is None


def test_an_unreachable_broker_leaves_the_size_unknown(free_port):
    """One that is unavailable, and one that requires SASL."""
    assert fetch_sizes(read(home="unused"), [("127.0.0.1", free_port)]) is None
    sasl = read(home="unused", kafka_security_protocol="SASL_PLAINTEXT", kafka_username="u", kafka_password="p")
    assert fetch_sizes(sasl, [("127.0.0.1", free_port)]) is None
