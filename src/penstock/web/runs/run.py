"""A run: the progress of its records, its task's attempts, their logs, and its receipt."""

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup
from nicegui import ui

from penstock.errors import PenstockError
from penstock.produce import delivery_log
from penstock.produce.delivery_log import AttemptProgress
from penstock.reconcile.receipt import RunReceipt
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import (
    facts_html,
    format_duration,
    format_number,
    message_link,
    moment_html,
    state_html,
    update_html,
)
from penstock.web.markup import html, join
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.query_cache import QueryCache
from penstock.web.runs.dag import Dag, RunDetail, RunProgress, TaskLogLine, compute_progress, elapsed_s

_STATES = {"success": "ok", "running": "busy", "queued": "late", "failed": "down", "up_for_retry": "late"}
_SHARED = 50
"""Limit on cached queries: runs, logs and progress together."""
_MOST_LINES = 1000
_TONES = {"warning": "warn", "error": "bad", "critical": "bad"}
_COUNT_LABELS = {"asked": "requested"}
_ENDED = {"success", "failed", "up_for_retry", "skipped", "upstream_failed", "removed"}


def register(context: AppContext, dag: Dag) -> None:
    """Serve the page."""
    queries = RunQueries(context, dag)

    @page(context, "/runs/{run_id}", "Run")
    async def run(visit: PageContext) -> None:
        run_id = visit.path["run_id"]
        detail = await visit.ask(queries.query_run(run_id))
        _RunPage(visit, queries, detail)


class RunQueries:
    """Runs and logs with open pages, cached so that all viewers share one query."""

    def __init__(self, context: AppContext, dag: Dag) -> None:
        self.context = context
        self.dag = dag
        self._shared: dict[tuple[Any, ...], QueryCache[Any]] = {}
        self._lock = threading.Lock()

    def query_run(self, run_id: str) -> QueryCache[RunDetail]:
        """Return the cached query for a run's current state."""
        return self._get_cached(("run", run_id), partial(self.dag.read_run, run_id))

    def query_log(self, run_id: str, attempt: int) -> QueryCache[list[TaskLogLine]]:
        """Return the cached query for the log of an attempt."""
        return self._get_cached(("log", run_id, attempt), partial(self.dag.read_log, run_id, attempt))

    def query_progress(self, run_id: str) -> QueryCache[AttemptProgress | None]:
        """Return the cached query for a run's progress, read from its delivery log.

        The result is None if the log is kept on another machine.
        """
        folder = delivery_log.folder_of(self.context.settings)
        return self._get_cached(("progress", run_id), partial(delivery_log.read_progress, folder, run_id))

    def compute_progress(self, run_id: str) -> RunProgress:
        """Compute the progress of a run's records, from the API to the table."""
        detail, now = self.query_run(run_id)(), self.context.state.now
        is_running = detail.run.is_active and bool(detail.attempts)
        log = self.query_log(run_id, detail.attempts[-1].number)() if is_running else []
        progress = self.query_progress(run_id)() if detail.run.produced is None else None
        return compute_progress(detail, log, progress, now.partitions if now else [])

    def _get_cached(self, key: tuple[Any, ...], question: Callable[[], Any]) -> QueryCache[Any]:
        with self._lock:  # called from the event loop and from threads
            if key not in self._shared:
                while len(self._shared) >= _SHARED:
                    self._shared.pop(next(iter(self._shared)), None)
                self._shared[key] = QueryCache(question, for_s=REFRESH_S - 0.5)
            return self._shared[key]


