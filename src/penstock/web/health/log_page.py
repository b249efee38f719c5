"""A service's log: its last lines, search, and following new lines."""

from urllib.parse import quote, urlencode

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from penstock import remedies
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.health import tabs
from penstock.web.health.health_service import HealthService
from penstock.web.logbook import MOST_LINES, SEARCHED_BYTES, Logbook, LogLine
from penstock.web.page_layout import PageContext, page

_FOLLOW_S = 1.0
_LINES = 200
_CHOICES = {100: "100 lines", _LINES: "200 lines", 500: "500 lines", MOST_LINES: "2,000 lines"}


def register(context: AppContext, health_service: HealthService) -> None:
    """Serve the page."""

    @page(context, "/health/logs/{service}", "Log")
    async def log(visit: PageContext) -> None:
        elements.add_html(tabs.tab_links_html("logs"), tag="nav").classes("parts").props('aria-label="Health pages"')
        logbook = await visit.ask(health_service.open_log, visit.path["service"])
        services = [service.name for service in await visit.ask(health_service.list_services)]
        await _LogPage(visit, logbook, [*services, "supervisor"]).build()


class _LogPage:
    """The page of a log."""

    def __init__(self, visit: PageContext, logbook: Logbook, services: list[str]) -> None:
        self._visit, self._logbook, self._services = visit, logbook, services
        self._service = visit.path["service"]
        requested = visit.query.get("lines", "")
        self._lines = int(requested) if requested.isdecimal() and int(requested) in _CHOICES else _LINES
        self._position = 0

    async def build(self) -> None:
        """Build the page and follow the log."""
        with ui.element("div").classes("row-bar"):
            ui.select(self._services, value=self._service, label="Service", on_change=self._open_service).props(
                "outlined dense"
            )
            self._search = ui.input(
                "Search the log", value=self._visit.query.get("search", ""), on_change=self._reload_log
            )
            self._search.props("outlined dense clearable debounce=300").classes("seek")
            self._most = ui.select(_CHOICES, value=self._lines, label="Lines", on_change=self._reload_log)
            self._most.props("outlined dense")
            self._follows = ui.switch("Follow", value=True)
        self._status = elements.add_html("", tag="p").classes("quiet").props("role=status aria-live=polite")
        self._shown = ui.log(max_lines=self._lines).classes("log-lines")
        self._shown.props("role=log tabindex=0 aria-live=off")
        self._shown.props["aria-label"] = f"Log of {self._service}"
        elements.add_copyable(remedies.show_logs(self._service, follow=True), "the command that follows this log")
        await self._read_tail()
        self._visit.every(_FOLLOW_S, self._read_new_lines)

    def _open_service(self, chosen: ValueChangeEventArguments[str | None]) -> None:
        ui.navigate.to(f"/health/logs/{quote(chosen.value or self._service)}")

    async def _reload_log(self) -> None:
        """Reload the log after the search or the number of lines changed, and update the URL."""
        self._lines = int(self._most.value)
        self._shown.max_lines = self._lines
        query = {"search": self._search.value} if self._search.value else {}
        query |= {"lines": str(self._lines)} if self._lines != _LINES else {}
        address = f"/health/logs/{quote(self._service)}"
        ui.navigate.history.replace(f"{address}?{urlencode(query)}" if query else address)
        await self._read_tail()

    async def _read_tail(self) -> None:
        search = self._search.value or ""
        tail = await self._visit.ask(self._logbook.read_last, self._lines, search)
        if search != (self._search.value or ""):
            return  # the search has changed meanwhile
        self._position = tail.position
        self._shown.clear()
        self._push_lines(tail.lines)
        self._show_status(len(tail.lines), search)

    def _show_status(self, count: int, search: str) -> None:
        scope = f"of the last {elements.format_size(SEARCHED_BYTES)}"
        if count:
            status = f"The newest lines {scope}" + (f" that contain {search!r}" if search else "")
        elif search:
            status = f"No line {scope} contains {search!r}. New matching lines appear here."
        else:
            status = "The log is empty. New lines appear here."
        elements.update_html(self._status, status)

    async def _read_new_lines(self) -> None:
        if not self._follows.value:
            return
        search, position = self._search.value or "", self._position
        added = await self._visit.ask(self._logbook.read_since, position, search)
        if position == self._position and search == (self._search.value or ""):
            self._position = added.position
            self._push_lines(added.lines[-self._lines :])

    def _push_lines(self, lines: list[LogLine]) -> None:
        for line in lines:
            self._shown.push(line.text or " ", classes=f"level-{line.level or 'info'}")
