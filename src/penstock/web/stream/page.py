"""The stream: whether it runs, what its micro-batches cost, its offsets, and its last failure."""

import re
from functools import partial
from html import escape
from typing import Any

from nicegui import ui

from penstock import remedies
from penstock.errors import PenstockError
from penstock.sink.progress import Batch, Failure
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.components import copy_button
from penstock.web.elements import (
    format_duration,
    format_number,
    format_size,
    message_link,
    moment_html,
    state_html,
    update_html,
)
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.stream.query import (
    OTHER,
    PHASES,
    TOTAL,
    QueryStatus,
    StreamFacts,
    has_recovered,
    phase_shares,
    phases_ms,
)
from penstock.web.stream.streaming import JOB, MOST_BATCHES, Spark, Streaming, StreamState

_STATES = {
    "running": "ok",
    "waiting": "late",
    "stuck": "down",
    "starting": "busy",
    "stopped": "down",
    "unknown": "unknown",
}
_WORDS = {"waiting": "waiting to restart"}
_TONES = {"running": "ok", "waiting": "warn", "stuck": "bad", "starting": "warn", "stopped": "bad", "unknown": "quiet"}
_DRAWN = ("addBatch", *(name for name in PHASES if name != "addBatch"), OTHER)
"""From bottom to top: the work itself first."""
_LASTS = (30, 60, 200, MOST_BATCHES)
_ROWS = 25


def register(context: AppContext) -> None:
    """Serve the page."""
    streaming = context.get_shared(Streaming)
    job = _Job()

    @page(context, "/stream", "Stream")
    def stream(visit: PageContext) -> None:
        _Stream(visit, streaming, job)


class _Job:
    """The action in progress on the job, whoever started it. Every page shows it."""

    doing = ""


class _Stream:
    """The page. `/stream?last=200` draws the last 200 micro-batches."""

    def __init__(self, visit: PageContext, streaming: Streaming, job: _Job) -> None:
        self._visit, self._streaming = visit, streaming
        self._control = _Control(visit, streaming, job)
        with ui.element("div").classes("grid stream-top"):
            self._place = elements.add_html("", tag="section").classes("card")
            self._spark = elements.add_html("", tag="section").classes("card")
        self._away = elements.add_html("", tag="div").props("role=status")
        self._batches = _Batches(visit)
        self._failures = _Failures(visit)
        visit.every(REFRESH_S, self._refresh_page)

    async def _refresh_page(self) -> None:
        state = await self._visit.ask(self._streaming.read_state)
        self._control.show(state)
        update_html(self._place, _place_html(state, self._visit.context.pipeline.topic))
        update_html(self._spark, _spark_html(state.spark))
        try:
            facts = await self._visit.ask(self._streaming.facts)
        except PenstockError as error:
            update_html(self._away, f'<div class="trouble"><p>{escape(error.message)}</p></div>')
            return
        update_html(self._away, "")
        self._batches.show(facts)
        self._failures.show(facts.failures, state.query.state == "running" or has_recovered(facts))


