"""One run: how far its records have come, its task's attempts, their logs, and its receipt."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

from nicegui import ui

from penstock.control import elements
from penstock.control.desk import Desk
from penstock.control.elements import duration, message_link, moment_html, number, put, state_html
from penstock.control.frame import REFRESH_S, Visit, page
from penstock.control.shared import Shared
from penstock.errors import PenstockError
from penstock.observe.dag import Dag, Detail, Line, Way, seconds_between, way
from penstock.observe.receipt import RunReceipt
from penstock.produce import journal
from penstock.produce.journal import SoFar

_STATES = {"success": "ok", "running": "busy", "queued": "late", "failed": "down", "up_for_retry": "late"}
_SHARED = 50
"""So many runs that are looked at are asked for once for all who look."""
_MOST_LINES = 1000
_TONES = {"warning": "warn", "error": "bad", "critical": "bad"}
_ENDED = {"success", "failed", "up_for_retry", "skipped", "upstream_failed", "removed"}


def register(desk: Desk, dag: Dag) -> None:
    """Serve the page."""
    watched = Watched(desk, dag)

    @page(desk, "/runs/{run_id}", "Run")
    async def run(visit: Visit) -> None:
        run_id = visit.path["run_id"]
        found = await visit.ask(watched.detail(run_id))
        _Run(visit, watched, found)


class Watched:
    """The runs that are looked at, and the logs: asked for once for all who look."""

    def __init__(self, desk: Desk, dag: Dag) -> None:
        self.desk = desk
        self.dag = dag
        self._shared: dict[tuple[Any, ...], Shared[Any]] = {}

    def detail(self, run_id: str) -> Shared[Detail]:
        """A run as it is now."""
        return self._share(("run", run_id), partial(self.dag.detail, run_id))

    def log(self, run_id: str, attempt: int) -> Shared[list[Line]]:
        """The log of an attempt."""
        return self._share(("log", run_id, attempt), partial(self.dag.log, run_id, attempt))

    def progress(self, run_id: str) -> Shared[SoFar | None]:
        """How far it is, by the journal; None when that is kept elsewhere."""
        folder = journal.folder_of(self.desk.settings)
        return self._share(("journal", run_id), partial(journal.progress, folder, run_id))

    def way(self, run_id: str) -> Way:
        """How far a run's records have come."""
        found, now = self.detail(run_id)(), self.desk.view.now
        active = found.run.is_active and bool(found.attempts)
        log = self.log(run_id, found.attempts[-1].number)() if active else []
        written = self.progress(run_id)() if found.run.produced is None else None
        return way(found, log, written, now.partitions if now else [])

    def _share(self, key: tuple[Any, ...], question: Callable[[], Any]) -> Shared[Any]:
        if key not in self._shared:
            while len(self._shared) >= _SHARED:
                self._shared.pop(next(iter(self._shared)), None)
            self._shared[key] = Shared(question, for_s=REFRESH_S - 0.5)
        return self._shared[key]


class _Run:
    """The page of one run."""

    def __init__(self, visit: Visit, watched: Watched, found: Detail) -> None:
        self._visit, self._watched, self._id = visit, watched, found.run.run_id
        self._complete = False
        with ui.element("div").classes("row-bar"):
            elements.markup('<a href="/runs">All runs</a>')
            elements.copyable(self._id, "the run's id")
        self._away = elements.markup("", tag="div").props("role=status")
        self._way = elements.markup("", tag="div").props('role=group aria-label="How far its records have come"')
        with ui.element("div").classes("grid run-parts"):
            self._facts = elements.markup("", tag="section").classes("card")
            self._attempts = elements.markup("", tag="section").classes("card")
            self._offsets = elements.markup("", tag="section").classes("card")
            _Receipt(visit, watched.dag, self._id)
        self._log = _Log(visit, watched, found)
        visit.every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        if self._complete:
            return
        try:
            found = await self._visit.ask(self._watched.detail(self._id))
            how_far = await self._visit.ask(self._watched.way, self._id)
        except PenstockError as error:
            put(self._away, f'<div class="trouble"><p>{escape(error.message)}</p></div>')
            return
        put(self._away, "")
        put(self._way, _way_html(how_far, found))
        put(self._facts, _facts_html(found))
        put(self._attempts, _attempts_html(found))
        put(self._offsets, _offsets_html(found, self._visit.desk.pipeline.topic))
        self._log.offer(found)
        self._complete = not found.run.is_active and (how_far.waiting == 0 or not found.spans)


