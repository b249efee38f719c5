"""The newest micro-batches of the stream: charts of their durations and rates, and a table."""

import re
from typing import Any

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.sink.progress import Batch
from penstock.web import elements
from penstock.web.elements import (
    format_duration,
    format_number,
    message_link,
    moment_html,
    update_html,
)
from penstock.web.markup import html, join
from penstock.web.page_layout import PageContext
from penstock.web.stream.query import (
    OTHER,
    PHASES,
    TOTAL,
    StreamFacts,
    phase_shares,
    phases_ms,
)
from penstock.web.stream.streaming import MOST_BATCHES

_DRAWN = ("addBatch", *(name for name in PHASES if name != "addBatch"), OTHER)
"""From bottom to top: the work itself first."""
_LASTS = (30, 60, 200, MOST_BATCHES)
_ROWS = 25


class Batches:
    """The charts and the table of the newest micro-batches, drawn again when there is a new one."""

    def __init__(self, visit: PageContext) -> None:
        self._topic = visit.context.pipeline.topic
        wanted = visit.query.get("last", "")
        self._last = min(int(wanted), MOST_BATCHES) if re.fullmatch("[1-9][0-9]{0,5}", wanted) else _LASTS[1]
        elements.add_heading("Micro-batches")
        links = [_link_html(count, is_current=count == self._last) for count in _LASTS]
        elements.add_html(join(links, " "), tag="nav").classes("filters").props('aria-label="Number of micro-batches"')
        self._empty = elements.add_html("", tag="div")
        with ui.element("div").classes("batches") as self._drawn:
            with ui.element("div").classes("grid"):
                self._rows = _add_chart("Input rows", _build_axes("rows"), "input rows of each micro-batch")
                self._rates = _add_chart(
                    "Input and process rate", _build_axes("rows/s"), "input rate and process rate, in rows per second"
                )
            self._phases = _add_chart(
                "Operation duration", _build_axes("ms"), "duration of each micro-batch by phase, in ms"
            )
            self._legend = elements.add_html("", tag="div").classes("phases")
            self._table = elements.add_html("", tag="div").classes("table tight")
            self._table.props('tabindex=0 role=region aria-label="Newest micro-batches"')
        self._drawn.set_visibility(False)
        self._newest: object = None

    def show(self, facts: StreamFacts) -> None:
        """Show these batches if there is a new one among them."""
        shown = facts.batches[: self._last]
        update_html(self._empty, "" if shown else _NO_BATCH)
        newest = (shown[0].batch_id, shown[0].began_at) if shown else None
        if newest == self._newest:
            return
        self._newest = newest
        self._drawn.set_visibility(bool(shown))
        self._draw_charts(shown[::-1])
        update_html(self._legend, _legend_html(shown))
        update_html(self._table, _table_html(shown[:_ROWS], self._topic))

    def _draw_charts(self, batches: list[Batch]) -> None:
        names = [f"{batch.batch_id:,}" for batch in batches]
        phases = [phases_ms(batch) for batch in batches]
        for chart, drawn in (
            (self._rows, [_build_bar_series("rows", [batch.rows for batch in batches])]),
            (
                self._rates,
                [
                    _build_line_series("input rate", [batch.input_rows_s for batch in batches]),
                    _build_line_series("process rate", [batch.processed_rows_s for batch in batches]),
                ],
            ),
            (self._phases, [_build_bar_series(name, [phase[name] for phase in phases], stack=True) for name in _DRAWN]),
        ):
            chart.options["xAxis"]["data"] = names
            chart.options["series"] = drawn
            chart.update()


_NO_BATCH = html(
    '<div class="empty"><strong>No micro-batch had records in the last day.</strong>'
    "<p>Trigger a run on the Runs page, or with: {}</p></div>",
    elements.command_html(remedies.run_pipeline()),
)


def _add_chart(title: str, options: dict[str, Any], label: str) -> ui.echart:
    with ui.element("div").classes("card"):
        elements.add_heading(title)
        return elements.add_chart(options, label)


def _build_axes(unit: str) -> dict[str, Any]:
    return {
        "xAxis": {"type": "category", "data": [], "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "name": unit},
        "legend": {"type": "scroll", "top": 0, "left": 60, "itemGap": 24},
    }


def _build_bar_series(name: str, values: list[int], *, stack: bool = False) -> dict[str, Any]:
    return {"name": name, "type": "bar", "data": values, "barMaxWidth": 28} | ({"stack": "ms"} if stack else {})


def _build_line_series(name: str, values: list[float]) -> dict[str, Any]:
    return {"name": name, "type": "line", "data": values, "showSymbol": len(values) < 3, "lineStyle": {"width": 2}}


def _link_html(count: int, *, is_current: bool) -> Markup:
    return html('<a href="/stream?last={0}"{1}>last {0}</a>', count, " aria-current=true" if is_current else "")


def _legend_html(batches: list[Batch]) -> Markup:
    parts = phase_shares(batches)
    meanings = PHASES | {OTHER: "time that Spark does not attribute"}
    return join(
        html(
            "<div><strong>{}</strong> <span>{:.0%}</span> <span class=quiet>{}</span></div>",
            name,
            parts.get(name, 0),
            meaning,
        )
        for name, meaning in meanings.items()
    )


def _table_html(batches: list[Batch], topic: str) -> Markup:
    heads = (
        "Batch",
        "Started",
        "Rows",
        "Duration",
        "Process rate, rows/s",
        "Longest phase",
        "Last offset by partition",
    )
    rows = [
        [
            format_number(batch.batch_id),
            moment_html(batch.began_at),
            format_number(batch.rows),
            format_duration(batch.durations_ms.get(TOTAL)),
            format_number(round(batch.processed_rows_s)),
            _render_longest_phase(batch),
            _render_end_offsets(batch, topic),
        ]
        for batch in batches
    ]
    return elements.table_html(f"The newest {len(rows)} with records", heads, rows)


def _render_longest_phase(batch: Batch) -> Markup:
    phases = phases_ms(batch)
    name = max(phases, key=lambda phase: phases[phase])
    every = ", ".join(f"{phase} {format_duration(ms)}" for phase, ms in phases.items())
    return html('<span title="{}">{} {}</span>', every, name, format_duration(phases[name]))


def _render_end_offsets(batch: Batch, topic: str) -> Markup:
    links = [
        message_link(topic, partition, end - 1, f"{partition}:{end - 1:,}")
        for partition, end in sorted(batch.positions.items())
        if end > 0
    ]
    return join(links, " ")
