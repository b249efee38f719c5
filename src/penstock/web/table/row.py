"""A row, and the trace of its record from the API to the table, stage by stage."""

from datetime import datetime
from typing import Any

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.contract.masking import MASK
from penstock.errors import NotFound
from penstock.reconcile.trace import Passage, TraceSearch, TraceStep
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.components import Draw, add_deferred, fill_section
from penstock.web.elements import format_duration, format_number, moment_html, state_html
from penstock.web.markup import html, join
from penstock.web.page_layout import PageContext, page
from penstock.web.table.api import SEARCH_S, RecordPassages, mask_columns, open_table, search_topic, trace_row
from penstock.web.table.table_reader import TableRow

_PROGRESS_S = 0.5
_STATES = {
    **dict.fromkeys(("stored", "deleted", "expired", "pruned", "accepted"), "ok"),
    "waiting": "late",
    **dict.fromkeys(("missing", "rejected", "refused"), "down"),
}


def register(context: AppContext) -> None:
    """Serve the page."""

    @page(context, "/table/rows/{record_id:path}", "Row")
    async def shown(visit: PageContext) -> None:
        record_id = visit.path["record_id"]
        with ui.element("div").classes("row-bar"):
            elements.add_html(html('<a href="/table">All rows</a>'))
            elements.add_copyable(record_id, "the id")
        is_there = await _show_row(visit, record_id)
        elements.add_heading("Trace")
        if is_there:
            add_deferred("Tracing the record …", lambda: _load_trace(visit, record_id))
        _Searching(visit, record_id)


async def _show_row(visit: PageContext, record_id: str) -> bool:
    """Show the row, or an empty state; return whether it exists. Raises `UsageError` for an invalid id."""
    try:
        stored_row = await visit.ask(lambda: open_table(visit.context).read_row(record_id))
    except NotFound as error:
        todo = "Its record may be pending, rejected, deleted, or was never sent. Search the topic for it."
        elements.add_empty_state(error.message, todo, error.hint)
        return False
    _show_facts(visit, stored_row)
    return True


def _show_facts(visit: PageContext, stored_row: TableRow) -> None:
    columns = mask_columns(stored_row.columns, visit.context) if visit.masks else stored_row.columns
    pairs = [(name, value_html(value)) for name, value in columns.items()]
    pairs.append(("record in Kafka", message_link(visit.context.pipeline.topic, stored_row.columns)))
    if stored_row.written_us is not None:
        note = html("<small class=quiet>derived from topic incarnation and offset; the higher one wins</small>")
        pairs.append(("write timestamp", html("{} {}", stored_row.written_us, note)))
    if stored_row.expires_at is not None:
        pairs.append(("expires", moment_html(stored_row.expires_at)))
    elements.add_facts(pairs).classes("card")


def value_html(value: Any) -> str:
    """Return a column value as HTML or text."""
    if value is None:
        return html("<span class=quiet>null</span>")
    if value == MASK:
        return html('<span class=quiet aria-label="hidden">{}</span>', MASK)
    if isinstance(value, datetime):
        return moment_html(value)
    return str(value)


def message_link(topic: str, columns: dict[str, Any]) -> Markup:
    """Return HTML for a row's record in Kafka: its position, linked to the message."""
    partition, offset = columns.get("kafka_partition"), columns.get("kafka_offset")
    if partition is None or offset is None:
        return html("<span class=quiet>unknown</span>")
    return elements.message_link(topic, partition, offset, f"partition {partition} offset {offset:,}")


async def _load_trace(visit: PageContext, record_id: str) -> Draw:
    trace = await visit.ask(trace_row, visit.context, record_id)
    return lambda: _show_passages(visit.context.pipeline.topic, trace)


