"""One rejected record: its content, the rules it violates, its origin, and an editor to repair it."""

from functools import partial

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.contract.fault import Stage
from penstock.dead_letters.message import DeadLetter, DeadLetterSummary, summarize
from penstock.dead_letters.repair import Repair, StillInvalid
from penstock.dead_letters.resolutions import WAITING
from penstock.errors import NotFound, PenstockError
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import update_html
from penstock.web.markup import html, join
from penstock.web.page_layout import PageContext, page
from penstock.web.rejected.actions import Actions
from penstock.web.rejected.dead_letter_service import DeadLetterService
from penstock.web.rejected.reader import DeadLetterDetails
from penstock.web.rejected.record_cards import details_cards_html, list_facts

_EDITED_CHARACTERS = 100_000


def register(context: AppContext, letters: DeadLetterService) -> None:
    """Serve the page."""

    @page(context, "/rejected/{partition}/{offset}", "Dead letter")
    async def record(visit: PageContext) -> None:
        partition, offset = visit.path["partition"], visit.path["offset"]
        elements.add_link("All groups", "/rejected")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise NotFound(
                f"invalid position '{partition}:{offset}': expected PARTITION:OFFSET, e.g. 0:17",
                hint=remedies.list_dead_letters(resolved=True),
            )
        letter = await visit.ask(letters.queue.read_letter, int(partition), int(offset))
        await _Record(visit, letters, letter).build()


class _Record:
    """The page of one record."""

    def __init__(self, visit: PageContext, letters: DeadLetterService, letter: DeadLetter) -> None:
        self._visit, self._letters, self._letter = visit, letters, letter

    async def build(self) -> None:
        """Build the page."""
        with ui.element("div").classes("row-bar"):
            elements.add_copyable(remedies.show_dead_letter(self._letter.place), "the command that shows this record")
        self._trouble = ui.element("div")
        self._cards = elements.add_html("", tag="div")
        elements.add_heading("Details")
        self._facts = elements.add_html("", tag="dl").classes("facts card")
        details = await self._show_record()
        self._actions = Actions(
            self._visit,
            self._letters,
            self._list_pending,
            self._letter.place,
            self._refresh_record,
            self._list_selected,
        )
        if details.state == WAITING:
            await self._build_editor()
            self._actions.build()

    async def _show_record(self) -> DeadLetterDetails:
        details, error = await self._visit.ask(self._letters.describe, self._letter, personal=not self._visit.masks)
        self._trouble.clear()
        if error is not None:
            with self._trouble:
                elements.add_error(error)
        update_html(self._cards, details_cards_html(details))
        update_html(self._facts, elements.facts_html(list_facts(details)))
        return details

    async def _refresh_record(self) -> None:
        await self._show_record()

    async def _list_pending(self) -> list[DeadLetterSummary]:
        """Return the record if it is still pending."""
        details, _ = await self._visit.ask(self._letters.describe, self._letter, personal=False)
        return [summarize(self._letter)] if details.state == WAITING else []

    async def _list_selected(self) -> list[DeadLetterSummary]:
        return [summarize(self._letter)]

    async def _build_editor(self) -> None:
        elements.add_heading("Edit")
        if self._visit.masks:
            text = (
                "Personal data is hidden, and editing shows the record. Showing it is recorded in the audit log. You "
                "can set single fields below without showing the others."
            )
            elements.add_html(text, tag="p")
            ui.button("Show personal data and edit", icon="visibility", on_click=self._show_personal_data).props(
                "no-caps outline"
            )
            return
        text = await self._visit.ask(self._letters.format_editable, self._letter)
        if len(text) > _EDITED_CHARACTERS:
            elements.add_html("The record is too large to edit here. Export it and edit the file:", tag="p")
            elements.add_copyable(remedies.export_dead_letters())
            return
        kind = "the API's entry as received" if self._letter.stage == Stage.PRODUCE else "the record"
        elements.add_html(
            f"This is {kind}, as JSON. Fields that are not in the contract are dropped when sent.", tag="p"
        )
        self._text = ui.textarea("Record as JSON", value=text, on_change=self._check_text)
        self._text.props("outlined autogrow debounce=300 spellcheck=false").classes("editor")
        self._checked = elements.add_html("", tag="div").props("role=status aria-live=polite")
        ui.button(
            "Redrive the edited record", on_click=lambda: self._actions.send(self._build_repair, "repair and redrive")
        ).props("no-caps")
        await self._check_text()

    def _show_personal_data(self) -> None:
        session = self._visit.session
        session.shows_personal = True
        self._visit.context.audit_log.record(session.name, "personal_data", self._letter.place, "shown")
        ui.navigate.reload()

    def _build_repair(self) -> Repair:
        return self._letters.parse_edit(self._letter, self._text.value or "")

    async def _check_text(self) -> None:
        """Show which rules the text still violates, as it is typed."""
        typed = self._text.value or ""
        try:
            repair = self._letters.parse_edit(self._letter, typed)
            problem = await self._visit.ask(partial(self._letters.find_violation, self._letter, repair))
            result = _check_html(problem)
        except PenstockError as error:
            result = html("<p>{}</p>", elements.state_html("down", error.message))
        if typed == (self._text.value or ""):
            update_html(self._checked, result)


def _check_html(problem: StillInvalid | None) -> Markup:
    if problem is None:
        return html("<p>{}</p>", elements.state_html("ok", "Valid: it can be redriven"))
    rules = join(html("<li>{}</li>", rule) for rule in problem.message.split("; "))
    return html("<p>{}</p><ul>{}</ul>", elements.state_html("down", "Still invalid"), rules)
