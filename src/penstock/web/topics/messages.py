"""Messages of a topic: search, live tail, and the page of a single message."""

import json
from datetime import datetime
from typing import Any, get_args

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.broker.topics import OffsetRange
from penstock.codec.values import ContentReader
from penstock.contract.fields import fields
from penstock.errors import PenstockError, UsageError
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import format_number, format_size, moment_html, update_html
from penstock.web.markup import html, join
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.topics.browse import Browser, MessagePage, MessageQuery, MessageSearch, Start
from penstock.web.topics.content import MessageRenderer, ShownMessage
from penstock.web.topics.inventory import Inventory, TopicInfo
from penstock.web.topics.message_html import (
    ROLES,
    Part,
    describe_encoding,
    format_body,
    format_hex,
    format_retention,
    headers_html,
    messages_path,
    row_html,
)

_STARTS = {"newest": "newest", "offset": "offset", "time": "time"}
_TAIL_S = 1.0
_TAIL_RECORDS = 100
_MOST_TAIL_MESSAGES = 500


def register(context: AppContext, inventory: Inventory) -> None:
    """Serve the pages."""

    @page(context, "/topics/{name}", "Messages")
    async def messages(visit: PageContext) -> None:
        name = visit.path["name"]
        topic = await visit.ask(inventory.get_topic, name)
        add_topic_bar(topic, "messages")
        _Summary(visit, inventory, name)
        question = parse_query(visit.query)
        renderer = _make_renderer(visit)
        _Form(name, question, [field.name for field in fields(context.pipeline.record)])
        _LiveTail(visit, name, question, renderer)
        await _show_results(visit, name, question, renderer)

    @page(context, "/topics/{name}/messages/{partition}/{offset}", "Message")
    async def message(visit: PageContext) -> None:
        name, partition, offset = (
            visit.path["name"],
            _parse_int(visit.path, "partition"),
            _parse_int(visit.path, "offset"),
        )
        add_topic_bar(await visit.ask(inventory.get_topic, name), "message")
        browser, renderer = Browser(context.kafka, context.settings, name), _make_renderer(visit)
        seen = await visit.ask(browser.read_message, partition or 0, offset or 0, renderer)
        if seen is None:
            ranges = await visit.ask(browser.read_ranges)
            _show_no_message(name, f"{partition}:{offset}", ranges)
        else:
            _show_message(seen)


def add_topic_bar(topic: TopicInfo, here: str) -> None:
    """Add the topic's name, its role, and links to its pages."""
    pages = {"messages": f"/topics/{topic.name}"}
    if not topic.is_internal:
        pages |= {"produce": f"/topics/{topic.name}/produce"}
    pages |= {"settings": f"/topics/{topic.name}/settings"}
    links = join(
        html('<a href="{}"{}>{}</a>', to, " aria-current=page" if name == here else "", name.capitalize())
        for name, to in pages.items()
    )
    with ui.element("div").classes("row-bar topic-bar"):
        elements.add_heading(topic.name)
        if topic.role:
            elements.add_html(html('<span class="quiet">{}</span>', ROLES[topic.role]))
        elements.add_html(links, tag="nav").props('aria-label="Topic pages"')


def _make_renderer(visit: PageContext) -> MessageRenderer:
    return MessageRenderer(ContentReader(visit.context.registry), visit.context.pipeline.record, visit.masks)


