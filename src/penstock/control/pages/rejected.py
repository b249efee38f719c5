"""Rejected records: by reason and rules, some of them side by side with the rules that they break, and one by one."""

from html import escape
from urllib.parse import urlencode

from nicegui import ui

from penstock.contract import wording
from penstock.contract.reject import Reason
from penstock.control import elements
from penstock.control.desk import Desk
from penstock.control.elements import moment_html, number, put
from penstock.control.frame import Visit, page
from penstock.control.letters import Letters
from penstock.control.pages import rejected_record
from penstock.control.pages.rejected_acts import Acts
from penstock.control.pages.rejected_parts import account_cards, state_html
from penstock.observe.rejected import NEWEST, UNKNOWN, Entry, Listing, Wanted, account
from penstock.pipeline.waiting import Group
from penstock.sink.settled import WAITING

_EVERY_S = 5.0
_ROWS = 200
_SAMPLES = 3
_STATES = (WAITING, "redriven", "discarded")


def register(desk: Desk) -> None:
    """Serve the pages."""
    letters = desk.one(Letters)
    rejected_record.register(desk, letters)

    @page(desk, "/rejected", "Rejected")
    async def rejected(visit: Visit) -> None:
        wanted = Wanted(**{name: visit.query.get(name, "") for name in ("reason", "rule", "rules", "state")})
        listing = await visit.ask(letters.queue.listing, desk.cassandra)
        if wanted == Wanted():
            _Overview(visit, letters, listing)
        else:
            await _Selection(visit, letters, listing, wanted).build()


class _Overview:
    """All groups."""

    def __init__(self, visit: Visit, letters: Letters, listing: Listing) -> None:
        self._visit, self._letters = visit, letters
        self._told = elements.markup("", tag="div")
        elements.markup(_filters(Wanted()), tag="div")
        self._groups = elements.markup("", tag="div")
        self._show(listing)
        visit.every(_EVERY_S, self._refresh)

    async def _refresh(self) -> None:
        self._show(await self._visit.ask(self._letters.queue.listing, self._visit.desk.cassandra))

    def _show(self, listing: Listing) -> None:
        put(self._told, _overall(listing))
        put(self._groups, _groups(listing) if listing.entries else _nothing())


class _Selection:
    """Some of the records: those of a group, or those that a filter takes."""

    def __init__(self, visit: Visit, letters: Letters, listing: Listing, wanted: Wanted) -> None:
        self._visit, self._letters, self._wanted = visit, letters, wanted
        self._listing = listing

    async def build(self) -> None:
        """Show it."""
        elements.link("All groups", "/rejected")
        self._told = elements.markup("", tag="div")
        elements.markup(_filters(self._wanted), tag="div")
        elements.markup(_meaning(self._wanted), tag="div")
        self._samples = ui.element("div")
        Acts(self._visit, self._letters, self._waiting, self._name(), self._again, self._chosen).build()
        self._rows = elements.markup("", tag="div")
        self._show(self._listing)
        await self._show_samples()
        self._visit.every(_EVERY_S, self._refresh)

    def _name(self) -> str:
        return self._wanted.reason or "discard"

    async def _waiting(self) -> list[Entry]:
        """Those of the selection that wait now."""
        listing = await self._visit.ask(self._letters.queue.listing, self._visit.desk.cassandra, 0.0)
        return [one for one in listing.select(self._wanted) if listing.state(one) == WAITING]

    async def _chosen(self) -> list[Entry]:
        return self._listing.select(self._wanted)

    async def _again(self) -> None:
        """After a deed: read again, and show what is left."""
        self._show(await self._visit.ask(self._letters.queue.listing, self._visit.desk.cassandra, 0.0))
        await self._show_samples()

    async def _refresh(self) -> None:
        self._show(await self._visit.ask(self._letters.queue.listing, self._visit.desk.cassandra))

    def _show(self, listing: Listing) -> None:
        self._listing = listing
        chosen = listing.select(self._wanted)
        waiting = sum(listing.state(one) == WAITING for one in chosen)
        trouble = _trouble(listing)
        put(
            self._told,
            f"{trouble}<p><strong>{number(len(chosen))}</strong> records, {number(waiting)} of them wait</p>",
        )
        put(self._rows, _rows(chosen, listing) if chosen else _nothing_fits())

    async def _show_samples(self) -> None:
        """The newest few, each beside the rules that it breaks; those that wait come first."""
        chosen = sorted(self._listing.select(self._wanted), key=lambda one: self._listing.state(one) != WAITING)
        places = [(one.partition, one.offset) for one in chosen[:_SAMPLES]]
        found = await self._visit.ask(self._letters.queue.letters, places)
        by_place = {(one.partition, one.offset): one for one in found}
        self._samples.clear()
        with self._samples:
            if found:
                elements.heading("Samples, beside the rules that they break")
            for letter in filter(None, map(by_place.get, places)):
                line = self._listing.lines.get(letter.identity)
                state = UNKNOWN if self._listing.error else ""
                told = await self._visit.ask(
                    account,
                    letter,
                    line,
                    self._visit.desk.pipeline.record,
                    self._visit.desk.registry,
                    personal=not self._visit.masks,
                    state=state,
                )
                elements.markup(account_cards(told, link=True), tag="div").classes("sample")


