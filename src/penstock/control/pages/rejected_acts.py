"""What a viewer can do with rejected records: mend them, send them again, give them up, export them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html import escape
from typing import TypeVar

from nicegui import ui

from penstock.contract.fields import fields
from penstock.control import elements
from penstock.control.elements import number
from penstock.control.frame import Visit
from penstock.control.letters import Letters
from penstock.errors import PenstockError
from penstock.observe.rejected import Entry
from penstock.pipeline.mend import Mending
from penstock.pipeline.redrive import Discarded, Redriven

T = TypeVar("T")
Entries = Callable[[], Awaitable[list[Entry]]]
_NAMED = 20
_BUTTON = "no-caps outline"


class Acts:
    """The deeds on a selection: `waiting` gives those that can be sent or given up, `chosen` those to export."""

    def __init__(
        self,
        visit: Visit,
        letters: Letters,
        waiting: Entries,
        name: str,
        again: Callable[[], Awaitable[None]],
        chosen: Entries,
    ) -> None:
        self._visit, self._letters = visit, letters
        self._waiting, self._chosen, self._again = waiting, chosen, again
        self._name = name
        """What is typed to confirm a discard."""
        self._fields: list[tuple[ui.select, ui.input]] = []

    def build(self) -> None:
        """Show them, and a place for what they did."""
        elements.heading("Mend, send again, give up")
        with ui.element("div").classes("grid"):
            with ui.element("section").classes("card"):
                self._set_part()
            with ui.element("section").classes("card"):
                self._unchanged_part()
            with ui.element("section").classes("card"):
                self._discard_part()
            with ui.element("section").classes("card"):
                self._export_part()
        self._told = elements.markup("", tag="div").classes("outcome").props("role=status aria-live=polite")

    def _set_part(self) -> None:
        elements.heading("Set fields", 3)
        elements.markup("The same value in each record that waits. What breaks no rule then is sent, once.", tag="p")
        self._rows = ui.element("div")
        self._another()
        with ui.element("div").classes("row-bar"):
            ui.button("Another field", on_click=self._another).props(f"{_BUTTON} flat")
            ui.button("Try", on_click=lambda: self._try(self._set)).props(_BUTTON)
            ui.button("Mend and send", on_click=lambda: self.send(self._set, "mend and redrive")).props("no-caps")

    def _another(self) -> None:
        names = [field.name for field in fields(self._visit.desk.pipeline.record)]
        with self._rows, ui.element("div").classes("row-bar"):
            name = ui.select(names, label="Field").props("outlined dense options-dense").classes("field-name")
            value = ui.input("New value").props("outlined dense").classes("field-value")
        self._fields.append((name, value))

    def _set(self) -> Mending:
        return self._letters.set_fields(
            [f"{name.value}={value.value or ''}" for name, value in self._fields if name.value]
        )

    def _unchanged_part(self) -> None:
        elements.heading("Send again as they are", 3)
        text = "For records that would be taken now, since a schema or a rule has changed. Others stay here."
        elements.markup(text, tag="p")
        with ui.element("div").classes("row-bar"):
            ui.button("Try unchanged", on_click=lambda: self._try(Mending)).props(_BUTTON)
            ui.button("Redrive", on_click=lambda: self.send(Mending, "redrive")).props("no-caps")

    def _discard_part(self) -> None:
        elements.heading("Give up", 3)
        elements.markup("They stay in the queue as long as Kafka keeps them, and are never sent.", tag="p")
        self._note = ui.input("Why (kept with who and when)").props("outlined dense")
        ui.button("Discard", on_click=self._discard, color=None).props(_BUTTON).classes("danger")

    def _export_part(self) -> None:
        elements.heading("Export", 3)
        elements.markup(
            "JSON lines, as <code>./penstock dlq export</code> writes them, to be edited in a file.", tag="p"
        )
        button = ui.button("Export", on_click=self._export).props(_BUTTON)
        if self._visit.masks:
            button.disable()
            text = "An export holds personal data: show them first, with the button at the top of the page."
            elements.markup(text, tag="p").classes("quiet")

    async def _asked(self, question: Callable[[], T]) -> T | None:
        """What `question` gives; None when it failed, which is told."""
        try:
            return await self._visit.ask(question)
        except PenstockError as error:
            hint = f"<br>{elements.command_html(error.hint)}" if error.hint else ""
            self._told.content = f'<div class="trouble" role="alert"><p>{escape(error.message)}</p>{hint}</div>'
            return None

    async def _places(self) -> list[str]:
        """The places of those that wait now; when none does, that is told."""
        self._told.content = "<p>Looking at the records...</p>"
        try:
            places = [one.place for one in await self._waiting()]
        except PenstockError as error:
            self._told.content = f'<div class="trouble" role="alert"><p>{escape(error.message)}</p></div>'
            return []
        if not places:
            self._told.content = "<p>Nothing to do: none of these records waits.</p>"
        return places

    async def _try(self, mending: Callable[[], Mending]) -> tuple[list[str], Mending, Redriven] | None:
        """A dry run: tells how many would be sent, and which are still broken."""
        places = await self._places()
        if not places:
            return None
        chosen = await self._asked(mending)
        if chosen is None:
            return None
        done = await self._asked(lambda: self._letters.redrive(places, chosen, dry_run=True))
        if done is None:
            return None
        self._told.content = self._outcome(done)
        return places, chosen, done

    async def send(self, mending: Callable[[], Mending], action: str) -> None:
        """Try, ask, send, and tell what became of them."""
        tried = await self._try(mending)
        if tried is None or not tried[2].sent:
            return
        places, chosen, would = tried
        rest = f" {number(would.still_broken)} would still be broken, and stay here." if would.still_broken else ""
        question = f"{number(would.sent)} records are sent to {self._visit.desk.pipeline.topic}, once.{rest}"
        if not await elements.confirmed("Send again?", question, verb="Send"):
            return
        done = await self._visit.act(action, _subject(places), lambda: self._letters.redrive(places, chosen))
        if done is not None:
            self._told.content = self._outcome(done)
        await self._again()

    async def _discard(self) -> None:
        places = await self._places()
        if not places:
            return
        question = f"{number(len(places))} records are given up for good: they can never be sent."
        if not await elements.confirmed("Discard?", question, name=self._name, verb="Discard"):
            return
        note = f"{self._note.value or ''} (by {self._visit.session.name})".strip()
        done = await self._visit.act("discard", _subject(places), lambda: self._letters.discard(places, note))
        if done is not None:
            self._told.content = self._outcome(done)
        await self._again()

    async def _export(self) -> None:
        if self._visit.masks:
            return
        entries = await self._chosen()
        subject = _subject([one.place for one in entries])
        done = await self._visit.act("export rejected", subject, lambda: self._letters.export(entries))
        if done is None:
            return
        ui.download.content(done.content, f"rejected-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl", "application/jsonl")
        rest = (
            f" {number(done.left_out)} did not fit; all: <code>./penstock dlq export FILE</code>"
            if done.left_out
            else ""
        )
        self._told.content = f"<p>{number(done.records)} records exported.{rest}</p>"

    def _outcome(self, done: Redriven | Discarded) -> str:
        """What a deed did, or would do: counts, and the records that were not sent with what they still break."""
        is_trial = done.dry_run
        words = {
            "sent": "would be sent" if is_trial else "sent",
            "still_broken": "still broken",
            "discarded": "discarded",
            "in_hand": "in hand of another command",
            "already": "settled before",
        }
        counts = [(word, number(getattr(done, name))) for name, word in words.items() if getattr(done, name, 0)]
        left = [one for one in done.records if one.outcome not in ("sent", "discarded")][:_NAMED]
        lines = "".join(
            f'<li><a href="/rejected/{one.place.replace(":", "/")}">{one.place}</a> {escape(words[one.outcome])}: '
            f"{escape(self._why(one.message, one.rules))}</li>"
            for one in left
        )
        cells = "".join(f"<dt>{name}</dt><dd>{count}</dd>" for name, count in counts)
        title = "What would happen" if is_trial else "What happened"
        return f'<section class="card"><h3>{title}</h3><dl class="facts">{cells}</dl><ul>{lines}</ul></section>'

    def _why(self, message: str, rules: tuple[str, ...]) -> str:
        """Why a record was not sent; the message may quote it."""
        named = ", ".join(rules)
        return (named or "personal data are hidden") if self._visit.masks else message or named


def _subject(places: list[str]) -> str:
    """The places, for the audit log: the first few, and how many there are."""
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"{', '.join(places[:3])}{more}"
