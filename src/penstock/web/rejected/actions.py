"""Actions on rejected records: repair, redrive, discard, export."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.contract.fields import fields
from penstock.dead_letters.message import DeadLetterSummary
from penstock.dead_letters.pending import Named
from penstock.dead_letters.redrive import Discarded, Redriven
from penstock.dead_letters.repair import Repair
from penstock.errors import PenstockError
from penstock.web import elements
from penstock.web.elements import facts_html, format_number, update_html
from penstock.web.markup import html, join
from penstock.web.page_layout import PageContext
from penstock.web.rejected.dead_letter_service import DeadLetterService

T = TypeVar("T")
Entries = Callable[[], Awaitable[list[DeadLetterSummary]]]
_NAMED = 20
_BUTTON = "no-caps outline"


class Actions:
    """Actions on a selection: `list_pending` returns what to redrive or discard, `list_selected` what to export."""

    def __init__(
        self,
        visit: PageContext,
        letters: DeadLetterService,
        list_pending: Entries,
        name: str,
        on_done: Callable[[], Awaitable[None]],
        list_selected: Entries,
    ) -> None:
        self._visit, self._letters = visit, letters
        self._list_pending, self._list_selected, self._on_done = list_pending, list_selected, on_done
        self._name = name
        """The text to type as confirmation of a discard."""
        self._fields: list[tuple[ui.select, ui.input]] = []
        self._as_new: ui.checkbox | None = None

    def build(self) -> None:
        """Build the forms, and an element for their outcome."""
        elements.add_heading("Repair, redrive, discard")
        elements.add_html(
            "A redriven record keeps its position in the order of the topic. If a newer version of its id is stored, "
            "it is not sent and becomes superseded.",
            tag="p",
        )
        self._as_new = ui.checkbox("Redrive as the newest version, even if a newer one is stored")
        with ui.element("div").classes("grid"):
            with ui.element("section").classes("card"):
                self._build_set_form()
            with ui.element("section").classes("card"):
                self._build_redrive_form()
            with ui.element("section").classes("card"):
                self._build_discard_form()
            with ui.element("section").classes("card"):
                self._build_export_form()
        self._status = elements.add_html("", tag="div").classes("outcome").props("role=status aria-live=polite")

    def _build_set_form(self) -> None:
        elements.add_heading("Set fields", 3)
        elements.add_html(
            "Sets the same value in every pending record. Records that are then valid are sent once.", tag="p"
        )
        self._rows = ui.element("div")
        self._add_field()
        with ui.element("div").classes("row-bar"):
            ui.button("Add field", on_click=self._add_field).props(f"{_BUTTON} flat")
            ui.button("Dry run", on_click=lambda: self._dry_run(self._read_fields)).props(_BUTTON)
            ui.button("Repair and redrive", on_click=lambda: self.send(self._read_fields, "repair and redrive")).props(
                "no-caps"
            )

    def _add_field(self) -> None:
        names = [field.name for field in fields(self._visit.context.pipeline.record)]
        with self._rows, ui.element("div").classes("row-bar"):
            name = ui.select(names, label="Field").props("outlined dense options-dense").classes("field-name")
            value = ui.input("New value").props("outlined dense").classes("field-value")
        self._fields.append((name, value))

    def _read_fields(self) -> Repair:
        return self._letters.set_fields(
            [f"{name.value}={value.value or ''}" for name, value in self._fields if name.value]
        )

    def _build_redrive_form(self) -> None:
        elements.add_heading("Redrive unchanged", 3)
        text = "For records that are valid now because a schema or a rule has changed. Others remain pending."
        elements.add_html(text, tag="p")
        with ui.element("div").classes("row-bar"):
            ui.button("Dry run unchanged", on_click=lambda: self._dry_run(Repair)).props(_BUTTON)
            ui.button("Redrive", on_click=lambda: self.send(Repair, "redrive")).props("no-caps")

    def _build_discard_form(self) -> None:
        elements.add_heading("Discard", 3)
        elements.add_html(
            "Discarded records stay in the topic until retention deletes them, and are never sent.", tag="p"
        )
        self._note = ui.input("Reason (stored with user and time)").props("outlined dense")
        ui.button("Discard", on_click=self._discard_records, color=None).props(_BUTTON).classes("danger")

    def _build_export_form(self) -> None:
        elements.add_heading("Export", 3)
        elements.add_html(
            html("JSON lines in the format of <code>{}</code>, for editing in a file.", remedies.export_dead_letters()),
            tag="p",
        )
        button = ui.button("Export", on_click=self._export_records).props(_BUTTON)
        if self._visit.masks:
            button.disable()
            text = "An export contains personal data. Show personal data first, with the button at the top of the page."
            elements.add_html(text, tag="p").classes("quiet")

    async def _run_query(self, question: Callable[[], T]) -> T | None:
        """Run `question` and return its result. On a `PenstockError`, show that and return None."""
        try:
            return await self._visit.ask(question)
        except PenstockError as error:
            hint = html("<br>{}", elements.command_html(error.hint)) if error.hint else ""
            update_html(self._status, html('<div class="trouble" role="alert"><p>{}</p>{}</div>', error.message, hint))
            return None

    async def _pending_positions(self) -> list[str]:
        """Return the positions of the records that are pending now; if there are none, say so on the page."""
        update_html(self._status, html("<p>Checking the records …</p>"))
        try:
            positions = [entry.place for entry in await self._list_pending()]
        except PenstockError as error:
            update_html(self._status, html('<div class="trouble" role="alert"><p>{}</p></div>', error.message))
            return []
        if not positions:
            update_html(self._status, html("<p>Nothing to do: none of these records is pending.</p>"))
        return positions

    async def _dry_run(self, build_repair: Callable[[], Repair]) -> tuple[list[str], Repair, Redriven] | None:
        """Do a dry run, and show how many records would be sent and which are still invalid."""
        positions = await self._pending_positions()
        if not positions:
            return None
        repair = await self._run_query(build_repair)
        if repair is None:
            return None
        as_new = self._is_as_new()
        result = await self._run_query(lambda: self._letters.redrive(positions, repair, as_new=as_new, dry_run=True))
        if result is None:
            return None
        update_html(self._status, self._outcome_html(result))
        return positions, repair, result

    async def send(self, build_repair: Callable[[], Repair], action: str) -> None:
        """Do a dry run, ask for confirmation, send the records and show the outcome."""
        trial = await self._dry_run(build_repair)
        if trial is None or not (trial[2].sent or trial[2].superseded):
            return
        positions, repair, expected = trial
        as_new, question = self._is_as_new(), _describe_redrive(expected, self._visit.context.pipeline.topic)
        if not await elements.ask_confirmation("Redrive?", question, verb="Redrive"):
            return
        result = await self._visit.act(
            action, _join_positions(positions), lambda: self._letters.redrive(positions, repair, as_new=as_new)
        )
        if result is not None:
            update_html(self._status, self._outcome_html(result))
        await self._on_done()

    async def _discard_records(self) -> None:
        positions = await self._pending_positions()
        if not positions:
            return
        question = f"{format_number(len(positions))} records are discarded permanently. They can never be sent."
        if not await elements.ask_confirmation("Discard?", question, name=self._name, verb="Discard"):
            return
        note = f"{self._note.value or ''} (by {self._visit.session.name})".strip()
        result = await self._visit.act(
            "discard", _join_positions(positions), lambda: self._letters.discard(positions, note)
        )
        if result is not None:
            update_html(self._status, self._outcome_html(result))
        await self._on_done()

    async def _export_records(self) -> None:
        if self._visit.masks:
            return
        entries = await self._list_selected()
        subject = _join_positions([entry.place for entry in entries])
        export = await self._visit.act("export dead letters", subject, lambda: self._letters.export(entries))
        if export is None:
            return
        ui.download.content(
            export.content, f"dead-letters-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl", "application/jsonl"
        )
        rest = (
            html(
                " {} exceed the limit. Export all: <code>{}</code>",
                format_number(export.left_out),
                remedies.export_dead_letters(),
            )
            if export.left_out
            else ""
        )
        update_html(self._status, html("<p>{} records exported.{}</p>", format_number(export.records), rest))

    def _outcome_html(self, result: Redriven | Discarded) -> Markup:
        """Return HTML for the result of an action or a dry run: counts, and the records not sent with the reason."""
        is_dry_run = result.dry_run
        labels = {
            "sent": "would be sent" if is_dry_run else "sent",
            "superseded": "superseded",
            "still_broken": "still invalid",
            "discarded": "discarded",
            "in_hand": "in flight in another command",
            "already": "already resolved",
        }
        counts = [
            (label, format_number(getattr(result, name))) for name, label in labels.items() if getattr(result, name, 0)
        ]
        not_sent = [record for record in result.records if record.outcome not in ("sent", "discarded")][:_NAMED]
        lines = join(self._record_html(record, labels[record.outcome]) for record in not_sent)
        title = "Dry run" if is_dry_run else "Result"
        return html(
            '<section class="card"><h3>{}</h3><dl class="facts">{}</dl><ul>{}</ul></section>',
            title,
            facts_html(counts),
            lines,
        )

    def _record_html(self, record: Named, outcome: str) -> Markup:
        return html(
            '<li><a href="/rejected/{path}">{place}</a> {outcome}: {reason}</li>',
            path=record.place.replace(":", "/"),
            place=record.place,
            outcome=outcome,
            reason=self._explain_outcome(record),
        )

    def _explain_outcome(self, record: Named) -> str:
        """Return why a record was not sent. The message may quote its data, so masked viewers get the rules only."""
        named = ", ".join(record.rules)
        if self._visit.masks and record.outcome != "superseded":
            return named or "personal data is hidden"
        return record.message or named

    def _is_as_new(self) -> bool:
        return self._as_new is not None and bool(self._as_new.value)


def _describe_redrive(expected: Redriven, topic: str) -> str:
    """Return what a confirmed redrive does, by its dry run."""
    noun = "record is" if expected.sent == 1 else "records are"
    parts = [f"{format_number(expected.sent)} {noun} sent to {topic}, once."]
    if expected.superseded:
        parts.append(
            f"{format_number(expected.superseded)} have a newer version in the table and become superseded, unsent."
        )
    if expected.still_broken:
        parts.append(f"{format_number(expected.still_broken)} are still invalid, and remain pending.")
    return " ".join(parts)


def _join_positions(positions: list[str]) -> str:
    """Summarize positions for the audit log: the first three, and the number of others."""
    others = f" and {len(positions) - 3} more" if len(positions) > 3 else ""
    return f"{', '.join(positions[:3])}{others}"
