"""A rejected record as HTML: the record on the left, the rules it violates on the right."""

import json
import re
from datetime import datetime

from markupsafe import Markup

from penstock.codec.fields import to_message_value
from penstock.dead_letters.resolutions import WAITING
from penstock.web import elements
from penstock.web.elements import facts_html, format_number, moment_html
from penstock.web.markup import html, join
from penstock.web.rejected.reader import DeadLetterDetails
from penstock.web.rejected.wording import BrokenRule

STATE_LABELS = {WAITING: "pending"}
"""Labels of the states that pages name differently from the API."""
_ICONS = {WAITING: "late", "redriven": "ok", "superseded": "idle", "discarded": "idle"}
_FIELD = re.compile(r'^  "((?:[^"\\]|\\.)*)":')
_VALUE_CHARACTERS = 200


def state_html(state: str) -> Markup:
    """Return HTML for a record's state: icon and text."""
    return elements.state_html(_ICONS.get(state, "unknown"), STATE_LABELS.get(state, state))


def details_cards_html(details: DeadLetterDetails, *, link: bool = False) -> Markup:
    """Return HTML for the record next to the reason it was rejected. `link` links its title to its own page."""
    name = f"Record {details.place}"
    title = html('<a href="/rejected/{}/{}">{}</a>', details.partition, details.offset, name) if link else "Record"
    return html(
        '<div class="beside"><section class="card"><h3>{}</h3>{}</section>'
        '<section class="card"><h3>Why it was rejected</h3>{}</section></div>',
        title,
        _record_html(details),
        _reason_html(details),
    )


def _record_html(details: DeadLetterDetails) -> Markup:
    value = details.value
    header_note = html(", after the wire-format header <code>{}</code>", value.frame) if value.frame else ""
    kinds = {"fields": "fields", "text": "text", "hex": "hex", "none": "nothing", "hidden": "hidden"}
    size = html(
        '<p class="quiet">{} bytes{}, shown as {}</p>', format_number(value.size_bytes), header_note, kinds[value.kind]
    )
    headers = facts_html(details.headers)
    key = html("<p>Key <code>{}</code></p>", details.key)
    return html(
        '{size}<pre tabindex="0">{text}</pre>{key}{headers}',
        size=size,
        text=_mark_fields(details),
        key=key,
        headers=html('<h3>Headers</h3><dl class="facts">{}</dl>', headers) if headers else "",
    )


def _mark_fields(details: DeadLetterDetails) -> Markup:
    """Return the value as HTML, with the fields that violate a rule marked."""
    if details.value.fields is None:
        return html("{}", details.value.text)
    names = {rule.field for rule in details.broken}
    lines: list[str] = []
    for line in details.value.text.split("\n"):
        match = _FIELD.match(line)
        is_broken = match is not None and match[1] in names
        lines.append(html("  <mark>{}</mark>", line[2:]) if is_broken else line)
    return join(lines, "\n")


def _reason_html(details: DeadLetterDetails) -> Markup:
    reason = html("<p><strong>{}</strong>: {}</p>", details.reason, details.meaning)
    rules = join(_rule_html(rule, details) for rule in details.broken)
    message = html('<p class="quiet">{}</p>', details.message) if details.message else ""
    return join([reason, html("<ul class=rules>{}</ul>", rules) if rules else "", message])


def _rule_html(rule: BrokenRule, details: DeadLetterDetails) -> Markup:
    fields = details.value.fields or {}
    current = (
        html(" Current value: <code>{}</code>.", _shorten_value(fields[rule.field])) if rule.field in fields else ""
    )
    demand = (
        html("<br>Expected: {}.", rule.demand) if rule.demand else html("<br>The contract no longer has this field.")
    )
    described = html(' <span class="quiet">{}</span>', rule.description) if rule.description else ""
    return html(
        "<li><code>{code}</code> <strong>{field}</strong> {wrong}.{current}{demand}{described}</li>",
        code=rule.code,
        field=rule.field or "the record",
        wrong=rule.wrong,
        current=current,
        demand=demand,
        described=described,
    )


def _shorten_value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=_to_text)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}..."


def _to_text(value: object) -> str:
    return str(value) if isinstance(value, datetime) else str(to_message_value(value))


def list_facts(details: DeadLetterDetails) -> list[tuple[str, str]]:
    """Return all other facts about the record as names and values, which are HTML or text."""
    origin: str = "rejected at the source, never in the topic"
    if details.topic_partition >= 0:
        address = elements.message_path(details.topic, details.topic_partition, details.topic_offset)
        text = f"{details.topic} {details.topic_partition}:{details.topic_offset}"
        origin = html('<a href="{}">{}</a>', address, text)
    facts: list[tuple[str, str]] = [("State", state_html(details.state))]
    if details.settled:
        facts.append(("Resolution", details.settled))
    if details.new_place:
        partition, _, offset = details.new_place.partition(":")
        address = elements.message_path(details.topic, partition, offset)
        facts.append(("Redriven to", html('<a href="{}">{}</a>', address, f"{details.topic} {details.new_place}")))
    facts += [("Rejected", moment_html(details.time)), ("Stage", details.stage), ("Original position", origin)]
    schema = elements.UNKNOWN if details.schema_id is None else format_number(details.schema_id)
    run = html('<a href="/runs/{0}">{0}</a>', details.run) if details.run else elements.UNKNOWN
    return [
        *facts,
        ("Schema id", schema),
        ("Run", run),
        ("Identity", html("<code>{}</code>", details.identity)),
        ("penstock", details.version),
    ]