def _trouble(listing: Listing) -> str:
    """What is wrong with Cassandra, if anything."""
    if listing.error is None:
        return ""
    hint = elements.command_html(listing.error.hint)
    return (
        '<div class="trouble" role="alert"><p>What became of the records is not known: '
        f"{escape(listing.error.message)}</p>{hint}</div>"
    )


def _overall(listing: Listing) -> str:
    waiting = UNKNOWN if listing.error else number(sum(listing.state(one) == WAITING for one in listing.entries))
    older = (
        ""
        if listing.is_whole
        else f" These are the newest {number(len(listing.entries))}, at most {number(NEWEST)}; "
        f"all of them: {elements.command_html('./penstock dlq list --all')}"
    )
    return (
        f"{_trouble(listing)}<p><strong>{number(len(listing.entries))}</strong> rejected records, "
        f"{waiting} of them wait to be mended, sent again or given up.{older}</p>"
    )


def _nothing() -> str:
    return (
        '<div class="empty"><strong>No record was rejected</strong><p>Records that break the contract, '
        "or cannot be read, are set aside here with the reason; none is lost. Nothing has to be done.</p></div>"
    )


def _nothing_fits() -> str:
    return (
        '<div class="empty"><strong>No rejected record fits</strong><p>Choose another reason, rule or state above, '
        'or see <a href="/rejected">all groups</a>.</p></div>'
    )


def _groups(listing: Listing) -> str:
    heads = ("Reason", "Broken rules", "Waiting", "Redriven", "Discarded", "First", "Last")
    table = elements.table_html("by reason and rules", heads, [_group(one, listing) for one in listing.groups()])
    return elements.region_html("Rejected records by reason", table)


def _group(one: Group, listing: Listing) -> list[str]:
    address = f"/rejected?{urlencode({'reason': one.reason, 'rules': ','.join(one.rules)})}"
    rules = " ".join(f"<code>{escape(rule)}</code>" for rule in one.rules[:4])
    more = f" and {len(one.rules) - 4} more" if len(one.rules) > 4 else ""
    counts = (one.waiting, one.redriven, one.discarded)
    cells = [elements.UNKNOWN] * 3 if listing.error else [number(count) for count in counts]
    name = f'<a href="{escape(address)}">{escape(one.reason)}</a>'
    return [name, f"{rules}{more}" or elements.UNKNOWN, *cells, moment_html(one.first), moment_html(one.last)]


def _rows(chosen: list[Entry], listing: Listing) -> str:
    heads = ("Place", "State", "Reason", "Broken rules", "Rejected", "Run", "Size")
    shown = chosen[:_ROWS]
    caption = f"the newest {number(len(shown))} of {number(len(chosen))}" if len(chosen) > _ROWS else "newest first"
    rows = [
        [
            f'<a href="/rejected/{one.partition}/{one.offset}">{one.place}</a>',
            state_html(listing.state(one)),
            escape(one.reason),
            escape(", ".join(one.rules)) or elements.UNKNOWN,
            moment_html(one.time),
            escape(one.run) or elements.UNKNOWN,
            elements.size(one.value_bytes),
        ]
        for one in shown
    ]
    table = elements.table_html(caption, heads, rows)
    return f"<h2>Records</h2>{elements.region_html('The records', table)}"


def _filters(wanted: Wanted) -> str:
    """A form of its own, so that each choice is an address that can be shared."""
    rules = f'<input type="hidden" name="rules" value="{escape(wanted.rules)}">' if wanted.rules else ""
    return (
        '<form class="pick" method="get" action="/rejected" role="search">'
        f"<label>Reason {_choice('reason', wanted.reason, list(Reason))}</label>"
        f'<label>Rule begins with <input name="rule" value="{escape(wanted.rule)}" placeholder="email:pattern"></label>'
        f"<label>State {_choice('state', wanted.state, _STATES)}</label>{rules}<button>Show</button></form>"
    )


def _choice(name: str, chosen: str, options: list[Reason] | tuple[str, ...]) -> str:
    inner = "".join(
        f'<option value="{one}"{" selected" if one == chosen else ""}>{one}</option>' for one in map(str, options)
    )
    return f'<select name="{name}"><option value="">any</option>{inner}</select>'


def _meaning(wanted: Wanted) -> str:
    told = escape(wording.reason(wanted.reason))
    rules = f" Broken rules: <code>{escape(wanted.rules.replace(',', ', '))}</code>" if wanted.rules else ""
    return f"<p>{told}{rules}</p>" if told or rules else ""