class _RunPage:
    """The page of a run."""

    def __init__(self, visit: PageContext, queries: RunQueries, detail: RunDetail) -> None:
        self._visit, self._queries, self._id = visit, queries, detail.run.run_id
        self._complete = False
        with ui.element("div").classes("row-bar"):
            elements.add_html(html('<a href="/runs">All runs</a>'))
            elements.add_copyable(self._id, "the run's id")
        self._unavailable = elements.add_html("", tag="div").props("role=status")
        self._progress = elements.add_html("", tag="div").props('role=group aria-label="Progress of the records"')
        with ui.element("div").classes("grid run-parts"):
            self._facts = elements.add_html("", tag="section").classes("card")
            self._attempts = elements.add_html("", tag="section").classes("card")
            self._offsets = elements.add_html("", tag="section").classes("card")
            _Receipt(visit, queries.dag, self._id)
        self._log = _TaskLog(visit, queries, detail)
        visit.every(REFRESH_S, self._refresh_content)

    async def _refresh_content(self) -> None:
        if self._complete:
            return
        try:
            detail = await self._visit.ask(self._queries.query_run(self._id))
            progress = await self._visit.ask(self._queries.compute_progress, self._id)
        except PenstockError as error:
            update_html(self._unavailable, html('<div class="trouble"><p>{}</p></div>', error.message))
            return
        update_html(self._unavailable, "")
        update_html(self._progress, _progress_html(progress, detail))
        update_html(self._facts, _facts_html(detail))
        update_html(self._attempts, _attempts_html(detail))
        update_html(self._offsets, _offsets_html(detail, self._visit.context.pipeline.topic))
        self._log.offer(detail)
        self._complete = not detail.run.is_active and (progress.waiting == 0 or not detail.ranges)


class _Receipt:
    """The receipt, created on demand: that reads every record of the run."""

    def __init__(self, visit: PageContext, dag: Dag, run_id: str) -> None:
        self._visit, self._dag, self._id = visit, dag, run_id
        with ui.element("section").classes("card receipt"):
            elements.add_heading("Receipt")
            self._status = elements.add_html(_UNASKED, tag="div").props("role=status")
            self._button = ui.button("Create receipt", on_click=self._make).props("outline no-caps")

    async def _make(self) -> None:
        self._button.disable()
        update_html(self._status, html("<p>Checking every record …</p>"))
        try:
            receipt = await self._visit.ask(lambda: self._dag.create_receipt(self._id, self._visit.context.cassandra()))
            update_html(self._status, _receipt_html(receipt))
        except PenstockError as error:
            update_html(self._status, html('<p class="bad">{}</p>{}', error.message, elements.command_html(error.hint)))
        finally:
            self._button.enable()


_UNASKED = html("<p>Traces every record of the run from Kafka to its row, and lists missing records.</p>")


def _receipt_html(receipt: RunReceipt) -> Markup:
    state = (
        state_html("down", f"{receipt.missing:,} missing")
        if receipt.missing
        else state_html("ok", "nothing is missing")
    )
    names = ("asked", "fetched", "produced", "stored", "rejected", "filtered", "excused", "missing")
    counts = facts_html((_COUNT_LABELS.get(name, name), format_number(getattr(receipt, name))) for name in names)
    latency_ms = receipt.latency_ms
    stages = facts_html((name.replace("_", " "), moment_html(at)) for name, at in receipt.stages.items())
    missing = join(
        html("<li><code>{}</code></li>", " ".join(f"{key}={value}" for key, value in record.items()))
        for record in receipt.missing_records[:20]
    )
    return html(
        '<p>{state}</p><dl class="facts">{counts}<dt>latency p50</dt><dd>{p50}</dd>'
        "<dt>latency p99</dt><dd>{p99}</dd>{stages}</dl>{missing}",
        state=state,
        counts=counts,
        p50=format_duration(latency_ms["p50"]),
        p99=format_duration(latency_ms["p99"]),
        stages=stages,
        missing=html("<ul>{}</ul>", missing) if missing else "",
    )


