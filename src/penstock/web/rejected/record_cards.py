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


def details_cards_html(account: DeadLetterDetails, *, link: bool = False) -> Markup:
    """Return HTML for the record next to the reason it was rejected. `link` links its title to its own page."""
    name = f"Record {account.place}"
    title = html('<a href="/rejected/{}/{}">{}</a>', account.partition, account.offset, name) if link else "Record"
    return html(
        '<div class="beside"><section class="card"><h3>{}</h3>{}</section>'
        '<section class="card"><h3>Why it was rejected</h3>{}</section></div>',
        title,
        _record_html(account),
        _reason_html(account),
    )


def _record_html(account: DeadLetterDetails) -> Markup:
    value = account.value
    header_note = html(", after the wire-format header <code>{}</code>", value.frame) if value.frame else ""
    kinds = {"fields": "fields", "text": "text", "hex": "hex", "none": "nothing", "hidden": "hidden"}
    size = html(
        '<p class="quiet">{} bytes{}, shown as {}</p>', format_number(value.size_bytes), header_note, kinds[value.kind]
    )
    headers = facts_html(account.headers)
    key = html("<p>Key <code>{}</code></p>", account.key)
    return html(
        '{size}<pre tabindex="0">{text}</pre>{key}{headers}',
        size=size,
        text=_mark_fields(account),
        key=key,
        headers=html('<h3>Headers</h3><dl class="facts">{}</dl>', headers) if headers else "",
    )


def _mark_fields(account: DeadLetterDetails) -> Markup:
    """Return the value as HTML, with the fields that violate a rule marked."""
    if account.value.fields is None:
        return html("{}", account.value.text)
    names = {rule.field for rule in account.broken}
    lines: list[str] = []
    for line in account.value.text.split("\n"):
        match = _FIELD.match(line)
        is_broken = match is not None and match[1] in names
        lines.append(html("  <mark>{}</mark>", line[2:]) if is_broken else line)
    return join(lines, "\n")


def _reason_html(account: DeadLetterDetails) -> Markup:
    reason = html("<p><strong>{}</strong>: {}</p>", account.reason, account.meaning)
    rules = join(_rule_html(rule, account) for rule in account.broken)
    message = html('<p class="quiet">{}</p>', account.message) if account.message else ""
    return join([reason, html("<ul class=rules>{}</ul>", rules) if rules else "", message])


def _rule_html(rule: BrokenRule, account: DeadLetterDetails) -> Markup:
    fields = account.value.fields or {}
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


def list_facts(account: DeadLetterDetails) -> list[tuple[str, str]]:
    """Return all other facts about the record as names and values, which are HTML or text."""
    origin: str = "rejected at the source, never in the topic"
    if account.topic_partition >= 0:
        address = elements.message_path(account.topic, account.topic_partition, account.topic_offset)
        text = f"{account.topic} {account.topic_partition}:{account.topic_offset}"
        origin = html('<a href="{}">{}</a>', address, text)
    facts: list[tuple[str, str]] = [("State", state_html(account.state))]
    if account.settled:
        facts.append(("Resolution", account.settled))
    if account.new_place:
        partition, _, offset = account.new_place.partition(":")
        address = elements.message_path(account.topic, partition, offset)
        facts.append(("Redriven to", html('<a href="{}">{}</a>', address, f"{account.topic} {account.new_place}")))
    facts += [("Rejected", moment_html(account.time)), ("Stage", account.stage), ("Original position", origin)]
    schema = elements.UNKNOWN if account.schema_id is None else format_number(account.schema_id)
    run = html('<a href="/runs/{0}">{0}</a>', account.run) if account.run else elements.UNKNOWN
    return [
        *facts,
        ("Schema id", schema),
        ("Run", run),
        ("Identity", html("<code>{}</code>", account.identity)),
        ("penstock", account.version),
    ]
