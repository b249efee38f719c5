"""Runs of the DAG: the newest runs, the schedule, and triggering a run."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx2
from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.airflow.api_client import DAG_ID
from penstock.airflow.runs import NEWEST, DagRun
from penstock.errors import PenstockError, UsageError
from penstock.web import elements
from penstock.web.app_context import AppContext, create_dag
from penstock.web.elements import format_number, moment_html, state_html, update_html
from penstock.web.markup import html, join
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.query_cache import QueryCache
from penstock.web.runs import run as run_page
from penstock.web.runs.dag import Dag, Schedule, validate_parameters
from penstock.web.runs.run import format_elapsed, format_parameters, run_path, run_state_html

_FILTERS = {"": "all", "active": "active", "success": "success", "failed": "failed"}
_HEADS = ("Run", "State", "Type", "Started", "Duration", "Requested", "Fetched", "Produced", "Rejected", "Parameters")
_CONFIRMED = 10_000
"""Triggering a run of more records requires typing their number as confirmation."""


def register(context: AppContext) -> None:
    """Serve the pages."""
    dag = context.get_shared(create_dag)
    schedule = QueryCache(dag.read_schedule, for_s=REFRESH_S)
    run_page.register(context, dag)

    @page(context, "/runs", "Runs")
    def runs(visit: PageContext) -> None:
        with ui.element("div").classes("grid runs-top"):
            _Schedule(visit, dag, schedule)
            _Order(visit, dag, schedule)
        _List(visit)


class _Schedule:
    """The DAG's schedule, and the button that pauses and unpauses it."""

    def __init__(self, visit: PageContext, dag: Dag, schedule: QueryCache[Schedule]) -> None:
        self._visit, self._dag, self._schedule = visit, dag, schedule
        self._paused: bool | None = None
        with ui.element("section").classes("card"):
            elements.add_heading(f"DAG {DAG_ID}")
            self._status = elements.add_html("", tag="div").props("role=status")
            with ui.element("div").classes("row-bar"):
                self._switch = ui.button("Pause", on_click=self._on_click).props("outline no-caps")
                self._switch.disable()
                address = httpx2.URL(visit.context.settings.airflow_url).copy_with(userinfo=b"")
                elements.add_html(
                    html(
                        '<a href="{}/dags/{}" target="_blank" rel="noopener">Open in Airflow</a>',
                        str(address).rstrip("/"),
                        DAG_ID,
                    )
                )
        visit.every(REFRESH_S * 2, self.refresh)

    async def refresh(self) -> None:
        try:
            schedule = await self._visit.ask(self._schedule)
        except PenstockError as error:
            update_html(
                self._status, html("<p>{}</p><p>{}</p>", state_html("down", "Airflow is unavailable"), error.message)
            )
            self._switch.disable()
            self._paused = None
            return
        if self._paused is not schedule.paused:
            self._paused = schedule.paused
            self._switch.text = "Unpause" if schedule.paused else "Pause"
            self._switch.enable()
        update_html(self._status, _schedule_html(schedule))

    async def _on_click(self) -> None:
        pause = not self._paused
        if pause:
            text = "No runs start until it is unpaused: scheduled runs are skipped, triggered runs stay queued."
        else:
            text = "Queued runs start immediately, and so does today's scheduled run if it has not run yet."
        verb = "Pause" if pause else "Unpause"
        if not await elements.ask_confirmation(f"{verb} {DAG_ID}?", text, verb=verb):
            return
        self._switch.disable()
        await self._visit.act(f"{verb.lower()} DAG", DAG_ID, partial(self._dag.set_paused, pause))
        self._switch.enable()
        self._schedule.clear_cache()
        await self.refresh()


def _schedule_html(schedule: Schedule) -> Markup:
    state = state_html("late", "paused") if schedule.paused else state_html("ok", "active")
    next_run = "" if schedule.paused or not schedule.next_at else html("; next {}", moment_html(schedule.next_at))
    note = html("<p>Triggered runs stay queued until it is unpaused.</p>") if schedule.paused else ""
    schedule_text = f"{schedule.told[:1].lower()}{schedule.told[1:]}{'' if schedule.told == 'none' else ' UTC'}"
    return html(
        "<p>{state} Schedule: {schedule_text}{next_run}.</p>{note}",
        state=state,
        schedule_text=schedule_text,
        next_run=next_run,
        note=note,
    )


