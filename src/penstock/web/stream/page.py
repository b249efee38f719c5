"""The stream: whether it runs, what its micro-batches cost, its offsets, and its last failure."""

from functools import partial
from typing import Any

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.errors import PenstockError
from penstock.sink.progress import Failure
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.components import copy_button
from penstock.web.elements import (
    format_duration,
    format_number,
    format_size,
    moment_html,
    state_html,
    update_html,
)
from penstock.web.markup import NOTHING, html, join
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.stream.batch_charts import Batches
from penstock.web.stream.query import (
    QueryStatus,
    has_recovered,
)
from penstock.web.stream.streaming import JOB, Spark, Streaming, StreamState

_STATES = {
    "running": "ok",
    "waiting": "late",
    "stuck": "down",
    "starting": "busy",
    "stopped": "down",
    "unknown": "unknown",
}
_LABELS = {"waiting": "waiting to restart"}
_TONES = {"running": "ok", "waiting": "warn", "stuck": "bad", "starting": "warn", "stopped": "bad", "unknown": "quiet"}


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
            self._offsets = elements.add_html("", tag="section").classes("card")
            self._spark = elements.add_html("", tag="section").classes("card")
        self._unavailable = elements.add_html("", tag="div").props("role=status")
        self._batches = Batches(visit)
        self._failures = _Failures(visit)
        visit.every(REFRESH_S, self._refresh_page)

    async def _refresh_page(self) -> None:
        state = await self._visit.ask(self._streaming.read_state)
        self._control.show(state)
        update_html(self._offsets, _offsets_html(state, self._visit.context.pipeline.topic))
        update_html(self._spark, _spark_html(state.spark))
        try:
            facts = await self._visit.ask(self._streaming.facts)
        except PenstockError as error:
            update_html(self._unavailable, html('<div class="trouble"><p>{}</p></div>', error.message))
            return
        update_html(self._unavailable, "")
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
    shown = join(
        (html('<a href="{}" target="_blank" rel="noopener">{}</a>', to, name) for name, to in pages.items()), " · "
    )
    elements.add_html(html("Spark UIs: {}", shown)).classes("spark-pages")


def _verdict_html(query: QueryStatus, doing: str) -> Markup:
    label = doing or _LABELS.get(query.state, query.state)
    who = html("{}, since {}", query.owner, moment_html(query.since)) if query.owner else ""
    return html(
        '<div class="verdict {tone}"><strong>{state}</strong>'
        '<span>{message}</span><span class="quiet">{who}</span></div>',
        tone=_TONES[query.state],
        state=state_html(_STATES[query.state], label),
        message=query.told,
        who=who,
    )


def _offsets_html(state: StreamState, topic: str) -> Markup:
    if not state.partitions:
        return html("<h2>Offsets and lag</h2><p>The topic&rsquo;s offsets are unknown.</p>")
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
    waits = html("<p>Lag: <strong>{}</strong> records.</p>", format_number(state.lag))
    where = html('<p class="quiet">Checkpoint: <code>{}</code></p>', state.query.checkpoint)
    table = elements.table_html(f"Offsets of {topic}", heads, rows)
    return html("<h2>Offsets and lag</h2>{}{}{}", waits, elements.region_html("Offsets", table, "table tight"), where)


def _spark_html(spark: Spark) -> Markup:
    parts = [html("<h2>Spark application</h2>")]
    if spark.error:
        parts.append(html('<p class="warn">{}</p>', spark.error))
    if spark.application is not None:
        parts.append(_application_html(spark))
    if spark.master is not None:
        master = spark.master
        parts.append(
            html(
                '<p class="quiet">Master <code>{url}</code>: {status}. '
                "In use: {cores_used} of {cores} cores, {memory_used_mib} of {memory_mib} MiB. "
                "Workers: {workers}. Applications: {running} running, {waiting} waiting for cores.</p>",
                url=master.url,
                status=master.status,
                cores_used=format_number(master.cores_used),
                cores=format_number(master.cores),
                memory_used_mib=format_number(master.memory_used_mib),
                memory_mib=format_number(master.memory_mib),
                workers=format_number(master.workers),
                running=format_number(master.running),
                waiting=format_number(master.waiting),
            )
        )
    return join(parts)


def _application_html(spark: Spark) -> Markup:
    application = spark.application
    if application is None:
        return NOTHING
    rows = [
        [
            executor.id if executor.is_active else f"{executor.id} (dead)",
            format_number(executor.cores),
            format_number(executor.active_tasks),
            format_number(executor.completed_tasks),
            html(
                '<span class="{}">{}</span>',
                "bad" if executor.failed_tasks else "",
                format_number(executor.failed_tasks),
            ),
            format_size(executor.peak_heap_bytes),
            format_duration(executor.gc_ms),
        ]
        for executor in application.executors
    ]
    heads = ("Executor", "Cores", "Active tasks", "Completed tasks", "Failed tasks", "Peak heap", "GC time")
    return html(
        "<p><strong>{name}</strong> <code>{id}</code>, Spark {spark_version}, since {started_at}</p>{region}",
        name=application.name,
        id=application.id,
        spark_version=application.spark_version,
        started_at=moment_html(application.started_at),
        region=elements.region_html("Executors", elements.table_html("Executors", heads, rows), "table tight"),
    )


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
        elements.add_html(html("{}{}", label, moment_html(failure.at)), tag="p").classes("quiet")
        elements.add_html(failure.error, tag="p")
        with ui.expansion("Stack trace").classes("trace") as trace:
            pass

        def fill() -> None:
            if trace.value and not trace.default_slot.children:
                with trace:
                    copy_button(failure.trace, "the stack trace")
                    elements.add_html(failure.trace, tag="pre")

        trace.on_value_change(fill)
