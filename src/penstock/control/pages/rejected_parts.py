"""One rejected record as it is shown: the record on the left, the rules that it breaks on the right."""

import json
import re
from html import escape

from penstock.contract.wording import BrokenRule
from penstock.control import elements
from penstock.control.elements import moment_html, number
from penstock.observe.rejected import Account
from penstock.sink.settled import WAITING

_ICONS = {WAITING: "late", "redriven": "ok", "discarded": "idle"}
_FIELD = re.compile(r'^  "((?:[^"\\]|\\.)*)":')
_VALUE_CHARACTERS = 200


def state_html(state: str) -> str:
    """What became of a record: icon and word."""
    return elements.state_html(_ICONS.get(state, "unknown"), state)


def account_cards(told: Account, *, link: bool = False) -> str:
    """The record beside what is wrong with it; with a `link` to its own page."""
    name = f"Record {told.place}"
    title = f'<a href="/rejected/{told.partition}/{told.offset}">{name}</a>' if link else "The record"
    return (
        f'<div class="beside"><section class="card"><h3>{title}</h3>{_record(told)}</section>'
        f'<section class="card"><h3>Why it was rejected</h3>{_why(told)}</section></div>'
    )


def _record(told: Account) -> str:
    value = told.value
    frame = f", after the frame <code>{escape(value.frame)}</code>" if value.frame else ""
    kinds = {"fields": "its fields", "text": "text", "hex": "bytes in hex", "none": "nothing", "hidden": "hidden"}
    size = f'<p class="quiet">{number(value.size_bytes)} bytes{frame}, shown as {kinds[value.kind]}</p>'
    headers = "".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in told.headers)
    shown = f'<h3>Headers</h3><dl class="facts">{headers}</dl>' if headers else ""
    return f'{size}<pre tabindex="0">{_marked(told)}</pre><p>Key <code>{escape(told.key)}</code></p>{shown}'


def _marked(told: Account) -> str:
    """The value, with the fields marked that break a rule."""
    if told.value.fields is None:
        return escape(told.value.text)
    names = {one.field for one in told.broken}
    lines = []
    for line in told.value.text.split("\n"):
        found = _FIELD.match(line)
        is_broken = found is not None and found[1] in names
        lines.append(f"  <mark>{escape(line[2:])}</mark>" if is_broken else escape(line))
    return "\n".join(lines)


def _why(told: Account) -> str:
    reason = f"<p><strong>{escape(told.reason)}</strong>: {escape(told.meaning)}</p>"
    rules = "".join(_rule(one, told) for one in told.broken)
    message = f'<p class="quiet">{escape(told.message)}</p>' if told.message else ""
    return f"{reason}{f'<ul class=rules>{rules}</ul>' if rules else ''}{message}"


def _rule(one: BrokenRule, told: Account) -> str:
    fields = told.value.fields or {}
    has = f" It is <code>{escape(_value(fields[one.field]))}</code>." if one.field in fields else ""
    demand = f"<br>The contract: {escape(one.demand)}." if one.demand else "<br>The contract has no such field now."
    described = f' <span class="quiet">{escape(one.description)}</span>' if one.description else ""
    return (
        f"<li><code>{escape(one.code)}</code> <strong>{escape(one.field or 'the record')}</strong> "
        f"{escape(one.wrong)}.{has}{demand}{described}</li>"
    )


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}..."


def where_facts(told: Account) -> list[tuple[str, str]]:
    """Names and values of all that is known beside content and rules; values are HTML."""
    lay = "the producer refused it: it never lay in the topic"
    if told.topic_partition >= 0:
        address = elements.message_address(told.topic, told.topic_partition, told.topic_offset)
        text = f"{told.topic} {told.topic_partition}:{told.topic_offset}"
        lay = f'<a href="{escape(address)}">{escape(text)}</a>'
    found = [("State", state_html(told.state))]
    if told.settled:
        found.append(("What became of it", escape(told.settled)))
    if told.new_place:
        partition, _, offset = told.new_place.partition(":")
        address = elements.message_address(told.topic, partition, offset)
        found.append(("Sent to", f'<a href="{escape(address)}">{escape(f"{told.topic} {told.new_place}")}</a>'))
    found += [("Rejected", moment_html(told.time)), ("Stage", escape(told.stage)), ("It lay in", lay)]
    schema = elements.UNKNOWN if told.schema_id is None else number(told.schema_id)
    run = f'<a href="/runs/{escape(told.run)}">{escape(told.run)}</a>' if told.run else elements.UNKNOWN
    return [
        *found,
        ("Schema id", schema),
        ("Run", run),
        ("Identity", f"<code>{escape(told.identity)}</code>"),
        ("penstock", escape(told.version)),
    ]