def _show_passages(topic: str, trace: RecordPassages) -> None:
    for passage in trace.passages:
        _show_passage(topic, passage)
    if trace.passages:
        return
    if trace.is_whole:
        elements.add_empty_state(
            "No record with this id in the topic or among the dead letters.", "Retention may have deleted it."
        )
    elif trace.held is None:
        todo = "The topic was recreated since, or something other than penstock wrote the row."
        elements.add_empty_state("The topic no longer holds the record of this row.", todo)
    else:
        elements.add_empty_state(
            "Not found within the time limit.",
            "This command searches the whole topic:",
            remedies.trace_record(trace.id),
        )


def _show_passage(topic: str, passage: Passage) -> None:
    state = passage.outcome.partition(",")[0]
    outcome = state_html(_STATES.get(state, "unknown"), passage.outcome)
    columns = {"kafka_partition": passage.partition, "kafka_offset": passage.offset}
    position = "never reached Kafka" if passage.partition is None else message_link(topic, columns)
    stages = join(map(_stage_html, passage.hops, [None, *passage.hops]))
    label = "Trace of the record, stage by stage"
    text = html(
        '<p>{outcome} {position}</p><ol class="trace" aria-label="{label}">{stages}</ol>',
        outcome=outcome,
        position=position,
        label=label,
        stages=stages,
    )
    elements.add_html(text, tag="section").classes("card passage")


def _stage_html(stage: TraceStep, previous: TraceStep | None) -> Markup:
    elapsed = _format_elapsed(previous, stage)
    at = moment_html(stage.at) if stage.at else html("<span class=quiet>time unknown</span>")
    return html(
        '<li><strong>{name}</strong> <span class="at">{at}</span>{later}<div class="quiet">{detail}</div></li>',
        name=stage.name,
        at=at,
        later=html('<span class="later">{}</span>', elapsed) if elapsed else "",
        detail=stage.detail,
    )


def _format_elapsed(previous: TraceStep | None, stage: TraceStep) -> str:
    """Format the time since the previous stage; empty if unknown."""
    if previous is None or previous.at is None or stage.at is None:
        return ""
    ms = (datetime.fromisoformat(stage.at) - datetime.fromisoformat(previous.at)).total_seconds() * 1000
    return f"+{format_duration(ms)}" if ms >= 0 else f"-{format_duration(-ms)}"


class _Searching:
    """The search of the whole topic, started by the viewer."""

    def __init__(self, visit: PageContext, record_id: str) -> None:
        self._visit = visit
        self._id = record_id
        self._search: TraceSearch | None = None
        elements.add_heading("Other records with this id", 3)
        note = f"Finds every record with this id. Reads the whole topic, for at most {SEARCH_S:.0f} s."
        elements.add_html(note, tag="p").classes("quiet")
        with ui.element("div").classes("row-bar"):
            self._button = ui.button("Search the whole topic", on_click=self._run_search).props("no-caps outline")
            self._progress = elements.add_html("", tag="span").props("role=status aria-live=polite").classes("quiet")
        self._results = ui.element("div")
        ui.context.client.on_delete(self._stop_search)

    def _stop_search(self) -> None:
        if self._search is not None:
            self._search.stop()

    async def _run_search(self) -> None:
        self._button.disable()
        timer = ui.timer(_PROGRESS_S, self._show_progress)
        try:
            await fill_section(self._results, self._search_topic())
        finally:
            timer.cancel()
            if not self._button.is_deleted:
                self._button.enable()

    def _show_progress(self) -> None:
        if self._search is not None and self._search.held:
            progress = f"{format_number(self._search.read)} of {format_number(self._search.held)} records read"
            elements.update_html(self._progress, progress)

    async def _search_topic(self) -> Draw:
        trace = await self._visit.ask(search_topic, self._visit.context, self._id, self._on_start)
        progress = f"{format_number(trace.read)} of {format_number(trace.held)} records read"
        progress += "." if trace.is_whole else " within the time limit; the rest was not searched."

        def draw() -> None:
            elements.update_html(self._progress, progress)
            _show_passages(self._visit.context.pipeline.topic, trace)

        return draw

    def _on_start(self, search: TraceSearch) -> None:
        self._search = search
