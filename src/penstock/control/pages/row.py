"""One row, and the way of its record from the API to the table, hop by hop."""

from datetime import datetime
from html import escape
from typing import Any

from nicegui import ui

from penstock.contract.masking import MASK, masked
from penstock.control import elements
from penstock.control.api.table import SEARCH_S, Way, search, table, way_of_row
from penstock.control.desk import Desk
from penstock.control.elements import duration, moment_html, number, state_html
from penstock.control.frame import Visit, page
from penstock.control.parts import Draw, fill, soon
from penstock.errors import NotThere
from penstock.observe.table import Row
from penstock.observe.trace import Hop, Passage, Search

"""So many searches of the whole topic go on at a time."""
_LOOK_S = 0.5
_STATES = {"stored": "ok", "deleted": "ok", "waiting": "late", "missing": "down", "rejected": "down", "refused": "down"}


def register(desk: Desk) -> None:
    """Serve the page."""

    @page(desk, "/table/rows/{record_id}", "Row")
    async def shown(visit: Visit) -> None:
        record_id = visit.path["record_id"]
        with ui.element("div").classes("row-bar"):
            elements.markup('<a href="/table">All rows</a>')
            elements.copyable(record_id, "the id")
        is_there = await _show_row(visit, record_id)
        elements.heading("Trace")
        if is_there:
            soon("Following the record …", lambda: _way(visit, record_id))
        _Searching(visit, record_id)


async def _show_row(visit: Visit, record_id: str) -> bool:
    """Whether the row is there; it is shown. Raises what is wrong with the id."""
    try:
        found = await visit.ask(lambda: table(visit.desk).row(record_id))
    except NotThere as error:
        todo = "Its record may wait, or was rejected, or deleted, or nobody sent it: search the topic for it."
        elements.empty(error.message, todo, error.hint)
        return False
    _facts(visit, found)
    return True


def _facts(visit: Visit, found: Row) -> None:
    columns = masked(found.columns, visit.desk.pipeline.stored) if visit.masks else found.columns
    pairs = [(name, value_html(value)) for name, value in columns.items()]
    pairs.append(("record in Kafka", message_link(visit.desk.pipeline.topic, found.columns)))
    if found.written_us is not None:
        about = "<small class=quiet>the topic's generation and the offset: which of two records is later</small>"
        pairs.append(("write timestamp", f"{found.written_us} {about}"))
    elements.facts(pairs).classes("card")


def value_html(value: Any) -> str:
    """A value of a row as HTML."""
    if value is None:
        return "<span class=quiet>null</span>"
    if value == MASK:
        return f'<span class=quiet aria-label="hidden">{MASK}</span>'
    if isinstance(value, datetime):
        return moment_html(value)
    return escape(str(value))


def message_link(topic: str, columns: dict[str, Any]) -> str:
    """The place of a row's record in the topic, which leads there."""
    partition, offset = columns.get("kafka_partition"), columns.get("kafka_offset")
    if partition is None or offset is None:
        return "<span class=quiet>not known</span>"
    return elements.message_link(topic, partition, offset, f"partition {partition} offset {offset:,}")


async def _way(visit: Visit, record_id: str) -> Draw:
    found = await visit.ask(way_of_row, visit.desk, record_id)
    return lambda: _passages(visit.desk.pipeline.topic, found)


def _passages(topic: str, found: Way) -> None:
    for one in found.passages:
        _passage(topic, one)
    if found.passages:
        return
    if found.is_whole:
        elements.empty("Neither the topic nor the rejected records have this id.", "Kafka holds no record for ever.")
    elif found.held is None:
        todo = "The topic was made anew since, or something else than penstock wrote the row."
        elements.empty("The topic holds no record that this row was made of.", todo)
    else:
        elements.empty(
            "None was found in this time.", "The command searches to the end.", f"./penstock trace {found.id}"
        )


def _passage(topic: str, one: Passage) -> None:
    word = one.outcome.partition(",")[0]
    outcome = state_html(_STATES.get(word, "unknown"), one.outcome)
    place = {"kafka_partition": one.partition, "kafka_offset": one.offset}
    where = "never got to Kafka" if one.partition is None else message_link(topic, place)
    hops = "".join(map(_hop, one.hops, [None, *one.hops]))
    label = "The way of the record, hop by hop"
    text = f'<p>{outcome} {where}</p><ol class="trace" aria-label="{label}">{hops}</ol>'
    elements.markup(text, tag="section").classes("card passage")


def _hop(hop: Hop, before: Hop | None) -> str:
    later = _since(before, hop)
    after = f'<span class="later">{escape(later)}</span>' if later else ""
    at = moment_html(hop.at) if hop.at else "<span class=quiet>time not known</span>"
    return (
        f'<li><strong>{escape(hop.name)}</strong> <span class="at">{at}</span>{after}'
        f'<div class="quiet">{escape(hop.detail)}</div></li>'
    )


def _since(before: Hop | None, hop: Hop) -> str:
    """How much later a hop was than the one before; empty when it cannot be told."""
    if before is None or before.at is None or hop.at is None:
        return ""
    ms = (datetime.fromisoformat(hop.at) - datetime.fromisoformat(before.at)).total_seconds() * 1000
    return f"+{duration(ms)}" if ms >= 0 else f"-{duration(-ms)}"


class _Searching:
    """The search of the whole topic, which the viewer asks for."""

    def __init__(self, visit: Visit, record_id: str) -> None:
        self._visit = visit
        self._id = record_id
        self._search: Search | None = None
        elements.heading("Other records of this id", 3)
        told = f"Each record of the id is found by reading the whole topic, for {SEARCH_S:.0f} s at most."
        elements.markup(told, tag="p").classes("quiet")
        with ui.element("div").classes("row-bar"):
            self._button = ui.button("Search the whole topic", on_click=self._go).props("no-caps outline")
            self._progress = elements.markup("", tag="span").props("role=status aria-live=polite").classes("quiet")
        self._found = ui.element("div")
        ui.context.client.on_delete(self._stop)

    def _stop(self) -> None:
        if self._search is not None:
            self._search.stop()

    async def _go(self) -> None:
        self._button.disable()
        looking = ui.timer(_LOOK_S, self._show_progress)
        try:
            await fill(self._found, self._searched())
        finally:
            looking.cancel()
            if not self._button.is_deleted:
                self._button.enable()

    def _show_progress(self) -> None:
        if self._search is not None and self._search.held:
            self._progress.content = f"{number(self._search.read)} of {number(self._search.held)} records read"

    async def _searched(self) -> Draw:
        way = await self._visit.ask(search, self._visit.desk, self._id, self._begun)
        told = f"{number(way.read)} of {number(way.held)} records read"
        told += "." if way.is_whole else ", then the time was over: what follows was not looked at."

        def draw() -> None:
            self._progress.content = told
            _passages(self._visit.desk.pipeline.topic, way)

        return draw

    def _begun(self, search: Search) -> None:
        self._search = search