class _Order:
    """The form that triggers a run. `/runs?records=1000&rate=50` prefills it."""

    def __init__(self, visit: PageContext, dag: Dag, schedule: QueryCache[Schedule]) -> None:
        self._visit, self._dag, self._schedule = visit, dag, schedule
        prefilled = {name: _parse_number(visit.query.get(name)) for name in ("records", "seconds", "rate")}
        self._by = "seconds" if prefilled["seconds"] else "records"
        with ui.element("section").classes("card").props('aria-label="Trigger a run"'):
            elements.add_heading("Trigger a run")
            modes = {"records": "Number of records", "seconds": "Duration"}
            ui.radio(modes, value=self._by, on_change=self._on_mode_change).props("inline").classes("ways")
            with ui.element("div").classes("row-bar order"):
                self._records = _add_number_field("Records", prefilled["records"] or 500)
                self._seconds = _add_number_field("Seconds", prefilled["seconds"] or 60)
                self._rate = _add_number_field("Records per second", prefilled["rate"])
                self._button = ui.button("Trigger", icon="play_arrow", on_click=self._on_click).props("no-caps")
            elements.add_html("Without a rate, records are sent as fast as possible.", tag="p").classes("quiet")
            self._wrong = elements.add_html("", tag="p").classes("bad").props("role=alert")
        self._show_fields()

    def _on_mode_change(self, change: Any) -> None:
        self._by = change.value
        self._show_fields()

    def _show_fields(self) -> None:
        self._records.set_visibility(self._by == "records")
        self._seconds.set_visibility(self._by == "seconds")

    def _read_parameters(self) -> dict[str, Any]:
        by_records = self._by == "records"
        if by_records and self._records.value is None:
            raise UsageError("enter the number of records")
        if not by_records and (self._seconds.value is None or self._rate.value is None):
            raise UsageError("enter the duration and the number of records per second")
        return validate_parameters(
            self._records.value if by_records else None,
            None if by_records else self._seconds.value,
            self._rate.value,
        )

    async def _on_click(self) -> None:
        try:
            parameters = self._read_parameters()
            self._dag.check_pipeline()
        except PenstockError as error:
            update_html(self._wrong, str(error))
            return
        update_html(self._wrong, "")
        records = parameters["records"] or round(parameters["seconds"] * parameters["rate"])
        if records > _CONFIRMED and not await elements.ask_confirmation(
            f"Trigger a run of {records:,} records?",
            "They are fetched from the API and stored.",
            name=str(records),
            verb="Trigger",
        ):
            return
        self._button.disable()
        try:
            await self._trigger_run(parameters)
        finally:
            self._button.enable()

    async def _trigger_run(self, parameters: dict[str, Any]) -> None:
        try:
            self._schedule.clear_cache()
            paused = (await self._visit.ask(self._schedule)).paused
        except PenstockError as error:
            update_html(self._wrong, error.message)
            return
        choice = await _ask_unpause() if paused else "as it is"
        if choice == "unpause":
            await self._visit.act("unpause DAG", DAG_ID, partial(self._dag.set_paused, False))
            self._schedule.clear_cache()
        if choice:
            subject = ", ".join(f"{name}={value:g}" for name, value in parameters.items() if value is not None)
            run_id = await self._visit.act("trigger run", subject, partial(self._dag.trigger_run, parameters))
            if run_id:
                ui.navigate.to(run_path(run_id))


async def _ask_unpause() -> str | None:
    """Ask what to do about the paused DAG: `unpause`, `as it is` (queue the run), or None to cancel."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        elements.add_heading(f"{DAG_ID} is paused")
        text = "The run would stay queued until the DAG is unpaused. Unpausing also starts other queued runs."
        elements.add_html(text, tag="p")
        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat no-caps")
            ui.button("Queue the run", on_click=lambda: dialog.submit("as it is")).props("outline no-caps")
            ui.button("Unpause and trigger", on_click=lambda: dialog.submit("unpause")).props("no-caps")
    answer = await elements.await_answer(dialog)
    return answer if isinstance(answer, str) else None


def _add_number_field(label: str, value: float | None) -> ui.number:
    return ui.number(label, value=value, min=0, format="%.12g").props("outlined dense").classes("order-field")


def _parse_number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


class _List:
    """The newest runs. `/runs?state=failed` filters by state."""

    def __init__(self, visit: PageContext) -> None:
        self._context = visit.context
        self._only = visit.query.get("state", "")
        self._only = self._only if self._only in _FILTERS else ""
        elements.add_heading("Newest runs")
        links = join(
            (
                html(
                    '<a href="/runs{}"{}>{}</a>',
                    f"?state={key}" if key else "",
                    " aria-current=true" if key == self._only else "",
                    name,
                )
                for key, name in _FILTERS.items()
            ),
            " ",
        )
        elements.add_html(links, tag="nav").classes("filters").props('aria-label="Filter by state"')
        self._unavailable = elements.add_html("", tag="div").props("role=status")
        self._table = elements.add_html("", tag="div").classes("table tight")
        self._table.props('tabindex=0 role=region aria-label="Runs"')
        visit.every(REFRESH_S, self._refresh_runs)
        self._refresh_runs()

    def _refresh_runs(self) -> None:
        state = self._context.state
        error = state.now.services.get("airflow", "") if state.now else ""
        update_html(self._unavailable, _unavailable_html(error) if error else "")
        runs = [run for run in state.runs if _is_in_state(run, self._only)]
        update_html(self._table, _table(runs) if runs else _empty_html(loaded=state.now is not None, only=self._only))


def _unavailable_html(error: str) -> Markup:
    return html(
        '<div class="trouble"><p>Airflow is unavailable. Showing its last known state.</p><p>{}</p>{}</div>',
        error,
        elements.command_html(remedies.show_status()),
    )


def _is_in_state(run: DagRun, only: str) -> bool:
    return not only or (run.is_active if only == "active" else run.state == only)


def _empty_html(*, loaded: bool, only: str) -> Markup:
    if not loaded:
        return html('<div class="empty"><strong>Loading …</strong></div>')
    if only:
        return html('<div class="empty"><strong>No runs in state {}.</strong></div>', _FILTERS[only])
    hint = html("<p>Trigger one above, or with: {}</p>", elements.command_html(remedies.run_pipeline()))
    return html('<div class="empty"><strong>No runs yet.</strong>{}</div>', hint)


def _table(runs: list[DagRun]) -> Markup:
    now = datetime.now(UTC)
    return elements.table_html(f"At most the newest {NEWEST} runs", _HEADS, [_render_row(run, now) for run in runs])


def _render_row(run: DagRun, now: datetime) -> list[str]:
    counts = (run.asked, run.fetched, run.produced, run.refused)
    return [
        html('<a href="{}" class="mono">{}</a>', run_path(run.run_id), run.run_id),
        run_state_html(run.state),
        run.kind,
        moment_html(run.started_at or run.queued_at),
        format_elapsed(run.started_at, run.ended_at, now),
        *(format_number(count) for count in counts),
        html('<span class="mono">{}</span>', format_parameters(run.parameters)),
    ]
