"""Find the row that a tombstone deletes: the id in its Kafka key.

The decision is a pure function of the key's bytes, the schema that a wire-format header names, and the format that the
pipeline declares, or else what is proven at the tombstone's position (`contract.proofs`). So the job, `verify` and
`trace` decide alike, at every replay and after every restart.
"""

from contextlib import suppress
from typing import Any

from penstock.codec.avro import AvroReader, AvroReaders
from penstock.codec.wire_format import HEADER_BYTES, is_framed
from penstock.contract.fault import Fault, Reason
from penstock.contract.json_text import parse_json
from penstock.contract.keys import TEXT_FORMATS, IdReader, KeyFormat, is_structured
from penstock.contract.proofs import KeyShape, Proven
from penstock.contract.record import Record

_NO_ID = "the value is null, and the key is no id whose row to delete"
_AMBIGUOUS = (
    "the value is null, and no record before it shows that a key like this is the id of a row: set key_format in the "
    "pipeline's file to the format of the topic's keys, then redrive"
)


class KeyReader:
    """Reads the keys of one topic, in the `declared` format or in those that are proven."""

    def __init__(self, record: type[Record], readers: AvroReaders, declared: KeyFormat | None) -> None:
        self._ids = IdReader(record)
        self._readers = readers
        self._declared = declared

    def read(self, key: bytes, proven: Proven) -> Any | Fault:
        """Return the id in a key, or why it does not say which row to delete. Raises `RegistryUnreachable`."""
        try:
            if self._declared is None and proven is not None:
                return self._read_proven(key, proven)
            key_format = self._declared or self._only_format(key)
            return Fault(Reason.KEY_AMBIGUOUS, _AMBIGUOUS) if key_format is None else self._read_id(key, key_format)
        except ValueError as error:
            return Fault(Reason.VALUE_MISSING, f"{_NO_ID}: {error}")

    @property
    def is_declared(self) -> bool:
        """Return whether the pipeline declares the format, so that nothing has to be proven."""
        return self._declared is not None

    def readings(self, key: bytes) -> dict[KeyShape, Any]:
        """Return the id in a key by each shape that the key can have, at least one.

        Raises `ValueError` if it is not an id, `RegistryUnreachable`.
        """
        if is_framed(key):  # texts of a record never contain NUL
            return {"registry": self._ids.of_value(self._framed_value(key))}
        text = key.decode()
        if not is_structured(text):
            return {"text": self._ids.of_text(text)}
        readings: dict[KeyShape, Any] = {}
        with suppress(ValueError):
            readings["odd_text"] = self._ids.of_text(text)
        try:
            value = parse_json(text)
            readings[self._detect_shape(value)] = self._ids.of_payload(value)
        except ValueError:
            if not readings:
                raise
        return readings

    def _detect_shape(self, value: Any) -> KeyShape:
        if self._ids.is_wrapped(value):
            return "connect"
        return "json_object" if isinstance(value, dict) else "json_text"

    def _read_proven(self, key: bytes, proven: frozenset[KeyShape]) -> Any | Fault:
        ids = {record_id for shape, record_id in self.readings(key).items() if shape in proven}
        return ids.pop() if len(ids) == 1 else Fault(Reason.KEY_AMBIGUOUS, _AMBIGUOUS)

    def _only_format(self, key: bytes) -> KeyFormat | None:
        """Return the only format that a key can have; None if it is a text id that looks like another format."""
        if is_framed(key):  # texts of a record never contain NUL
            return "registry"
        text = key.decode()
        if not is_structured(text):
            return "text"
        return None if self._ids.is_text_id(text) else "connect"

    def _read_id(self, key: bytes, key_format: KeyFormat) -> Any:
        if key_format == "registry":
            return self._ids.of_value(self._framed_value(key))
        return TEXT_FORMATS[key_format](self._ids, key.decode())

    def _framed_value(self, key: bytes) -> Any:
        if not is_framed(key):
            raise ValueError("it has no schema-registry header")
        schema = self._readers.find_for(key)
        if isinstance(schema, Fault):
            raise ValueError(schema.message)  # noqa: TRY004  a value error
        _, reader = schema
        body = key[HEADER_BYTES:]
        return parse_json(body.decode()) if reader is None else _avro_value(body, reader)


def _avro_value(body: bytes, reader: AvroReader) -> Any:
    result = reader.read(body)
    if isinstance(result, Fault):
        raise ValueError(f"invalid Avro of that schema: {result.message}")  # noqa: TRY004  a value error
    value, left_bytes = result
    if left_bytes:
        raise ValueError("extra bytes after the Avro value")
    return value