class _TaskLog:
    """The log of an attempt. `?attempt=2&search=error` selects and filters it."""

    def __init__(self, visit: PageContext, queries: RunQueries, detail: RunDetail) -> None:
        self._visit, self._queries, self._id = visit, queries, detail.run.run_id
        wanted = visit.query.get("attempt", "")
        self._chosen = int(wanted) if re.fullmatch("[0-9]{1,6}", wanted) else None
        self._lines: list[TaskLogLine] = []
        self._states: dict[int, str] = {}
        self._read: int | None = None
        elements.add_heading("Task log")
        with ui.element("div").classes("row-bar"):
            self._attempt = ui.select({}, label="Attempt", on_change=self._on_attempt_change).props("outlined dense")
            self._attempt.classes("attempt")
            self._search = ui.input("Search", value=visit.query.get("search", ""), on_change=self._filter_lines)
            self._search.props("outlined dense clearable debounce=300").classes("search")
            self._follow = ui.switch("Follow", value=True)
            self._follow.set_visibility(False)
            self._status = elements.add_html("").classes("quiet").props("role=status")
        self._shown = elements.add_html("", tag="div").classes("log").props('tabindex=0 role=log aria-label="Task log"')
        self.offer(detail)
        visit.every(REFRESH_S, self._refresh_content)

    def offer(self, detail: RunDetail) -> None:
        """Update the choice of attempts. Selects the newest unless the viewer chose another."""
        states = {attempt.number: attempt.state for attempt in detail.attempts}
        if states == self._states:
            return
        self._states = states
        numbers = [number for number in states if number]
        chosen = self._chosen if self._chosen in numbers else max(numbers, default=None)
        self._attempt.set_options({number: f"{number}: {states[number]}" for number in numbers}, value=chosen)

    def _on_attempt_change(self, change: Any) -> None:
        if change.value is not None and change.value != max(self._states, default=None):
            self._chosen = change.value
            self._update_url()
        self._read = None

    def _filter_lines(self) -> None:
        self._update_url()
        self._show_lines()

    def _update_url(self) -> None:
        """Put the chosen attempt and search into the URL, so that it can be shared."""
        parameters = {"attempt": self._chosen, "search": self._search.value}
        query = urlencode({name: value for name, value in parameters.items() if value})
        ui.navigate.history.replace(f"{run_path(self._id)}{f'?{query}' if query else ''}")

    async def _refresh_content(self) -> None:
        attempt = self._attempt.value
        if attempt is None:
            update_html(self._shown, html('<p class="quiet">No attempt has started yet. The log appears here.</p>'))
            return
        ended = self._states.get(attempt) in _ENDED
        self._follow.set_visibility(not ended)
        if self._read == attempt and (ended or not self._follow.value):
            return
        try:
            self._lines = await self._visit.ask(self._queries.query_log(self._id, attempt))
        except PenstockError as error:
            update_html(self._status, html('<span class="bad">{}</span>', error.message))
            return
        self._read = attempt
        self._show_lines()
        if not ended:
            ui.run_javascript(f"const log = getHtmlElement({self._shown.id}); log.scrollTop = log.scrollHeight")

    def _show_lines(self) -> None:
        search = (self._search.value or "").lower()
        matches = [line for line in self._lines if search in line.text.lower()]
        update_html(
            self._status,
            f"{format_number(len(matches))} of {format_number(len(self._lines))} lines{_limit_note(len(matches))}",
        )
        update_html(
            self._shown,
            join(map(_line_html, matches[-_MOST_LINES:])) or html('<p class="quiet">No matching lines.</p>'),
        )


def _limit_note(count: int) -> str:
    return f", newest {format_number(_MOST_LINES)} shown" if count > _MOST_LINES else ""


def _line_html(line: TaskLogLine) -> Markup:
    tone = _TONES.get(line.level, "")
    facts = join((html('<span class="quiet">{}=</span>{}', name, value) for name, value in line.facts.items()), " ")
    error = html("<pre>{}</pre>", line.error) if line.error else ""
    at = moment_html(line.at) if line.at else ""
    level = html('<b class="{}">{}</b> ', tone, line.level) if tone else ""
    return html(
        "<div>{at} {level}{event} {facts}{error}</div>", at=at, level=level, event=line.event, facts=facts, error=error
    )