def _parse_int(query: dict[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UsageError(f"invalid {name}={text[:100]!r}: expected a whole number")
    return int(text)


def parse_query(query: dict[str, str]) -> MessageQuery:
    """Parse the query parameters of a URL. Raises `UsageError`."""
    start = query.get("from", "newest")
    if start not in get_args(Start):
        raise UsageError(f"invalid from={start[:100]!r}: expected one of {', '.join(_STARTS)}")
    return MessageQuery(
        start=start,  # type: ignore[arg-type]
        partition=_parse_int(query, "partition"),
        offset=_parse_int(query, "offset"),
        time=_parse_time(query.get("time", "")),
        key=query.get("key", ""),
        text=query.get("text", ""),
        field=query.get("field", ""),
        value=query.get("value", ""),
        most=min(_parse_int(query, "most") or 50, 500),
        go_on=query.get("go_on", ""),
    )


def _parse_time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"invalid time={text[:100]!r}: expected ISO 8601, e.g. 2026-01-31T09:00:00Z") from None
    if time is not None and time.tzinfo is None:
        raise UsageError(f"invalid time={text[:100]!r}: expected a time zone, e.g. 2026-01-31T09:00:00Z")
    return time


def _address(name: str, question: MessageQuery, **more: Any) -> str:
    parameters = {
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
    return messages_path(name, **parameters | more)


class _Summary:
    """Size and offsets of the topic, in total and per partition."""

    def __init__(self, visit: PageContext, inventory: Inventory, name: str) -> None:
        self._ask = lambda: (
            inventory.get_topic(name),
            Browser(visit.context.kafka, visit.context.settings, name).read_ranges(),
        )
        self._part = Part(visit)
        visit.every(REFRESH_S, self._refresh_summary)

    async def _refresh_summary(self) -> None:
        await self._part.refresh(self._ask, lambda state: _summary_html(*state))


def _summary_html(topic: TopicInfo, ranges: list[OffsetRange]) -> Markup:
    counts = {
        "records": format_number(topic.records),
        "on disk": format_size(topic.disk_bytes),
        "retention": format_retention(topic),
        "records/s": format_number(topic.rate_s),
        "partitions": format_number(topic.partitions),
    }
    counts_html = join(html("<span><strong>{}</strong> {}</span>", value, name) for name, value in counts.items())
    held = ", ".join(
        f"{offset_range.partition}: {offset_range.first:,} to {offset_range.end:,}" for offset_range in ranges
    )
    return html('<div class="held">{}</div><p class="quiet mono held-parts">{}</p>', counts_html, held)


class _Form:
    """The search form. Searching navigates to a URL that holds the query, so that it can be shared."""

    def __init__(self, name: str, question: MessageQuery, known: list[str]) -> None:
        self._name = name
        self._most = question.most
        with ui.element("form").classes("card find").props('role=search aria-label="Messages"') as form:
            form.on("submit.prevent", self._submit_search)
            self._start = ui.select(_STARTS, value=question.start, label="From")
            self._offset = ui.input("Offset", value=_to_text(question.offset)).props("inputmode=numeric")
            self._offset.bind_visibility_from(self._start, "value", lambda value: value == "offset")
            self._time = ui.input("Local time").props("type=datetime-local step=1 stack-label")
            self._time.bind_visibility_from(self._start, "value", lambda value: value == "time")
            self._partition = ui.input("Partition (default: all)", value=_to_text(question.partition))
            self._key = ui.input("Key", value=question.key)
            self._text = ui.input("Text in key or value", value=question.text)
            self._field = ui.input("Field, e.g. address.city", value=question.field, autocomplete=known)
            self._value = ui.input("Field value", value=question.value)
            for field in (self._start, self._offset, self._time, self._partition, self._key, self._text):
                field.props("outlined dense")
            for field in (self._field, self._value):
                field.props("outlined dense")
            ui.button("Search", icon="search").props("no-caps type=submit")
            elements.add_html(html('<a href="/topics/{}">Clear</a>', name))
        if question.time is not None:
            self._at = question.time
            ui.timer(0.1, self._fill_time, once=True)

    async def _fill_time(self) -> None:
        """Fill in the time in the viewer's time zone, which only the browser knows."""
        script = f"const t = new Date({json.dumps(self._at.isoformat())});"
        script += "return new Date(t - t.getTimezoneOffset() * 60000).toISOString().slice(0, 19)"
        self._time.value = await ui.run_javascript(script)

    async def _submit_search(self) -> None:
        start = self._start.value
        time = ""
        if start == "time" and self._time.value:
            time = await ui.run_javascript(f"return new Date({json.dumps(self._time.value)}).toISOString()")
        parameters = {
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
        ui.navigate.to(messages_path(self._name, **parameters))


def _to_text(value: int | None) -> str:
    return "" if value is None else str(value)


class _LiveTail:
    """Live tail of new messages, newest on top. Can be paused."""

    def __init__(self, visit: PageContext, name: str, question: MessageQuery, renderer: MessageRenderer) -> None:
        self._visit = visit
        self._browser = Browser(visit.context.kafka, visit.context.settings, name)
        self._make_renderer = renderer
        self._matches = MessageSearch(question, renderer)
        self._partition = question.partition
        self._polled: list[OffsetRange] = []
        self._batches: list[tuple[ui.html, int]] = []
        self._address = _address(name, question)
        self._timer: ui.timer | None = None
        with ui.element("div").classes("row-bar"):
            self._button = ui.button("Live tail", icon="play_arrow", on_click=self._toggle_tail).props(
                "outline no-caps"
            )
            self._status = elements.add_html("", tag="span").classes("quiet").props("role=status")
        self._list = ui.element("div")
        if visit.query.get("tail"):
            ui.timer(0.1, self._toggle_tail, once=True)

    async def _toggle_tail(self) -> None:
        if self._timer is None:
            try:
                self._polled = await self._visit.ask(self._browser.read_ranges)
            except PenstockError as error:
                update_html(self._status, error.message)
                return
            self._timer = self._visit.every(_TAIL_S, self._poll_messages)
        else:
            self._timer.active = not self._timer.active
        is_on = self._timer.active
        self._button.props(f"icon={'pause' if is_on else 'play_arrow'}")
        self._button.text = "Pause" if is_on else "Resume"
        if is_on and not self._batches:
            update_html(self._status, "Waiting for messages…")
        if not is_on:
            update_html(self._status, "Paused. New messages appear when you resume.")
        ui.navigate.history.replace(
            f"{self._address}{'&' if '?' in self._address else '?'}tail=1" if is_on else self._address
        )

    async def _poll_messages(self) -> None:
        try:
            messages, skipped, self._polled = await self._visit.ask(
                self._browser.read_new, self._polled, self._make_renderer, _TAIL_RECORDS, self._is_match
            )
        except PenstockError as error:
            update_html(self._status, error.message)
            return
        if skipped:
            update_html(
                self._status, f"Skipped {skipped:,} messages that arrived too fast to show. Search for them below."
            )
        elif messages or not self._batches:
            update_html(self._status, "" if messages else "Waiting for messages…")
        if messages:
            self._prepend_messages(messages)

    def _is_match(self, message: Any) -> bool:
        return self._partition in (None, message.partition()) and self._matches(message)

    def _prepend_messages(self, messages: list[ShownMessage]) -> None:
        with self._list:
            batch = elements.add_html(join(map(row_html, reversed(messages))), tag="ul").classes("messages fresh")
        batch.move(target_index=0)
        self._batches.append((batch, len(messages)))
        while sum(count for _, count in self._batches) > _MOST_TAIL_MESSAGES and len(self._batches) > 1:
            self._batches.pop(0)[0].delete()


async def _show_results(visit: PageContext, name: str, question: MessageQuery, renderer: MessageRenderer) -> None:
    """Add the search results for the current URL."""
    browser = Browser(visit.context.kafka, visit.context.settings, name)
    try:
        result = await visit.ask(browser.search, question, renderer)
    except PenstockError as error:
        elements.add_error(error)
        return
    elements.add_html(_result_summary_html(result, question, masks=visit.masks), tag="p").props("role=status")
    if result.messages:
        elements.add_html(join(map(row_html, result.messages)), tag="ul").classes("messages")
    elif not result.go_on:
        _show_no_results(name, question)
    if result.go_on:
        label = "Older messages" if question.start == "newest" else "Newer messages"
        link = elements.add_link(label, _address(name, question, go_on=result.go_on))
        link.classes("go-on")


def _result_summary_html(result: MessagePage, question: MessageQuery, *, masks: bool) -> Markup:
    order = "newest first" if question.start == "newest" else "oldest first"
    since = html(" since {}", moment_html(question.time)) if question.start == "time" and question.time else ""
    count = len(result.messages)
    summary = html(
        "<strong>{count:,}</strong> {noun}{since}, {order}",
        count=count,
        noun="message" if count == 1 else "messages",
        since=since,
        order=order,
    )
    details = f"; {result.looked_through:,} scanned in {result.took_ms / 1000:.1f} s" if question.searches else ""
    details += "; more available." if result.go_on else "; no more."
    details += " Personal data is hidden and not searched." if question.searches and masks else ""
    return html("{}{}", summary, details)


def _show_no_results(name: str, question: MessageQuery) -> None:
    if question.searches or question.go_on or question.start != "newest":
        elements.add_empty_state("No matching messages.", "Start from another position, or relax the filters.")
        elements.add_link("All messages, newest first", f"/topics/{name}")
    else:
        elements.add_empty_state(
            "The topic is empty.", "Produce a message above, or trigger a run:", remedies.run_pipeline()
        )


def _show_no_message(name: str, position: str, ranges: list[OffsetRange]) -> None:
    available = ", ".join(
        f"{offset_range.partition}:{offset_range.first} to {offset_range.partition}:{offset_range.end - 1}"
        for offset_range in ranges
        if offset_range.records
    )
    elements.add_empty_state(
        f"No message at {position} in {name}.", f"Available: {available or 'none'}. Retention may have deleted it."
    )


def _show_message(seen: ShownMessage) -> None:
    position = f"{seen.partition}:{seen.offset}"
    with ui.element("div").classes("row-bar"):
        elements.add_copyable(position, "the position")
        if seen.offset > 0:
            elements.add_link("Previous", elements.message_path(seen.topic, seen.partition, seen.offset - 1))
        elements.add_link("Next", elements.message_path(seen.topic, seen.partition, seen.offset + 1))
        parameters = {"from": "offset", "partition": seen.partition, "offset": seen.offset}
        elements.add_link("From here", messages_path(seen.topic, **parameters))
        if seen.key and not seen.key_is_hidden:
            elements.add_link("With this key", messages_path(seen.topic, key=seen.key))
    key = html('<span class="quiet">hidden</span>') if seen.key_is_hidden else seen.key or "none"
    pairs = [
        ("topic", seen.topic),
        ("partition", format_number(seen.partition)),
        ("offset", format_number(seen.offset)),
        ("time", moment_html(seen.at)),
        ("key", html("<code>{}</code>", key)),
        ("value", f"{describe_encoding(seen)}, {format_number(seen.value_bytes)} bytes"),
    ]
    if seen.problem:
        pairs.append(("problem", html('<span class="warn">{}</span>', seen.problem)))
    with ui.element("section").classes("card"):
        elements.add_facts(pairs)
    elements.add_heading("Value")
    elements.add_html(format_body(seen), tag="pre").props("tabindex=0 aria-label=Value")
    if seen.is_cut:
        elements.add_html("Truncated to the first 20,000 characters.", tag="p").classes("quiet")
    if seen.headers:
        elements.add_html(headers_html(seen), tag="div")
    elements.add_heading("Bytes")
    elements.add_html(format_hex(seen) or "none: the value is null", tag="pre").props('tabindex=0 aria-label="Bytes"')
