"""The messages of a topic: found, tailed, and one on its own."""

import json
from datetime import datetime
from html import escape
from typing import Any, get_args

from nicegui import ui

from penstock.broker.topics import Span
from penstock.contract.fields import fields
from penstock.control import elements
from penstock.control.desk import Desk
from penstock.control.elements import moment_html, number, size
from penstock.control.frame import REFRESH_S, Visit, page
from penstock.control.pages.topics_parts import (
    ROLES,
    Part,
    address,
    body_of,
    headers_html,
    hex_of,
    kind_of,
    retention,
    row_html,
)
from penstock.errors import PenstockError, WrongUse
from penstock.observe.browse import Browser, Found, Question, Search, Start
from penstock.observe.content import Looker, Reader, Seen
from penstock.observe.inventory import Inventory, Topic

_STARTS = {"newest": "the newest", "offset": "an offset", "time": "a time"}
_TAIL_S = 1.0
_TAIL_RECORDS = 100
_TAIL_KEPT = 500


def register(desk: Desk, inventory: Inventory) -> None:
    """Serve the pages."""

    @page(desk, "/topics/{name}", "Messages")
    async def messages(visit: Visit) -> None:
        name = visit.path["name"]
        topic = await visit.ask(inventory.topic, name)
        bar(topic, "messages")
        _Held(visit, inventory, name)
        question = question_of(visit.query)
        looker = _looker(visit)
        _Form(name, question, [field.name for field in fields(desk.pipeline.record)])
        _Tail(visit, name, question, looker)
        await _listed(visit, name, question, looker)

    @page(desk, "/topics/{name}/messages/{partition}/{offset}", "Message")
    async def message(visit: Visit) -> None:
        name, partition, offset = visit.path["name"], _whole(visit.path, "partition"), _whole(visit.path, "offset")
        bar(await visit.ask(inventory.topic, name), "message")
        browser, looker = Browser(desk.kafka, desk.settings, name), _looker(visit)
        found = await visit.ask(browser.at, partition or 0, offset or 0, looker)
        if found is None:
            spans = await visit.ask(browser.spans)
            _nothing_at(name, f"{partition}:{offset}", spans)
        else:
            _message(found)


def bar(topic: Topic, here: str) -> None:
    """The topic's name, what it is, and the way to what can be done with it."""
    pages = {"messages": f"/topics/{topic.name}"}
    if not topic.is_internal:
        pages |= {"produce": f"/topics/{topic.name}/produce"}
    pages |= {"settings": f"/topics/{topic.name}/settings"}
    links = "".join(
        f'<a href="{to}"{" aria-current=page" if name == here else ""}>{name.capitalize()}</a>'
        for name, to in pages.items()
    )
    with ui.element("div").classes("row-bar topic-bar"):
        elements.heading(topic.name)
        if topic.role:
            elements.markup(f'<span class="quiet">{ROLES[topic.role]}</span>')
        elements.markup(links, tag="nav").props('aria-label="Of this topic"')


def _looker(visit: Visit) -> Looker:
    return Looker(Reader(visit.desk.registry), visit.desk.pipeline.record, visit.masks)


