"""Batches whose statements are bytes already, so that cassandra-driver need not look at each value of each row.

`Session.client_protocol_handler` is where the driver lets its messages be written otherwise.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchStatement, BatchType


def head_of(query_id: bytes, values: int) -> bytes:
    """What stands before the values of a prepared statement in a batch (native protocol v5, section 4.1.7)."""
    return b"\x01" + len(query_id).to_bytes(2, "big") + query_id + values.to_bytes(2, "big")


class EncodedBatch(BatchStatement):  # type: ignore[misc]  # the driver has no types
    """An unlogged batch of statements, each of them its head and its values as they stand in the message.

    Only a session whose `client_protocol_handler` is `EncodedBatches` can send it.
    """

    def __init__(self, statements: Iterable[bytes], keyspace: str, routing_key: bytes) -> None:
        super().__init__(BatchType.UNLOGGED)
        self.keyspace, self.routing_key = keyspace, routing_key
        for statement in statements:
            self._add_statement_and_params(True, statement, ())


class EncodedBatches(ProtocolHandler):  # type: ignore[misc]
    """Writes the statements of an `EncodedBatch` into the message as they are."""

    @classmethod
    def encode_message(cls, msg: Any, *arguments: Any, **named: Any) -> bytes:
        """The bytes of a message of the driver's; its names for the parameters."""
        message = _Message(msg) if isinstance(msg, BatchMessage) else msg
        encoded: bytes = super().encode_message(message, *arguments, **named)
        return encoded


class _Message(BatchMessage):  # type: ignore[misc]
    """A batch's message: the driver's own but for the statements between its head and its end."""

    def __init__(self, message: BatchMessage) -> None:
        self.__dict__.update(message.__dict__)
        self._statements = [statement for _, statement, _ in message.queries]
        self.queries: list[Any] = []

    def send_body(self, f: BytesIO, protocol_version: int) -> None:
        """Write the body; the driver's name for the parameter."""
        around = BytesIO()
        super().send_body(around, protocol_version)
        kind, end = around.getvalue()[:1], around.getvalue()[3:]
        f.write(b"".join((kind, len(self._statements).to_bytes(2, "big"), *self._statements, end)))
