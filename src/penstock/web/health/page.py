"""Health: services and machine, with tabs for settings, audit log and alerts, and a page for each service's log."""

from collections.abc import Callable
from functools import partial
from typing import Any

from markupsafe import Markup
from nicegui import ui

from penstock.config import LOOPBACKS
from penstock.stack.service import Status
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import facts_html, format_duration, format_number, format_size, state_html, update_html
from penstock.web.health import log_page, tabs
from penstock.web.health.health_service import OURSELVES, SERVICES_S, HealthService
from penstock.web.health.space import LOW_BYTES, Space
from penstock.web.markup import html, join
from penstock.web.page_layout import PageContext, page

_STATES = {
    "ready": "ok",
    "starting": "late",
    "failing": "down",
    "stuck": "down",
    "restarting": "late",
    "dead": "down",
    "stopping": "late",
    "stopped": "idle",
    "unsupervised": "late",
}
_MIB = 2**20


def register(context: AppContext) -> None:
    """Serve the pages."""
    health_service = context.get_shared(HealthService)
    log_page.register(context, health_service)

    @page(context, "/health", "Health")
    async def health(visit: PageContext) -> None:
        part = visit.query.get("part", "services")
        elements.add_html(tabs.tab_links_html(part), tag="nav").classes("parts").props('aria-label="Health pages"')
        if part == "settings":
            tabs.add_settings(visit)
        elif part == "audit":
            tabs.add_audit_log(visit)
        elif part == "alerts":
            tabs.add_alerts(visit)
        else:
            await _Services(visit, health_service).build()


class _Services:
    """The services, one row each, and the machine's disk and memory below."""

    def __init__(self, visit: PageContext, health_service: HealthService) -> None:
        self._visit, self._health_service = visit, health_service
        self._rows: dict[str, _Row] = {}

    async def build(self) -> None:
        """Build the page."""
        self._status = elements.add_html("", tag="p").props("role=status aria-live=polite")
        if not self._visit.context.host.is_local:
            text = "The services run on other hosts. Only whether each one responds is known here."
            elements.add_html(text, tag="p").classes("quiet")
        self._table = ui.element("div").classes("table").props('tabindex=0 role=region aria-label="Services"')
        elements.add_heading("Machine")
        self._machine = elements.add_html("", tag="div")
        await self._refresh_services()
        self._visit.every(SERVICES_S, self._refresh_services)
        self._visit.every(60.0, self._refresh_space)

    async def _refresh_services(self) -> None:
        services = await self._visit.ask(self._health_service.list_services)
        if list(self._rows) != [service.name for service in services]:
            self._build_rows(services)
        for service in services:
            self._rows[service.name].show(service)
        ready = sum(service.state == "ready" for service in services)
        memory = format_size(sum(service.rss_mib for service in services) * _MIB)
        memory_note = f", using {memory} of memory" if self._visit.context.host.is_local else ""
        update_html(
            self._status,
            html(
                "<strong>{} of {}</strong> services are ready{}.",
                format_number(ready),
                format_number(len(services)),
                memory_note,
            ),
        )

    async def _refresh_space(self) -> None:
        update_html(self._machine, machine_html(await self._visit.ask(self._health_service.get_space)))

    def _build_rows(self, services: list[Status]) -> None:
        heads = ("Service", "State", "Version", "Ports", "Uptime", "Memory", "Restarts", "", "")
        self._table.clear()
        with self._table, ui.element("table"):
            cells = join(html('<th scope="col">{}</th>', head) for head in heads)
            elements.add_html(html("<tr>{}</tr>", cells), tag="thead")
            with ui.element("tbody"):
                self._rows = {
                    service.name: _Row(self._visit, service, partial(self._restart_service, service.name))
                    for service in services
                }

    async def _restart_service(self, name: str) -> None:
        text = f"{name} stops and starts with the effective settings. Services that depend on it keep running and wait."
        if not await elements.ask_confirmation(f"Restart {name}?", text, verb="Restart"):
            return
        ui.notify(f"Restarting {name}. This takes a while.")
        self._rows[name].button.disable()
        await self._visit.act("restart", name, lambda: self._health_service.restart(name))
        self._rows[name].button.enable()
        await self._refresh_services()


class _Row:
    """A service's row. Updates replace its cells only; its links and button stay."""

    def __init__(self, visit: PageContext, service: Status, restart: Callable[[], Any]) -> None:
        is_local = visit.context.host.is_local
        with ui.element("tr"):
            elements.add_html(
                html("<strong>{}</strong><br><span class=quiet>{}</span>", service.name, service.title), "td"
            )
            self._cells = [elements.add_html("", tag="td") for _ in range(6)]
            with ui.element("td").classes("links"):
                if is_local:
                    elements.add_html(html('<a href="/health/logs/{}">Log</a>', service.name))
                if service.page and visit.session.address in LOOPBACKS and service.name != OURSELVES:
                    elements.add_html(html('<a href="{}" target="_blank" rel="noopener">Web UI</a>', service.page))
            with ui.element("td"):
                self.button = ui.button("Restart", on_click=restart).props("no-caps outline dense")
                self.button.props["aria-label"] = f"Restart {service.name}"
                self.button.set_visibility(is_local and service.name != OURSELVES)

    def show(self, service: Status) -> None:
        """Update the cells that have changed."""
        detail = html('<div class="quiet">{}</div>', service.detail) if service.detail else ""
        ports = join(
            (html('<span title="PENSTOCK_{}">{}</span>', name.upper(), port) for name, port in service.ports.items()),
            "<br>",
        )
        texts = (
            join([state_html(_STATES.get(service.state, "unknown"), service.state), detail]),
            service.version,
            ports or elements.UNKNOWN,
            format_duration(service.uptime_s * 1000) if service.uptime_s else elements.UNKNOWN,
            format_size(service.rss_mib * _MIB) if service.rss_mib else elements.UNKNOWN,
            format_number(service.restarts),
        )
        for cell, text in zip(self._cells, texts, strict=True):
            update_html(cell, text)


def machine_html(space: Space) -> Markup:
    """Return HTML for disk, memory and the data directory's folder sizes, with a warning if disk space is low."""
    warning = ""
    if space.is_low:
        warning = html(
            '<div class="trouble" role="alert"><p>Less than {} of disk space left. Kafka and '
            "Cassandra stop when the disk is full: free some space, or lower PENSTOCK_KAFKA_RETENTION_HOURS.</p></div>",
            format_size(LOW_BYTES),
        )
    facts = (
        ("Data directory", html("<code>{}</code>", space.path)),
        ("Disk", f"{format_size(space.free_bytes)} free of {format_size(space.disk_bytes)}"),
        ("Memory", f"{format_size(space.memory_available_bytes)} available of {format_size(space.memory_bytes)}"),
    )
    rows = [
        [
            folder.name,
            format_size(folder.size_bytes) if folder.is_whole else f"more than {format_size(folder.size_bytes)}",
        ]
        for folder in space.folders
    ]
    table = elements.table_html("Folders of the data directory, measured once a minute", ("Folder", "Size"), rows)
    return html(
        '{}<div class="grid"><dl class="facts card">{}</dl><div class="table">{}</div></div>',
        warning,
        facts_html(facts),
        table,
    )