def _whole(query: dict[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise WrongUse(f"{name}={text[:100]!r}: it is a whole number")
    return int(text)


def question_of(query: dict[str, str]) -> Question:
    """What an address asks for. Raises `WrongUse`."""
    start = query.get("from", "newest")
    if start not in get_args(Start):
        raise WrongUse(f"from={start[:100]!r}: it is one of {', '.join(_STARTS)}")
    return Question(
        start=start,  # type: ignore[arg-type]
        partition=_whole(query, "partition"),
        offset=_whole(query, "offset"),
        time=_moment(query.get("time", "")),
        key=query.get("key", ""),
        text=query.get("text", ""),
        field=query.get("field", ""),
        value=query.get("value", ""),
        most=min(_whole(query, "most") or 50, 500),
        go_on=query.get("go_on", ""),
    )


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise WrongUse(f"time={text[:100]!r}: it is written as in 2026-01-31T09:00:00Z") from None
    if found is not None and found.tzinfo is None:
        raise WrongUse(f"time={text[:100]!r}: it needs a time zone, as in 2026-01-31T09:00:00Z")
    return found


def _address(name: str, question: Question, **more: Any) -> str:
    asked = {
        "from": "" if question.start == "newest" else question.start,
        "partition": question.partition,
        "offset": question.offset,
        "time": question.time and question.time.isoformat(),
        "key": question.key,
        "text": question.text,
        "field": question.field,
        "value": question.value,
        "most": "" if question.most == 50 else question.most,
    }
    return address(name, **asked | more)


class _Held:
    """What the topic holds, and per partition."""

    def __init__(self, visit: Visit, inventory: Inventory, name: str) -> None:
        self._ask = lambda: (inventory.topic(name), Browser(visit.desk.kafka, visit.desk.settings, name).spans())
        self._part = Part(visit)
        visit.every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._part.refresh(self._ask, lambda found: _held_html(*found))


def _held_html(topic: Topic, spans: list[Span]) -> str:
    counts = {
        "records": number(topic.records),
        "on disk": size(topic.disk_bytes),
        "retention": retention(topic),
        "records/s": number(topic.rate_s),
        "partitions": number(topic.partitions),
    }
    shown = "".join(f"<span><strong>{value}</strong> {name}</span>" for name, value in counts.items())
    parts = ", ".join(f"{one.partition}: {one.first:,} to {one.end:,}" for one in spans)
    return f'<div class="held">{shown}</div><p class="quiet mono held-parts">{parts}</p>'


class _Form:
    """What to look for; looking goes to the address that says so."""

    def __init__(self, name: str, question: Question, known: list[str]) -> None:
        self._name = name
        self._most = question.most
        with ui.element("form").classes("card find").props('role=search aria-label="Messages"') as form:
            form.on("submit.prevent", self._go)
            self._start = ui.select(_STARTS, value=question.start, label="From")
            self._offset = ui.input("Offset", value=_shown(question.offset)).props("inputmode=numeric")
            self._offset.bind_visibility_from(self._start, "value", lambda value: value == "offset")
            self._time = ui.input("Your time").props("type=datetime-local step=1 stack-label")
            self._time.bind_visibility_from(self._start, "value", lambda value: value == "time")
            self._partition = ui.input("Partition, empty: all", value=_shown(question.partition))
            self._key = ui.input("Key", value=question.key)
            self._text = ui.input("Text in key or value", value=question.text)
            self._field = ui.input("Field, as address.city", value=question.field, autocomplete=known)
            self._value = ui.input("Value of the field", value=question.value)
            for one in (self._start, self._offset, self._time, self._partition, self._key, self._text):
                one.props("outlined dense")
            for one in (self._field, self._value):
                one.props("outlined dense")
            ui.button("Look", icon="search").props("no-caps type=submit")
            elements.markup(f'<a href="/topics/{name}">Clear</a>')
        if question.time is not None:
            self._at = question.time
            ui.timer(0.1, self._fill, once=True)

    async def _fill(self) -> None:
        """The time in the viewer's zone, which only the browser knows."""
        script = f"const t = new Date({json.dumps(self._at.isoformat())});"
        script += "return new Date(t - t.getTimezoneOffset() * 60000).toISOString().slice(0, 19)"
        self._time.value = await ui.run_javascript(script)

    async def _go(self) -> None:
        start = self._start.value
        time = ""
        if start == "time" and self._time.value:
            time = await ui.run_javascript(f"return new Date({json.dumps(self._time.value)}).toISOString()")
        asked = {
            "from": "" if start == "newest" else start,
            "partition": self._partition.value.strip(),
            "offset": self._offset.value.strip() if start == "offset" else "",
            "time": time,
            "key": self._key.value,
            "text": self._text.value,
            "field": self._field.value.strip(),
            "value": self._value.value,
            "most": "" if self._most == 50 else self._most,
        }
        ui.navigate.to(address(self._name, **asked))


def _shown(value: int | None) -> str:
    return "" if value is None else str(value)


class _Tail:
    """What comes from now on, the newest above; it can be paused."""

    def __init__(self, visit: Visit, name: str, question: Question, looker: Looker) -> None:
        self._visit = visit
        self._browser = Browser(visit.desk.kafka, visit.desk.settings, name)
        self._looker = looker
        self._wanted = Search(question, looker)
        self._partition = question.partition
        self._before: list[Span] = []
        self._kept: list[tuple[ui.html, int]] = []
        self._address = _address(name, question)
        self._timer: ui.timer | None = None
        with ui.element("div").classes("row-bar"):
            self._button = ui.button("Live tail", icon="play_arrow", on_click=self._switch).props("outline no-caps")
            self._told = elements.markup("", tag="span").classes("quiet").props("role=status")
        self._list = ui.element("div")
        if visit.query.get("tail"):
            ui.timer(0.1, self._switch, once=True)

    async def _switch(self) -> None:
        if self._timer is None:
            try:
                self._before = await self._visit.ask(self._browser.spans)
            except PenstockError as error:
                self._told.content = escape(error.message)
                return
            self._timer = self._visit.every(_TAIL_S, self._look)
        else:
            self._timer.active = not self._timer.active
        is_on = self._timer.active
        self._button.props(f"icon={'pause' if is_on else 'play_arrow'}")
        self._button.text = "Pause" if is_on else "Go on"
        self._told.content = "Waiting for messages…" if is_on and not self._kept else self._told.content
        if not is_on:
            self._told.content = "Paused. What comes meanwhile is shown when it goes on."
        ui.navigate.history.replace(
            f"{self._address}{'&' if '?' in self._address else '?'}tail=1" if is_on else self._address
        )

    async def _look(self) -> None:
        try:
            found, passed, self._before = await self._visit.ask(
                self._browser.after, self._before, self._looker, _TAIL_RECORDS, self._is_wanted
            )
        except PenstockError as error:
            self._told.content = escape(error.message)
            return
        if passed:
            self._told.content = f"{passed:,} messages came too fast to be shown: look for them below."
        elif found or not self._kept:
            self._told.content = "" if found else "Waiting for messages…"
        if found:
            self._add(found)

    def _is_wanted(self, message: Any) -> bool:
        return self._partition in (None, message.partition()) and self._wanted(message)

    def _add(self, found: list[Seen]) -> None:
        with self._list:
            shown = elements.markup("".join(map(row_html, reversed(found))), tag="ul").classes("messages fresh")
        shown.move(target_index=0)
        self._kept.append((shown, len(found)))
        while sum(count for _, count in self._kept) > _TAIL_KEPT and len(self._kept) > 1:
            self._kept.pop(0)[0].delete()


async def _listed(visit: Visit, name: str, question: Question, looker: Looker) -> None:
    """The page of messages that the address asks for."""
    browser = Browser(visit.desk.kafka, visit.desk.settings, name)
    try:
        found = await visit.ask(browser.find, question, looker)
    except PenstockError as error:
        elements.trouble(error)
        return
    elements.markup(_told_html(found, question, masks=visit.masks), tag="p").props("role=status")
    if found.messages:
        elements.markup("".join(map(row_html, found.messages)), tag="ul").classes("messages")
    elif not found.go_on:
        _nothing(name, question)
    if found.go_on:
        words = "Older messages" if question.start == "newest" else "Later messages"
        link = elements.link(f"{words}: go on", _address(name, question, go_on=found.go_on))
        link.classes("go-on")


def _told_html(found: Found, question: Question, *, masks: bool) -> str:
    order = "the newest first" if question.start == "newest" else "the oldest first"
    since = f" from {moment_html(question.time)} on" if question.start == "time" and question.time else ""
    count = len(found.messages)
    told = f"<strong>{count:,}</strong> {'message' if count == 1 else 'messages'}{since}, {order}"
    if question.searches:
        told += f"; {found.looked_through:,} looked through in {found.took_ms / 1000:.1f} s"
    told += ", more lie beyond." if found.go_on else ", no more."
    return f"{told} Personal data are hidden, and not searched." if question.searches and masks else told


def _nothing(name: str, question: Question) -> None:
    if question.searches or question.go_on or question.start != "newest":
        elements.empty("No message is like that.", "Look from another place on, or for less.")
        elements.link("All messages, the newest first", f"/topics/{name}")
    else:
        elements.empty("The topic holds no message.", "Produce one above, or start a run:", "./penstock run")


def _nothing_at(name: str, place: str, spans: list[Span]) -> None:
    held = ", ".join(f"{one.partition}:{one.first} to {one.partition}:{one.end - 1}" for one in spans if one.records)
    elements.empty(f"{name} holds no message at {place}.", f"It holds {held or 'none'}. Retention may have taken it.")


def _message(seen: Seen) -> None:
    place = f"{seen.partition}:{seen.offset}"
    with ui.element("div").classes("row-bar"):
        elements.copyable(place, "the place")
        if seen.offset > 0:
            elements.link("Before", elements.message_address(seen.topic, seen.partition, seen.offset - 1))
        elements.link("Next", elements.message_address(seen.topic, seen.partition, seen.offset + 1))
        asked = {"from": "offset", "partition": seen.partition, "offset": seen.offset}
        elements.link("From here on", address(seen.topic, **asked))
        if seen.key and not seen.key_is_hidden:
            elements.link("With this key", address(seen.topic, key=seen.key))
    key = '<span class="quiet">hidden</span>' if seen.key_is_hidden else escape(seen.key or "none")
    pairs = [
        ("topic", escape(seen.topic)),
        ("partition", number(seen.partition)),
        ("offset", number(seen.offset)),
        ("time", moment_html(seen.at)),
        ("key", f"<code>{key}</code>"),
        ("value", f"{escape(kind_of(seen))}, {number(seen.value_bytes)} bytes"),
    ]
    if seen.problem:
        pairs.append(("problem", f'<span class="warn">{escape(seen.problem)}</span>'))
    with ui.element("section").classes("card"):
        elements.facts(pairs)
    elements.heading("Value")
    elements.markup(escape(body_of(seen)), tag="pre").props("tabindex=0 aria-label=Value")
    if seen.is_cut:
        elements.markup("Cut: only the first 20,000 characters are shown.", tag="p").classes("quiet")
    if seen.headers:
        elements.markup(headers_html(seen), tag="div")
    elements.heading("Bytes")
    elements.markup(escape(hex_of(seen)) or "none: the value is null", tag="pre").props('tabindex=0 aria-label="Bytes"')
