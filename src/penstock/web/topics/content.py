"""A message of any topic as it is shown: its value decoded if possible, and how much of it is visible."""

import json
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from penstock.codec.values import Content, ContentReader, decode_text
from penstock.contract.fields import from_epoch_ms
from penstock.contract.identity import identity_of
from penstock.contract.masking import hidden_bytes, mask_personal, shows_key
from penstock.contract.record import Record
from penstock.dead_letters.message import HARMLESS_HEADERS

SHOWN_BYTES = 20_000
"""Maximum size of the part of a value that is shown, as it is or as hex."""
_HEADER_CHARACTERS = 4000
_HEADERS = 100


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

    def __init__(self, reader: ContentReader, record: type[Record], masks: bool) -> None:
        self._reader = reader
        self._record = record
        self._identity = identity_of(record)
        self.masks = masks

    def render(self, message: Message) -> ShownMessage:
        """Return the message as it is shown."""
        raw: bytes | None = message.value()
        content = self._reader.read(raw)
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
        return key or "", self._mask_value(self._reader.read(message.value()).value)

    def normalize_key(self, text: str) -> str:
        """Return the key that the producer writes for a typed id; any other text as it is."""
        return self._identity.normalize_text(text)

    def _mask_value(self, value: Any) -> Any:
        return mask_personal(value, self._record) if self.masks else value

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
        if self.masks and name not in HARMLESS_HEADERS:
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
