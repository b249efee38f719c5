"""Rejected records: grouped by reason and rules, filtered with samples and the rules they violate, and individually."""

from urllib.parse import urlencode

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.contract.fault import Reason
from penstock.dead_letters.message import DeadLetterSummary
from penstock.dead_letters.pending import DeadLetterGroup
from penstock.dead_letters.resolutions import WAITING
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import format_number, moment_html, update_html
from penstock.web.markup import NOTHING, html, join
from penstock.web.page_layout import PageContext, page
from penstock.web.rejected import record_page, wording
from penstock.web.rejected.actions import Actions
from penstock.web.rejected.dead_letter_service import DeadLetterService
from penstock.web.rejected.reader import NEWEST, UNKNOWN, DeadLetterFilter, Listing, describe_letter
from penstock.web.rejected.record_cards import STATE_LABELS, details_cards_html, state_html

_EVERY_S = 5.0
_ROWS = 200
_SAMPLES = 3
_STATES = (WAITING, "redriven", "superseded", "discarded")


def register(context: AppContext) -> None:
    """Serve the pages."""
    letters = context.get_shared(DeadLetterService)
    record_page.register(context, letters)

    @page(context, "/rejected", "Dead letters")
    async def rejected(visit: PageContext) -> None:
        wanted = DeadLetterFilter(**{name: visit.query.get(name, "") for name in ("reason", "rule", "rules", "state")})
        listing = await visit.ask(letters.queue.read_listing, context.cassandra)
        if wanted == DeadLetterFilter():
            _Overview(visit, letters, listing)
        else:
            await _Selection(visit, letters, listing, wanted).build()


class _Overview:
    """All groups of rejected records."""

    def __init__(self, visit: PageContext, letters: DeadLetterService, listing: Listing) -> None:
        self._visit, self._letters = visit, letters
        self._summary = elements.add_html("", tag="div")
        elements.add_html(_filters_html(DeadLetterFilter()), tag="div")
        self._groups = elements.add_html("", tag="div")
        self._show_listing(listing)
        visit.every(_EVERY_S, self._refresh_listing)

    async def _refresh_listing(self) -> None:
        self._show_listing(await self._visit.ask(self._letters.queue.read_listing, self._visit.context.cassandra))

    def _show_listing(self, listing: Listing) -> None:
        update_html(self._summary, _summary_html(listing))
        update_html(self._groups, _groups(listing) if listing.entries else _empty_html())


class _Selection:
    """The records of one group, or those that match a filter."""

    def __init__(
        self, visit: PageContext, letters: DeadLetterService, listing: Listing, chosen_filter: DeadLetterFilter
    ) -> None:
        self._visit, self._letters, self._filter = visit, letters, chosen_filter
        self._listing = listing

    async def build(self) -> None:
        """Build the page."""
        elements.add_link("All groups", "/rejected")
        self._summary = elements.add_html("", tag="div")
        elements.add_html(_filters_html(self._filter), tag="div")
        elements.add_html(_meaning_html(self._filter), tag="div")
        self._samples = ui.element("div")
        Actions(
            self._visit,
            self._letters,
            self._list_pending,
            self._get_confirm_name(),
            self._reload_listing,
            self._list_selected,
        ).build()
        self._rows = elements.add_html("", tag="div")
        self._show_listing(self._listing)
        await self._show_samples()
        self._visit.every(_EVERY_S, self._refresh_listing)

    def _get_confirm_name(self) -> str:
        return self._filter.reason or "discard"

    async def _list_pending(self) -> list[DeadLetterSummary]:
        """Return the records of the selection that are pending now."""
        listing = await self._visit.ask(self._letters.queue.read_listing, self._visit.context.cassandra, 0.0)
        return [entry for entry in listing.select(self._filter) if listing.state(entry) == WAITING]

    async def _list_selected(self) -> list[DeadLetterSummary]:
        return self._listing.select(self._filter)

    async def _reload_listing(self) -> None:
        """Reload after an action."""
        self._show_listing(await self._visit.ask(self._letters.queue.read_listing, self._visit.context.cassandra, 0.0))
        await self._show_samples()

    async def _refresh_listing(self) -> None:
        self._show_listing(await self._visit.ask(self._letters.queue.read_listing, self._visit.context.cassandra))

    def _show_listing(self, listing: Listing) -> None:
        self._listing = listing
        chosen = listing.select(self._filter)
        pending = sum(listing.state(entry) == WAITING for entry in chosen)
        error = _error_html(listing)
        update_html(
            self._summary,
            html(
                "{}<p><strong>{}</strong> records, {} pending</p>",
                error,
                format_number(len(chosen)),
                format_number(pending),
            ),
        )
        update_html(self._rows, _rows(chosen, listing) if chosen else _no_match_html())

    async def _show_samples(self) -> None:
        """Show the newest few records, pending ones first, each next to the rules it violates."""
        chosen = sorted(self._listing.select(self._filter), key=lambda entry: self._listing.state(entry) != WAITING)
        positions = [(entry.partition, entry.offset) for entry in chosen[:_SAMPLES]]
        letters = await self._visit.ask(self._letters.queue.read_letters, positions)
        by_position = {(letter.partition, letter.offset): letter for letter in letters}
        self._samples.clear()
        with self._samples:
            if letters:
                elements.add_heading("Samples and violated rules")
            for letter in filter(None, map(by_position.get, positions)):
                line = self._listing.lines.get(letter.identity)
                state = UNKNOWN if self._listing.error else ""
                details = await self._visit.ask(
                    describe_letter,
                    letter,
                    line,
                    self._visit.context.pipeline.record,
                    self._visit.context.registry,
                    personal=not self._visit.masks,
                    state=state,
                )
                elements.add_html(details_cards_html(details, link=True), tag="div").classes("sample")


