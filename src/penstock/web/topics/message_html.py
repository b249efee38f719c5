"""Shared parts of the topic pages: a refreshed section, and messages as HTML."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup
from nicegui import ui

from penstock.contract.masking import hidden_bytes
from penstock.errors import PenstockError
from penstock.web import elements
from penstock.web.elements import UNKNOWN, format_number, format_size, moment_html
from penstock.web.markup import NOTHING, html
from penstock.web.page_layout import PageContext
from penstock.web.topics.content import SHOWN_BYTES, ShownMessage
from penstock.web.topics.inventory import TopicInfo

_PREVIEW_CHARACTERS = 160
_BODY_CHARACTERS = 4000
_HEX_ROW_BYTES = 16
ROLES = {
    "pipeline": "pipeline topic",
    "rejected": "dead letters",
    "registry": "internal to the schema registry",
    "Kafka": "internal to Kafka",
    "": "",
}


class Part:
    """A section of HTML that is refreshed repeatedly. While that fails, the error is shown instead."""

    def __init__(self, visit: PageContext, classes: str = "", label: str = "") -> None:
        self._visit = visit
        self._trouble = ui.element("div")
        self._html = elements.add_html("", tag="div").classes(classes)
        if label:
            self._html.props("tabindex=0 role=region").props["aria-label"] = label
        self._error_text = ""

    async def refresh(self, ask: Callable[[], Any], show: Callable[[Any], Markup]) -> Any:
        """Load with `ask`, show the result and return it. On a `PenstockError`, show that and return None."""
        try:
            result = await self._visit.ask(ask)
        except PenstockError as error:
            self._show_error(error)
            return None
        self._show_error(None)
        elements.update_html(self._html, show(result))
        return result

    def _show_error(self, error: PenstockError | None) -> None:
        text = "" if error is None else str(error)
        if text == self._error_text:
            return
        self._error_text = text
        self._trouble.clear()
        self._html.set_visibility(error is None)
        if error is not None:
            with self._trouble:
                elements.add_error(error)


def format_retention(topic: TopicInfo) -> str:
    """Describe the topic's retention."""
    if "delete" not in topic.cleanup:
        return "compacted" if topic.cleanup else UNKNOWN
    duration = "unlimited" if topic.retention_ms == -1 else elements.format_duration(topic.retention_ms)
    max_bytes = topic.retention_bytes
    return duration if max_bytes is None or max_bytes < 0 else f"{duration}, {format_size(max_bytes)} per partition"


def messages_path(topic: str, **query: Any) -> str:
    """Return the path of a topic's messages with these query parameters; empty ones are left out."""
    parameters = {name: value for name, value in query.items() if value not in ("", None)}
    return f"/topics/{topic}" + (f"?{urlencode(parameters)}" if parameters else "")


def message_page_path(seen: ShownMessage) -> str:
    """Return the path of a message's page."""
    return elements.message_path(seen.topic, seen.partition, seen.offset)


def row_html(seen: ShownMessage) -> Markup:
    """Return HTML for a message in a list: one line that expands."""
    position = f"{seen.partition}:{seen.offset}"
    return html(
        '<li class="message" id="m-{partition}-{offset}">'
        '<a class="mono" href="{address}" title="partition:offset">{position}</a>'
        "<details><summary>{at} <code>{key}</code> "
        '<span class="preview">{preview}</span></summary>'
        "{facts}{body}{headers}</details></li>",
        partition=seen.partition,
        offset=seen.offset,
        address=message_page_path(seen),
        position=position,
        at=moment_html(seen.at),
        key=_describe_key(seen),
        preview=_preview_value(seen),
        facts=_facts_html(seen),
        body=_body_html(seen, _BODY_CHARACTERS),
        headers=headers_html(seen),
    )


def _describe_key(seen: ShownMessage) -> str:
    if seen.key_is_hidden:
        return "key hidden"
    return "no key" if seen.key is None else seen.key[:80]


def _preview_value(seen: ShownMessage) -> str:
    if not seen.value_bytes:
        return "null" if seen.kind == "null" else "empty"
    text = seen.hidden or (seen.text if seen.text is not None else json.dumps(seen.value, ensure_ascii=False))
    return text[:_PREVIEW_CHARACTERS] + ("…" if len(text) > _PREVIEW_CHARACTERS else "")


def describe_encoding(seen: ShownMessage) -> str:
    """Describe the encoding of the value."""
    encoding = {"null": "null", "json": "JSON", "avro": "Avro", "text": "text", "bytes": "bytes"}[seen.kind]
    if seen.schema_id is None:
        return encoding if seen.kind in {"null", "text", "bytes"} else f"{encoding}, without header"
    return f"{encoding}, schema {seen.schema_id}"


def _facts_html(seen: ShownMessage) -> Markup:
    problem = html(' <span class="warn">{}</span>', seen.problem) if seen.problem else ""
    return html(
        '<p class="quiet">{}, {} bytes{}</p>', describe_encoding(seen), format_number(seen.value_bytes), problem
    )


def _body_html(seen: ShownMessage, most: int) -> Markup:
    text = format_body(seen)
    cut = len(text) > most or seen.is_cut
    more = (
        html('<p class="quiet">Truncated: <a href="{}">show the whole message</a></p>', message_page_path(seen))
        if cut
        else ""
    )
    return html("<pre>{}</pre>{}", text[:most], more)


def format_body(seen: ShownMessage) -> str:
    """Return the value as readable text."""
    if seen.hidden:
        return seen.hidden
    if seen.text is not None:
        return seen.text
    return json.dumps(seen.value, indent=2, ensure_ascii=False)


def headers_html(seen: ShownMessage) -> Markup:
    """Return HTML for the message's headers; empty if it has none."""
    if not seen.headers:
        return NOTHING
    rows = [
        (
            html("<code>{}</code>", header.name),
            html('<span class="quiet">hidden</span>')
            if header.is_hidden
            else "null"
            if header.value is None
            else header.value,
        )
        for header in seen.headers
    ]
    return html('<div class="table">{}</div>', elements.table_html("Headers", ("name", "value"), rows))


def format_hex(seen: ShownMessage) -> str:
    """Return a hex dump of the value: 16 bytes per line, with offset, hex and ASCII."""
    if seen.hex is None:
        return "" if seen.kind == "null" else hidden_bytes(seen.value_bytes)
    raw = bytes.fromhex(seen.hex)
    lines = [_hex_line(offset, raw[offset : offset + _HEX_ROW_BYTES]) for offset in range(0, len(raw), _HEX_ROW_BYTES)]
    if seen.value_bytes > SHOWN_BYTES:
        lines.append(f"... the first {SHOWN_BYTES:,} of {seen.value_bytes:,} bytes")
    return "\n".join(lines)


def _hex_line(offset: int, chunk: bytes) -> str:
    ascii_ = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in chunk)
    return f"{offset:06x}  {chunk.hex(' '):<{_HEX_ROW_BYTES * 3 - 1}}  {ascii_}"
