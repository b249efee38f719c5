"""A rejected record as HTML: the record on the left, the rules it violates on the right."""

import json
import re
from datetime import datetime
from html import escape

from penstock.codec.fields import to_message_value
from penstock.dead_letters.resolutions import WAITING
from penstock.web import elements
from penstock.web.elements import format_number, moment_html
from penstock.web.rejected.reader import DeadLetterDetails
from penstock.web.rejected.wording import BrokenRule

STATE_LABELS = {WAITING: "pending"}
"""Labels of the states that pages name differently from the API."""
_ICONS = {WAITING: "late", "redriven": "ok", "superseded": "idle", "discarded": "idle"}
_FIELD = re.compile(r'^  "((?:[^"\\]|\\.)*)":')
_VALUE_CHARACTERS = 200


def state_html(state: str) -> str:
    """Return HTML for a record's state: icon and text."""
    return elements.state_html(_ICONS.get(state, "unknown"), STATE_LABELS.get(state, state))


def details_cards_html(account: DeadLetterDetails, *, link: bool = False) -> str:
    """Return HTML for the record next to the reason it was rejected. `link` links its title to its own page."""
    name = f"Record {account.place}"
    title = f'<a href="/rejected/{account.partition}/{account.offset}">{name}</a>' if link else "Record"
    return (
        f'<div class="beside"><section class="card"><h3>{title}</h3>{_record_html(account)}</section>'
        f'<section class="card"><h3>Why it was rejected</h3>{_reason_html(account)}</section></div>'
    )


def _record_html(account: DeadLetterDetails) -> str:
    value = account.value
    header_note = f", after the wire-format header <code>{escape(value.frame)}</code>" if value.frame else ""
    kinds = {"fields": "fields", "text": "text", "hex": "hex", "none": "nothing", "hidden": "hidden"}
    size = f'<p class="quiet">{format_number(value.size_bytes)} bytes{header_note}, shown as {kinds[value.kind]}</p>'
    headers = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in account.headers)
    headers_html = f'<h3>Headers</h3><dl class="facts">{headers}</dl>' if headers else ""
    key = f"<p>Key <code>{escape(account.key)}</code></p>"
    return f'{size}<pre tabindex="0">{_mark_fields(account)}</pre>{key}{headers_html}'


def _mark_fields(account: DeadLetterDetails) -> str:
    """Return the value as HTML, with the fields that violate a rule marked."""
    if account.value.fields is None:
        return escape(account.value.text)
    names = {rule.field for rule in account.broken}
    lines = []
    for line in account.value.text.split("\n"):
        match = _FIELD.match(line)
        is_broken = match is not None and match[1] in names
        lines.append(f"  <mark>{escape(line[2:])}</mark>" if is_broken else escape(line))
    return "\n".join(lines)


def _reason_html(account: DeadLetterDetails) -> str:
    reason = f"<p><strong>{escape(account.reason)}</strong>: {escape(account.meaning)}</p>"
    rules = "".join(_rule_html(rule, account) for rule in account.broken)
    message = f'<p class="quiet">{escape(account.message)}</p>' if account.message else ""
    return f"{reason}{f'<ul class=rules>{rules}</ul>' if rules else ''}{message}"


def _rule_html(rule: BrokenRule, account: DeadLetterDetails) -> str:
    fields = account.value.fields or {}
    current = (
        f" Current value: <code>{escape(_shorten_value(fields[rule.field]))}</code>." if rule.field in fields else ""
    )
    demand = f"<br>Expected: {escape(rule.demand)}." if rule.demand else "<br>The contract no longer has this field."
    described = f' <span class="quiet">{escape(rule.description)}</span>' if rule.description else ""
    return (
        f"<li><code>{escape(rule.code)}</code> <strong>{escape(rule.field or 'the record')}</strong> "
        f"{escape(rule.wrong)}.{current}{demand}{described}</li>"
    )


def _shorten_value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=_to_text)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}..."


def _to_text(value: object) -> str:
    return str(value) if isinstance(value, datetime) else str(to_message_value(value))


def list_facts(account: DeadLetterDetails) -> list[tuple[str, str]]:
    """Return all other facts about the record as names and values. Values are HTML, already escaped."""
    origin = "rejected at the source, never in the topic"
    if account.topic_partition >= 0:
        address = elements.message_path(account.topic, account.topic_partition, account.topic_offset)
        text = f"{account.topic} {account.topic_partition}:{account.topic_offset}"
        origin = f'<a href="{escape(address)}">{escape(text)}</a>'
    facts = [("State", state_html(account.state))]
    if account.settled:
        facts.append(("Resolution", escape(account.settled)))
    if account.new_place:
        partition, _, offset = account.new_place.partition(":")
        address = elements.message_path(account.topic, partition, offset)
        facts.append(
            ("Redriven to", f'<a href="{escape(address)}">{escape(f"{account.topic} {account.new_place}")}</a>')
        )
    facts += [("Rejected", moment_html(account.time)), ("Stage", escape(account.stage)), ("Original position", origin)]
    schema = elements.UNKNOWN if account.schema_id is None else format_number(account.schema_id)
    run = f'<a href="/runs/{escape(account.run)}">{escape(account.run)}</a>' if account.run else elements.UNKNOWN
    return [
        *facts,
        ("Schema id", schema),
        ("Run", run),
        ("Identity", f"<code>{escape(account.identity)}</code>"),
        ("penstock", escape(account.version)),
    ]