class _Receipt:
    """The receipt, made when it is asked for: it looks at each record."""

    def __init__(self, visit: Visit, dag: Dag, run_id: str) -> None:
        self._visit, self._dag, self._id = visit, dag, run_id
        with ui.element("section").classes("card receipt"):
            elements.heading("Receipt")
            self._told = elements.markup(_UNASKED, tag="div").props("role=status")
            self._button = ui.button("Make the receipt", on_click=self._make).props("outline no-caps")

    async def _make(self) -> None:
        self._button.disable()
        put(self._told, "<p>Looking at each record …</p>")
        try:
            found = await self._visit.ask(lambda: self._dag.receipt(self._id, self._visit.desk.cassandra()))
            put(self._told, _receipt_html(found))
        except PenstockError as error:
            put(self._told, f'<p class="bad">{escape(error.message)}</p>{elements.command_html(error.hint)}')
        finally:
            self._button.enable()


_UNASKED = "<p>Follows each of the run&rsquo;s records from Kafka to its row, and names what is missing.</p>"


def _receipt_html(found: RunReceipt) -> str:
    state = (
        state_html("down", f"{found.missing:,} missing") if found.missing else state_html("ok", "nothing is missing")
    )
    names = ("asked", "fetched", "produced", "stored", "rejected", "filtered", "missing")
    counts = "".join(f"<dt>{name}</dt><dd>{number(getattr(found, name))}</dd>" for name in names)
    late = found.latency_ms
    stages = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{moment_html(at)}</dd>" for name, at in found.stages.items()
    )
    lost = "".join(
        f"<li><code>{escape(' '.join(f'{key}={value}' for key, value in one.items()))}</code></li>"
        for one in found.missing_records[:20]
    )
    return (
        f'<p>{state}</p><dl class="facts">{counts}<dt>half within</dt><dd>{duration(late["p50"])}</dd>'
        f"<dt>99 % within</dt><dd>{duration(late['p99'])}</dd>{stages}</dl>{f'<ul>{lost}</ul>' if lost else ''}"
    )


class _Log:
    """The log of an attempt. `?attempt=2&search=error` shows just that."""

    def __init__(self, visit: Visit, watched: Watched, found: Detail) -> None:
        self._visit, self._watched, self._id = visit, watched, found.run.run_id
        wanted = visit.query.get("attempt", "")
        self._chosen = int(wanted) if re.fullmatch("[0-9]{1,6}", wanted) else None
        self._lines: list[Line] = []
        self._states: dict[int, str] = {}
        self._read: int | None = None
        elements.heading("Task log")
        with ui.element("div").classes("row-bar"):
            self._attempt = ui.select({}, label="Attempt", on_change=self._choose).props("outlined dense")
            self._attempt.classes("attempt")
            self._search = ui.input("Search", value=visit.query.get("search", ""), on_change=self._seek)
            self._search.props("outlined dense clearable debounce=300").classes("search")
            self._follow = ui.switch("Follow", value=True)
            self._follow.set_visibility(False)
            self._told = elements.markup("").classes("quiet").props("role=status")
        self._shown = elements.markup("", tag="div").classes("log").props('tabindex=0 role=log aria-label="Task log"')
        self.offer(found)
        visit.every(REFRESH_S, self._refresh)

    def offer(self, found: Detail) -> None:
        """Offer these attempts; the newest, unless one was chosen."""
        states = {one.number: one.state for one in found.attempts}
        if states == self._states:
            return
        self._states = states
        numbers = [one for one in states if one]
        chosen = self._chosen if self._chosen in numbers else max(numbers, default=None)
        self._attempt.set_options({one: f"{one}: {states[one]}" for one in numbers}, value=chosen)

    def _choose(self, change: Any) -> None:
        if change.value is not None and change.value != max(self._states, default=None):
            self._chosen = change.value
            self._keep_link()
        self._read = None

    def _seek(self) -> None:
        self._keep_link()
        self._show()

    def _keep_link(self) -> None:
        """The address shows what is looked at, to be shared."""
        told = {"attempt": self._chosen, "search": self._search.value}
        query = urlencode({name: value for name, value in told.items() if value})
        ui.navigate.history.replace(f"{address(self._id)}{f'?{query}' if query else ''}")

    async def _refresh(self) -> None:
        attempt = self._attempt.value
        if attempt is None:
            put(self._shown, '<p class="quiet">No attempt has begun yet: the log appears here.</p>')
            return
        ended = self._states.get(attempt) in _ENDED
        self._follow.set_visibility(not ended)
        if self._read == attempt and (ended or not self._follow.value):
            return
        try:
            self._lines = await self._visit.ask(self._watched.log(self._id, attempt))
        except PenstockError as error:
            put(self._told, f'<span class="bad">{escape(error.message)}</span>')
            return
        self._read = attempt
        self._show()
        if not ended:
            ui.run_javascript(f"const log = getHtmlElement({self._shown.id}); log.scrollTop = log.scrollHeight")

    def _show(self) -> None:
        words = (self._search.value or "").lower()
        found = [line for line in self._lines if words in line.text.lower()]
        put(self._told, f"{number(len(found))} of {number(len(self._lines))} lines{_limit(len(found))}")
        put(self._shown, "".join(map(_line_html, found[-_MOST_LINES:])) or '<p class="quiet">No line.</p>')


