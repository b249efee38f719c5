"""Content of a message of any topic: JSON, Avro, text or bytes, with or without a header; and how much is shown."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from penstock.broker import dlq
from penstock.broker.registry import Schemas
from penstock.broker.wire_format import FRAME_BYTES, is_framed, unpack
from penstock.contract.fields import from_epoch_ms
from penstock.contract.masking import hidden_bytes, masked, shows_key
from penstock.contract.record import Record
from penstock.contract.reject import Fault
from penstock.contract.rules import MAX_VALUE_BYTES
from penstock.errors import RegistryUnreachable, SchemaUnknown
from penstock.process.decode import MALFORMED_JSON
from penstock.process.writer import AvroWriter, AvroWriters

SHOWN_BYTES = 20_000
"""Maximum size of the part of a value that is shown, as it is or as hex."""
_HEADER_CHARACTERS = 4000
_HEADERS = 100
_DEEPEST = 100


@dataclass(frozen=True)
class Content:
    """A decoded value. `kind` is null, json, avro, text or bytes.

    `value` is the decoded JSON or Avro, in JSON types; `problem` says what is wrong with a value that should be either.
    """

    kind: str
    value: Any = None
    schema_id: int | None = None
    is_framed: bool = False
    problem: str = ""


class ValueDecoder:
    """Decodes values, including those of hostile producers. Stops querying the registry once it is unavailable."""

    def __init__(self, schemas: Schemas) -> None:
        self._writers = AvroWriters(schemas)
        self._problems: dict[int, str] = {}
        self._away = ""

    def decode(self, value: bytes | None) -> Content:
        """Return the content of the value. Never raises."""
        if value is None:
            return Content("null")
        if len(value) > MAX_VALUE_BYTES:
            return _wrap_undecoded(value, problem=f"not decoded: larger than {MAX_VALUE_BYTES:,} bytes")
        return self._decode_by_schema(value) if is_framed(value) else _decode_json(value, None)

    def _decode_by_schema(self, value: bytes) -> Content:
        try:
            schema_id = unpack(value)
        except ValueError as error:
            return _wrap_undecoded(value, problem=str(error))
        if problem := self._away or self._problems.get(schema_id):
            return _wrap_undecoded(value, schema_id, problem)
        try:
            writer = self._writers.find(schema_id)
        except SchemaUnknown as error:
            self._problems[schema_id] = error.message
            return _wrap_undecoded(value, schema_id, error.message)
        except RegistryUnreachable as error:
            self._away = f"not decoded: {error.message}"
            return _wrap_undecoded(value, schema_id, self._away)
        return _decode_json(value, schema_id) if writer is None else _decode_avro(value, writer)


def _decode_json(value: bytes, schema_id: int | None) -> Content:
    framed = schema_id is not None
    try:
        decoded = msgspec.json.decode(memoryview(value)[FRAME_BYTES:] if framed else value)
    except MALFORMED_JSON as error:
        return _wrap_undecoded(value, schema_id, f"invalid JSON: {error}")
    if is_deep(decoded):
        return _wrap_undecoded(value, schema_id, f"not decoded: nested more than {_DEEPEST} levels deep")
    return Content("json", decoded, schema_id, framed)


def is_deep(value: Any) -> bool:
    """Return whether a decoded value is nested too deeply to be displayed."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for held in level if isinstance(held, dict | list) for child in _iter_children(held)]
        if not level:
            return False
    return True