def _error_html(listing: Listing) -> Markup:
    """Return HTML for the error of Cassandra; empty if there is none."""
    if listing.error is None:
        return NOTHING
    hint = elements.command_html(listing.error.hint)
    return html(
        '<div class="trouble" role="alert"><p>The state of the records is unknown: {}</p>{}</div>',
        listing.error.message,
        hint,
    )


def _summary_html(listing: Listing) -> Markup:
    pending = (
        UNKNOWN if listing.error else format_number(sum(listing.state(entry) == WAITING for entry in listing.entries))
    )
    older = (
        ""
        if listing.is_whole
        else html(
            " Showing the newest {}, at most {}. To list all: {}",
            format_number(len(listing.entries)),
            format_number(NEWEST),
            elements.command_html(remedies.list_dead_letters(resolved=True)),
        )
    )
    return html(
        "{error}<p><strong>{count}</strong> dead letters, {pending} pending.{older}</p>",
        error=_error_html(listing),
        count=format_number(len(listing.entries)),
        pending=pending,
        older=older,
    )


def _empty_html() -> Markup:
    return html(
        '<div class="empty"><strong>No dead letters</strong><p>Records that violate the contract '
        "or cannot be decoded appear here with the reason; none are lost. No action is needed.</p></div>"
    )


def _no_match_html() -> Markup:
    return html(
        '<div class="empty"><strong>No matching dead letters</strong><p>Choose another reason, rule or state above, '
        'or see <a href="/rejected">all groups</a>.</p></div>'
    )


def _groups(listing: Listing) -> Markup:
    heads = ("Reason", "Violated rules", "Pending", "Redriven", "Superseded", "Discarded", "First", "Last")
    table = elements.table_html(
        "by reason and rules", heads, [_group_row(group, listing) for group in listing.groups()]
    )
    return elements.region_html("Dead letters by reason", table)


def _group_row(group: DeadLetterGroup, listing: Listing) -> list[str]:
    address = f"/rejected?{urlencode({'reason': group.reason, 'rules': ','.join(group.rules)})}"
    rules = join((html("<code>{}</code>", rule) for rule in group.rules[:4]), " ")
    more = f" and {len(group.rules) - 4} more" if len(group.rules) > 4 else ""
    counts = (group.waiting, group.redriven, group.superseded, group.discarded)
    cells = [elements.UNKNOWN] * len(counts) if listing.error else [format_number(count) for count in counts]
    name = html('<a href="{}">{}</a>', address, group.reason)
    return [
        name,
        html("{}{}", rules, more) or elements.UNKNOWN,
        *cells,
        moment_html(group.first),
        moment_html(group.last),
    ]


def _rows(chosen: list[DeadLetterSummary], listing: Listing) -> Markup:
    heads = ("Position", "State", "Reason", "Violated rules", "Rejected", "Run", "Size")
    newest = chosen[:_ROWS]
    caption = (
        f"newest {format_number(len(newest))} of {format_number(len(chosen))}"
        if len(chosen) > _ROWS
        else "newest first"
    )
    rows = [
        [
            html('<a href="/rejected/{}/{}">{}</a>', entry.partition, entry.offset, entry.place),
            state_html(listing.state(entry)),
            entry.reason,
            ", ".join(entry.rules) or elements.UNKNOWN,
            moment_html(entry.time),
            entry.run or elements.UNKNOWN,
            elements.format_size(entry.value_bytes),
        ]
        for entry in newest
    ]
    table = elements.table_html(caption, heads, rows)
    return html("<h2>Records</h2>{}", elements.region_html("Records", table))


def _filters_html(wanted: DeadLetterFilter) -> Markup:
    """Return HTML for the filters: a plain GET form, so that each choice is a URL that can be shared."""
    rules = html('<input type="hidden" name="rules" value="{}">', wanted.rules) if wanted.rules else ""
    return html(
        '<form class="pick" method="get" action="/rejected" role="search">'
        "<label>Reason {reason}</label>"
        '<label>Rule starts with <input name="rule" value="{rule}" placeholder="email:pattern"></label>'
        "<label>State {state}</label>{rules}<button>Filter</button></form>",
        reason=_select_html("reason", wanted.reason, list(Reason)),
        rule=wanted.rule,
        state=_select_html("state", wanted.state, _STATES),
        rules=rules,
    )


def _select_html(name: str, chosen: str, options: list[Reason] | tuple[str, ...]) -> Markup:
    items = join(
        html(
            '<option value="{}"{}>{}</option>',
            option,
            " selected" if option == chosen else "",
            STATE_LABELS.get(option, option),
        )
        for option in map(str, options)
    )
    return html('<select name="{}"><option value="">any</option>{}</select>', name, items)


def _meaning_html(wanted: DeadLetterFilter) -> Markup:
    meaning = wording.reason(wanted.reason)
    rules = html(" Violated rules: <code>{}</code>", wanted.rules.replace(",", ", ")) if wanted.rules else ""
    return html("<p>{}{}</p>", meaning, rules) if meaning or rules else NOTHING