def _limit(count: int) -> str:
    return f", the newest {number(_MOST_LINES)} are shown" if count > _MOST_LINES else ""


def _line_html(line: Line) -> str:
    tone = _TONES.get(line.level, "")
    facts = " ".join(f'<span class="quiet">{escape(name)}=</span>{escape(value)}' for name, value in line.facts.items())
    error = f"<pre>{escape(line.error)}</pre>" if line.error else ""
    at = moment_html(line.at) if line.at else ""
    level = f'<b class="{tone}">{escape(line.level)}</b> ' if tone else ""
    return f"<div>{at} {level}{escape(line.event)} {facts}{error}</div>"


def _way_html(how_far: Way, found: Detail) -> str:
    run = found.run
    handled = number(how_far.handled)
    after = "stored, or set aside"
    if how_far.handled is None and how_far.waiting:
        after = f"stored, or set aside: at most {number(how_far.waiting)} wait"
    elif how_far.waiting:
        after = f"stored, or set aside; {number(how_far.waiting)} wait"
    steps = [
        ("asked", number(how_far.asked), "asked for"),
        ("fetched", number(how_far.fetched), "fetched from the API"),
        ("produced", number(how_far.produced), f"produced to Kafka{_refused(how_far)}"),
        ("handled", handled, after),
    ]
    cells = "".join(
        f'<li id="way-{key}"><strong>{value}</strong><span class="quiet">{told}</span></li>'
        for key, value, told in steps
    )
    waits = '<p class="warn">It is queued: it begins when Airflow has a free place and the DAG is not paused.</p>'
    return f'<ol class="way">{cells}</ol>{waits if run.state == "queued" else ""}'


def _refused(how_far: Way) -> str:
    return f"; {number(how_far.refused)} refused" if how_far.refused else ""


def _facts_html(found: Detail) -> str:
    run, now = found.run, datetime.now(UTC)
    pairs = [
        ("state", run_state(run.state)),
        ("kind", escape(run.kind)),
        ("queued", moment_html(run.queued_at)),
        ("began", moment_html(run.started_at)),
        ("ended", moment_html(run.ended_at)),
        ("took", took(run.started_at, run.ended_at, now)),
        ("parameters", escape(told_parameters(run.parameters))),
    ]
    if found.summary:
        pairs += [
            ("fetching took", duration(found.summary.get("fetch_seconds", 0) * 1000)),
            ("the task took", duration(found.summary.get("seconds", 0) * 1000)),
            ("values", elements.size(found.summary.get("bytes"))),
            ("schema", escape(str(found.summary.get("schema_id", "")))),
        ]
    cells = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in pairs)
    return f'<h2>Run</h2><dl class="facts">{cells}</dl>'


def _attempts_html(found: Detail) -> str:
    now = datetime.now(UTC)
    begun = [one for one in found.attempts if one.number]
    if not begun:
        return "<h2>Attempts</h2><p>None has begun yet.</p>"
    rows = [
        [
            f'<a href="?attempt={one.number}">{one.number}</a>',
            run_state(one.state),
            moment_html(one.started_at),
            took(one.started_at, one.ended_at, now),
        ]
        for one in begun
    ]
    table = elements.table_html("Of the task stream_data", ("Attempt", "State", "Began", "Took"), rows)
    return f'<h2>Attempts</h2><div class="table tight">{table}</div>'


def _offsets_html(found: Detail, topic: str) -> str:
    if not found.spans:
        return "<h2>Offsets</h2><p>Known once the task has ended well: where in the topic its records lie.</p>"
    rows = [
        [str(one.partition), *(message_link(topic, one.partition, offset) for offset in (one.first, one.end - 1))]
        for one in found.spans
    ]
    table = elements.table_html(f"Its records lie between these, in {topic}", ("Partition", "First", "Last"), rows)
    return f'<h2>Offsets</h2><div class="table tight">{table}</div>'


def address(run_id: str) -> str:
    """Where a run's own page is."""
    return f"/runs/{quote(run_id, safe='')}"


def run_state(state: str) -> str:
    """The state of a run or of an attempt, in Airflow's words."""
    return state_html(_STATES.get(state, "unknown"), state.replace("_", " "))


def took(began: str | None, ended: str | None, now: datetime) -> str:
    """How long it took, or takes so far: then in whole seconds."""
    seconds = seconds_between(began, ended, now)
    return duration(None if seconds is None else (seconds if ended else round(seconds)) * 1000)


def told_parameters(parameters: dict[str, Any]) -> str:
    """The parameters that were given."""
    return " ".join(f"{name}={value}" for name, value in parameters.items() if value is not None) or "defaults"