def _iter_children(held: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return held.values() if isinstance(held, dict) else held


def _decode_avro(value: bytes, writer: AvroWriter) -> Content:
    record = writer.read(value[FRAME_BYTES:])
    if isinstance(record, Fault):
        # fastavro's message may quote the value
        why = f"not decoded: {record.message}" if record.rules else record.message.partition(":")[0]
        return _wrap_undecoded(value, writer.schema_id, f"invalid Avro of schema {writer.schema_id}: {why}")
    fields, left_bytes = record
    plain = msgspec.json.decode(msgspec.json.encode(fields, enc_hook=str))
    problem = "extra bytes after the record" if left_bytes else ""
    return Content("avro", plain, writer.schema_id, True, problem)


def _wrap_undecoded(value: bytes, schema_id: int | None = None, problem: str = "") -> Content:
    kind = "bytes" if decode_text(value) is None else "text"
    return Content(kind, None, schema_id, is_framed(value), problem)


def decode_text(value: bytes) -> str | None:
    """Return the value as text, or None if it is not text."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\t\r\n" for character in text[:1000]) else None


@dataclass(frozen=True)
class Header:
    """A message header. `value` is null if the header's value is null or hidden."""

    name: str
    value: str | None
    is_hidden: bool = False


@dataclass(frozen=True)
class ShownMessage:
    """A message as displayed. `value` is the decoded value, `text` the value as text if not decoded, or truncated.

    `hidden` says what is not shown, and why.
    """

    topic: str
    partition: int
    offset: int
    at: str
    """ISO 8601, UTC; empty if the message has no timestamp."""
    key: str | None
    key_is_hidden: bool
    kind: str
    schema_id: int | None
    is_framed: bool
    value: Any
    text: str | None
    hex: str | None
    value_bytes: int
    is_cut: bool
    problem: str
    hidden: str = ""
    headers: list[Header] = field(default_factory=list)


class MessageRenderer:
    """Renders messages for display. Personal data is hidden unless it was requested."""

    def __init__(self, decoder: ValueDecoder, record: type[Record], masks: bool) -> None:
        self._decoder = decoder
        self._record = record
        self.masks = masks

    def render(self, message: Message) -> ShownMessage:
        """Return the message as it is shown."""
        raw: bytes | None = message.value()
        content = self._decoder.decode(raw)
        value, text, is_cut, hidden = self._render_body(raw or b"", content)
        key, key_is_hidden = self._render_key(message.key())
        return ShownMessage(
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            at=format_timestamp(message),
            key=key,
            key_is_hidden=key_is_hidden,
            kind=content.kind,
            schema_id=content.schema_id,
            is_framed=content.is_framed,
            value=value,
            text=text,
            hex=None if raw is None or self.masks else raw[:SHOWN_BYTES].hex(),
            value_bytes=len(raw or b""),
            is_cut=is_cut,
            problem=content.problem,
            hidden=hidden,
            headers=[self._render_header(name, value) for name, value in (message.headers() or [])[:_HEADERS]],
        )

    def get_searchable(self, message: Message) -> tuple[str, Any]:
        """Return what is shown of a message, for searching: its key, empty if hidden, and its decoded value."""
        key, _ = self._render_key(message.key())
        return key or "", self._mask_value(self._decoder.decode(message.value()).value)

    def _mask_value(self, value: Any) -> Any:
        return masked(value, self._record) if self.masks else value

    def _render_body(self, raw: bytes, content: Content) -> tuple[Any, str | None, bool, str]:
        """Return decoded value, text, whether it is cut, and what is hidden."""
        if content.kind in {"json", "avro"}:
            value = self._mask_value(content.value)
            shown = json.dumps(value, ensure_ascii=False)
            is_cut = len(shown) > SHOWN_BYTES
            return (None, shown[:SHOWN_BYTES], True, "") if is_cut else (value, None, False, "")
        if content.kind == "null":
            return None, None, False, ""
        if self.masks:
            return None, None, False, hidden_bytes(len(raw))
        return None, raw[:SHOWN_BYTES].decode(errors="replace"), len(raw) > SHOWN_BYTES, ""

    def _render_key(self, key: bytes | None) -> tuple[str | None, bool]:
        if key is None:
            return None, False
        if self.masks and not shows_key(key, self._record):
            return None, True
        return format_key(key), False

    def _render_header(self, name: str, value: Any) -> Header:
        if self.masks and name not in dlq.HARMLESS:
            return Header(name, None, value is not None)
        text = value if isinstance(value, str) or value is None else format_key(value)
        return Header(name, None if text is None else text[:_HEADER_CHARACTERS])


def format_timestamp(message: Message) -> str:
    """Return when the message was sent, as ISO 8601 in UTC; empty if it has no valid timestamp."""
    kind, moment_ms = message.timestamp()
    if kind == TIMESTAMP_NOT_AVAILABLE:
        return ""
    try:
        return from_epoch_ms(moment_ms).isoformat(timespec="milliseconds")
    except OverflowError:
        return ""


def format_key(key: bytes) -> str:
    """Return a key as text, or in hex if it is not text."""
    text = decode_text(key[:_HEADER_CHARACTERS])
    return f"0x{key[:_HEADER_CHARACTERS].hex()}" if text is None else text