class _Control:
    """The query's state, and the buttons that stop and start its job."""

    def __init__(self, visit: PageContext, streaming: Streaming, job: _Job) -> None:
        self._visit, self._streaming, self._job = visit, streaming, job
        self._verdict = elements.add_html("", tag="div").props("role=status aria-live=polite id=stream-state")
        with ui.element("div").classes("row-bar"):
            if visit.context.host.is_local:
                self._button = ui.button("Stop", on_click=self._toggle_job).props("outline no-caps")
                self._button.disable()
            else:
                elements.add_html("The job runs on another host. To stop and start it there:")
                elements.add_copyable(remedies.stop(JOB))
                elements.add_copyable(remedies.start(JOB))
            if streaming.pages is not None:
                _show_links(
                    {"job": streaming.pages.job, "master": streaming.pages.master, "worker": streaming.pages.worker}
                )
        self._stops = True

    def show(self, state: StreamState) -> None:
        """Show the query's state, and enable the actions that are possible."""
        update_html(self._verdict, _verdict_html(state.query, self._job.doing))
        if not self._visit.context.host.is_local:
            return
        self._stops = state.query.state != "stopped"
        text = self._job.doing or ("Stop the job" if self._stops else "Start the job")
        if self._button.text != text:
            self._button.text = text
        self._button.set_enabled(not self._job.doing and state.query.state != "unknown")

    async def _toggle_job(self) -> None:
        host = self._visit.context.host
        if not self._stops:
            await self._run_action("start job", "Starting …", partial(host.start, JOB))
            return
        text = "It finishes the batch in flight first. Records stay in Kafka until it is started again; none are lost."
        if await elements.ask_confirmation("Stop the Spark job?", text, verb="Stop the job"):
            await self._run_action("stop job", "Stopping …", partial(host.stop, JOB))

    async def _run_action(self, action: str, doing: str, operation: Any) -> None:
        if self._job.doing:
            ui.notify(f"Another action on the job is in progress: {self._job.doing}", type="warning")
            return
        self._job.doing = doing
        self._button.text = doing
        self._button.disable()
        try:
            await self._visit.act(action, JOB, operation)
        finally:
            self._job.doing = ""
            self._streaming.clear_caches()
        self.show(await self._visit.ask(self._streaming.read_state))


def _show_links(pages: dict[str, str]) -> None:
    shown = " · ".join(
        f'<a href="{escape(to)}" target="_blank" rel="noopener">{name}</a>' for name, to in pages.items()
    )
    elements.add_html(f"Spark UIs: {shown}").classes("spark-pages")


def _verdict_html(query: QueryStatus, doing: str) -> str:
    word = doing or _WORDS.get(query.state, query.state)
    who = f"{escape(query.owner)}, since {moment_html(query.since)}" if query.owner else ""
    return (
        f'<div class="verdict {_TONES[query.state]}"><strong>{state_html(_STATES[query.state], word)}</strong>'
        f'<span>{escape(query.told)}</span><span class="quiet">{who}</span></div>'
    )


def _place_html(state: StreamState, topic: str) -> str:
    if not state.partitions:
        return "<h2>Offsets and lag</h2><p>The topic&rsquo;s offsets are unknown.</p>"
    rows = [
        [
            str(partition.partition),
            format_number(partition.first),
            format_number(partition.reached),
            format_number(partition.end),
            format_number(partition.lag_records),
        ]
        for partition in state.partitions
    ]
    heads = ("Partition", "First", "Processed up to", "End", "Lag")
    waits = f"<p>Lag: <strong>{format_number(state.lag)}</strong> records.</p>"
    where = f'<p class="quiet">Checkpoint: <code>{escape(state.query.checkpoint)}</code></p>'
    return (
        f"<h2>Offsets and lag</h2>{waits}"
        f'<div class="table tight">{elements.table_html(f"Offsets of {topic}", heads, rows)}</div>{where}'
    )


def _spark_html(spark: Spark) -> str:
    parts = ["<h2>Spark application</h2>"]
    if spark.error:
        parts.append(f'<p class="warn">{escape(spark.error)}</p>')
    if spark.application is not None:
        parts.append(_application_html(spark))
    if spark.master is not None:
        master = spark.master
        parts.append(
            f'<p class="quiet">Master <code>{escape(master.url)}</code>: {escape(master.status)}. '
            f"In use: {format_number(master.cores_used)} of {format_number(master.cores)} cores, "
            f"{format_number(master.memory_used_mib)} of {format_number(master.memory_mib)} MiB. "
            f"Workers: {format_number(master.workers)}. Applications: {format_number(master.running)} running, "
            f"{format_number(master.waiting)} waiting for cores.</p>"
        )
    return "".join(parts)


