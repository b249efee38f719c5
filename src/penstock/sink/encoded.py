"""Batches of pre-encoded statements, which spare cassandra-driver the encoding of every value of every row.

`Session.client_protocol_handler` is the driver's hook for custom message encoding.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchStatement, BatchType


def head_of(query_id: bytes, values: int) -> bytes:
    """Return the header of a prepared statement in a batch, up to its values (native protocol v5, section 4.1.7)."""
    return b"\x01" + len(query_id).to_bytes(2, "big") + query_id + values.to_bytes(2, "big")


class EncodedBatch(BatchStatement):  # type: ignore[misc]  # the driver has no types
    """An unlogged batch of statements, each a header and values already encoded for the message.

    Only a session whose `client_protocol_handler` is `EncodedBatches` can send it.
    """

    def __init__(self, statements: Iterable[bytes], keyspace: str, routing_key: bytes) -> None:
        super().__init__(BatchType.UNLOGGED)
        self.keyspace, self.routing_key = keyspace, routing_key
        for statement in statements:
            self._add_statement_and_params(True, statement, ())


class EncodedBatches(ProtocolHandler):  # type: ignore[misc]
    """Copies the statements of an `EncodedBatch` into the message unchanged."""

    @classmethod
    def encode_message(cls, msg: Any, *arguments: Any, **named: Any) -> bytes:
        """Encode a message of the driver. The parameters have the driver's names."""
        message = _Message(msg) if isinstance(msg, BatchMessage) else msg
        encoded: bytes = super().encode_message(message, *arguments, **named)
        return encoded


class _Message(BatchMessage):  # type: ignore[misc]
    """A batch message of the driver with pre-encoded statements between its head and its end."""

    def __init__(self, message: BatchMessage) -> None:
        self.__dict__.update(message.__dict__)
        self._statements = [statement for _, statement, _ in message.queries]
        self.queries: list[Any] = []

    def send_body(self, f: BytesIO, protocol_version: int) -> None:
        """Write the body. The parameter has the driver's name."""
        around = BytesIO()
        super().send_body(around, protocol_version)
        kind, end = around.getvalue()[:1], around.getvalue()[3:]
        f.write(b"".join((kind, len(self._statements).to_bytes(2, "big"), *self._statements, end)))