def _progress_html(progress: RunProgress, detail: RunDetail) -> Markup:
    run = detail.run
    handled = format_number(progress.handled)
    handled_label = "stored or dead-lettered"
    if progress.handled is None and progress.waiting:
        handled_label = f"stored or dead-lettered; at most {format_number(progress.waiting)} pending"
    elif progress.waiting:
        handled_label = f"stored or dead-lettered; {format_number(progress.waiting)} pending"
    steps = [
        ("asked", format_number(progress.asked), "requested"),
        ("fetched", format_number(progress.fetched), "fetched from the API"),
        ("produced", format_number(progress.produced), f"produced to Kafka{_refused_note(progress)}"),
        ("handled", handled, handled_label),
    ]
    cells = join(
        html('<li id="way-{}"><strong>{}</strong><span class="quiet">{}</span></li>', key, value, label)
        for key, value, label in steps
    )
    note = html(
        '<p class="warn">The run is queued. It starts when Airflow has a free slot and the DAG is not paused.</p>'
    )
    return html('<ol class="way">{}</ol>{}', cells, note if run.state == "queued" else "")


def _refused_note(progress: RunProgress) -> str:
    return f"; {format_number(progress.refused)} rejected at the source" if progress.refused else ""


def _facts_html(detail: RunDetail) -> Markup:
    run, now = detail.run, datetime.now(UTC)
    pairs: list[tuple[str, str]] = [
        ("state", run_state_html(run.state)),
        ("type", run.kind),
        ("queued", moment_html(run.queued_at)),
        ("started", moment_html(run.started_at)),
        ("ended", moment_html(run.ended_at)),
        ("duration", format_elapsed(run.started_at, run.ended_at, now)),
        ("parameters", format_parameters(run.parameters)),
    ]
    if detail.summary:
        pairs += [
            ("fetch duration", format_duration(detail.summary.get("fetch_seconds", 0) * 1000)),
            ("task duration", format_duration(detail.summary.get("seconds", 0) * 1000)),
            ("size of values", elements.format_size(detail.summary.get("bytes"))),
            ("schema", str(detail.summary.get("schema_id", ""))),
        ]
    return html('<h2>Run</h2><dl class="facts">{}</dl>', facts_html(pairs))


def _attempts_html(detail: RunDetail) -> Markup:
    now = datetime.now(UTC)
    attempts = [attempt for attempt in detail.attempts if attempt.number]
    if not attempts:
        return html("<h2>Attempts</h2><p>No attempts yet.</p>")
    rows = [
        [
            html('<a href="?attempt={0}">{0}</a>', attempt.number),
            run_state_html(attempt.state),
            moment_html(attempt.started_at),
            format_elapsed(attempt.started_at, attempt.ended_at, now),
        ]
        for attempt in attempts
    ]
    table = elements.table_html("Attempts of the task stream_data", ("Attempt", "State", "Started", "Duration"), rows)
    return html("<h2>Attempts</h2>{}", elements.region_html("Attempts", table, "table tight"))


def _offsets_html(detail: RunDetail, topic: str) -> Markup:
    if not detail.ranges:
        return html("<h2>Offsets</h2><p>Available when the task has succeeded.</p>")
    rows = [
        [
            str(offset_range.partition),
            *(
                message_link(topic, offset_range.partition, offset)
                for offset in (offset_range.first, offset_range.end - 1)
            ),
        ]
        for offset_range in detail.ranges
    ]
    table = elements.table_html(f"Offset range of the run in {topic}", ("Partition", "First", "Last"), rows)
    return html("<h2>Offsets</h2>{}", elements.region_html("Offsets", table, "table tight"))


def run_path(run_id: str) -> str:
    """Return the path of a run's page."""
    return f"/runs/{quote(run_id, safe='')}"


def run_state_html(state: str) -> Markup:
    """Return HTML for the state of a run or an attempt, as Airflow names it."""
    return state_html(_STATES.get(state, "unknown"), state.replace("_", " "))


def format_elapsed(began: str | None, ended: str | None, now: datetime) -> str:
    """Format a duration. If still running, the time so far in whole seconds."""
    seconds = elapsed_s(began, ended, now)
    return format_duration(None if seconds is None else (seconds if ended else round(seconds)) * 1000)


def format_parameters(parameters: dict[str, Any]) -> str:
    """Format the parameters that were given, or `defaults`."""
    return " ".join(f"{name}={value}" for name, value in parameters.items() if value is not None) or "defaults"