def _application_html(spark: Spark) -> str:
    application = spark.application
    if application is None:
        return ""
    rows = [
        [
            escape(executor.id) if executor.is_active else f"{escape(executor.id)} (dead)",
            format_number(executor.cores),
            format_number(executor.active_tasks),
            format_number(executor.completed_tasks),
            f'<span class="{"bad" if executor.failed_tasks else ""}">{format_number(executor.failed_tasks)}</span>',
            format_size(executor.peak_heap_bytes),
            format_duration(executor.gc_ms),
        ]
        for executor in application.executors
    ]
    heads = ("Executor", "Cores", "Active tasks", "Completed tasks", "Failed tasks", "Peak heap", "GC time")
    return (
        f"<p><strong>{escape(application.name)}</strong> <code>{escape(application.id)}</code>, "
        f"Spark {escape(application.spark_version)}, since {moment_html(application.started_at)}</p>"
        f'<div class="table tight">{elements.table_html("Executors", heads, rows)}</div>'
    )


class _Batches:
    """The charts and the table of the newest micro-batches, drawn again when there is a new one."""

    def __init__(self, visit: PageContext) -> None:
        self._topic = visit.context.pipeline.topic
        wanted = visit.query.get("last", "")
        self._last = min(int(wanted), MOST_BATCHES) if re.fullmatch("[1-9][0-9]{0,5}", wanted) else _LASTS[1]
        elements.add_heading("Micro-batches")
        links = " ".join(
            f'<a href="/stream?last={count}"{" aria-current=true" if count == self._last else ""}>last {count}</a>'
            for count in _LASTS
        )
        elements.add_html(links, tag="nav").classes("filters").props('aria-label="Number of micro-batches"')
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


_NO_BATCH = (
    '<div class="empty"><strong>No micro-batch had records in the last day.</strong>'
    f"<p>Trigger a run on the Runs page, or with: {elements.command_html(remedies.run_pipeline())}</p></div>"
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


def _legend_html(batches: list[Batch]) -> str:
    parts = phase_shares(batches)
    meanings = PHASES | {OTHER: "time that Spark does not attribute"}
    return "".join(
        f"<div><strong>{name}</strong> <span>{parts.get(name, 0):.0%}</span> <span class=quiet>{meaning}</span></div>"
        for name, meaning in meanings.items()
    )


def _table_html(batches: list[Batch], topic: str) -> str:
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


def _render_longest_phase(batch: Batch) -> str:
    phases = phases_ms(batch)
    name = max(phases, key=lambda phase: phases[phase])
    every = ", ".join(f"{phase} {format_duration(ms)}" for phase, ms in phases.items())
    return f'<span title="{escape(every)}">{name} {format_duration(phases[name])}</span>'


def _render_end_offsets(batch: Batch, topic: str) -> str:
    links = [
        message_link(topic, partition, end - 1, f"{partition}:{end - 1:,}")
        for partition, end in sorted(batch.positions.items())
        if end > 0
    ]
    return " ".join(links)


class _Failures:
    """The newest failures. A traceback is sent when it is opened."""

    def __init__(self, visit: PageContext) -> None:
        self._visit = visit
        self._shown: tuple[list[Failure], bool] | None = None
        elements.add_heading("Failures")
        self._list = ui.element("div")

    def show(self, failures: list[Failure], is_recovered: bool) -> None:
        """Show these failures if they have changed. The newest is highlighted unless the stream has recovered."""
        if (failures, is_recovered) == self._shown:
            return
        self._shown = failures, is_recovered
        self._list.clear()
        with self._list:
            if not failures:
                elements.add_html("No failures in the last 90 days.", tag="p").classes("quiet")
            for index, failure in enumerate(failures):
                _show_failure(failure, is_current=index == 0 and not is_recovered)


def _show_failure(failure: Failure, *, is_current: bool) -> None:
    with ui.element("div").classes("trouble" if is_current else "card failure"):
        label = "Current failure, " if is_current else ""
        elements.add_html(f"{label}{moment_html(failure.at)}", tag="p").classes("quiet")
        elements.add_html(escape(failure.error), tag="p")
        with ui.expansion("Stack trace").classes("trace") as trace:
            pass

        def fill() -> None:
            if trace.value and not trace.default_slot.children:
                with trace:
                    copy_button(failure.trace, "the stack trace")
                    elements.add_html(escape(failure.trace), tag="pre")

        trace.on_value_change(fill)
