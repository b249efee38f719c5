"""Health: the services and the machine; settings, audit log and alerts are parts of it, and each service's log."""

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

from nicegui import ui

from penstock.config import LOOPBACKS
from penstock.control import elements
from penstock.control.desk import Desk
from penstock.control.elements import duration, number, put, size, state_html
from penstock.control.frame import Visit, page
from penstock.control.pages import health_logs, health_parts
from penstock.control.upkeep import OURSELVES, SERVICES_S, Upkeep
from penstock.observe.space import LOW_BYTES, Space
from penstock.stack.service import Status

_STATES = {
    "ready": "ok",
    "starting": "late",
    "failing": "down",
    "restarting": "late",
    "dead": "down",
    "stopping": "late",
    "stopped": "idle",
    "unsupervised": "late",
}
_MIB = 2**20


def register(desk: Desk) -> None:
    """Serve the pages."""
    upkeep = desk.one(Upkeep)
    health_logs.register(desk, upkeep)

    @page(desk, "/health", "Health")
    async def health(visit: Visit) -> None:
        part = visit.query.get("part", "services")
        elements.markup(health_parts.links(part), tag="nav").classes("parts").props('aria-label="Parts of health"')
        if part == "settings":
            health_parts.settings(visit)
        elif part == "audit":
            health_parts.audit(visit)
        elif part == "alerts":
            health_parts.alerts(visit)
        else:
            await _Services(visit, upkeep).build()


class _Services:
    """Every service, one row each, and the machine below."""

    def __init__(self, visit: Visit, upkeep: Upkeep) -> None:
        self._visit, self._upkeep = visit, upkeep
        self._rows: dict[str, _Row] = {}

    async def build(self) -> None:
        """Show them."""
        self._told = elements.markup("", tag="p").props("role=status aria-live=polite")
        if not self._visit.desk.host.is_local:
            text = "The services run elsewhere: whether each answers is known here, and no more."
            elements.markup(text, tag="p").classes("quiet")
        self._table = ui.element("div").classes("table").props('tabindex=0 role=region aria-label="Services"')
        elements.heading("Machine")
        self._machine = elements.markup("", tag="div")
        await self._refresh()
        self._visit.every(SERVICES_S, self._refresh)
        self._visit.every(60.0, self._refresh_space)

    async def _refresh(self) -> None:
        found = await self._visit.ask(self._upkeep.services)
        if list(self._rows) != [one.name for one in found]:
            self._make(found)
        for one in found:
            self._rows[one.name].show(one)
        ready = sum(one.state == "ready" for one in found)
        memory = size(sum(one.rss_mib for one in found) * _MIB)
        held = f", which take {memory} of memory together" if self._visit.desk.host.is_local else ""
        put(self._told, f"<strong>{number(ready)} of {number(len(found))}</strong> services are ready{held}.")

    async def _refresh_space(self) -> None:
        put(self._machine, machine_html(await self._visit.ask(self._upkeep.space)))

    def _make(self, found: list[Status]) -> None:
        heads = ("Service", "State", "Version", "Ports", "Up for", "Memory", "Restarts", "", "")
        self._table.clear()
        with self._table, ui.element("table"):
            cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
            elements.markup(f"<tr>{cells}</tr>", tag="thead")
            with ui.element("tbody"):
                self._rows = {one.name: _Row(self._visit, one, partial(self._restart, one.name)) for one in found}

    async def _restart(self, name: str) -> None:
        text = f"{name} stops and starts again, with the settings in force. What needs it stays up and waits meanwhile."
        if not await elements.confirmed(f"Restart {name}?", text, verb="Restart"):
            return
        ui.notify(f"{name} is restarted: this takes a while")
        self._rows[name].button.disable()
        await self._visit.act("restart", name, lambda: self._upkeep.restart(name))
        self._rows[name].button.enable()
        await self._refresh()


class _Row:
    """A service's row; its links and its button stay while its cells change."""

    def __init__(self, visit: Visit, one: Status, restart: Callable[[], Any]) -> None:
        is_local = visit.desk.host.is_local
        with ui.element("tr"):
            elements.markup(
                f"<strong>{escape(one.name)}</strong><br><span class=quiet>{escape(one.title)}</span>", "td"
            )
            self._cells = [elements.markup("", tag="td") for _ in range(6)]
            with ui.element("td").classes("links"):
                if is_local:
                    elements.markup(f'<a href="/health/logs/{escape(one.name)}">Log</a>')
                if one.page and visit.session.address in LOOPBACKS and one.name != OURSELVES:
                    elements.markup(f'<a href="{escape(one.page)}" target="_blank" rel="noopener">Page</a>')
            with ui.element("td"):
                self.button = ui.button("Restart", on_click=restart).props("no-caps outline dense")
                self.button.props(f'aria-label="Restart {escape(one.name)}"')
                self.button.set_visibility(is_local and one.name != OURSELVES)

    def show(self, one: Status) -> None:
        """Change the cells that have changed."""
        detail = f'<div class="quiet">{escape(one.detail)}</div>' if one.detail else ""
        ports = "<br>".join(
            f'<span title="PENSTOCK_{escape(name.upper())}">{port}</span>' for name, port in one.ports.items()
        )
        texts = (
            f"{state_html(_STATES.get(one.state, 'unknown'), one.state)}{detail}",
            escape(one.version),
            ports or elements.UNKNOWN,
            duration(one.uptime_s * 1000) if one.uptime_s else elements.UNKNOWN,
            size(one.rss_mib * _MIB) if one.rss_mib else elements.UNKNOWN,
            number(one.restarts),
        )
        for cell, text in zip(self._cells, texts, strict=True):
            put(cell, text)


def machine_html(found: Space) -> str:
    """Disk and memory, and what the home's folders take; little space left is a warning."""
    low = ""
    if found.is_low:
        low = (
            f'<div class="trouble" role="alert"><p>Less than {size(LOW_BYTES)} are left on the disk: Kafka and '
            "Cassandra stop when it is full. Free some, or shorten PENSTOCK_KAFKA_RETENTION_HOURS.</p></div>"
        )
    facts = (
        ("Home", f"<code>{escape(found.path)}</code>"),
        ("Disk", f"{size(found.free_bytes)} free of {size(found.disk_bytes)}"),
        ("Memory", f"{size(found.memory_available_bytes)} available of {size(found.memory_bytes)}"),
    )
    cells = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    rows = [
        [escape(one.name), size(one.size_bytes) if one.is_whole else f"more than {size(one.size_bytes)}"]
        for one in found.folders
    ]
    table = elements.table_html("folders of the home, looked at once a minute", ("Folder", "Size"), rows)
    return f'{low}<div class="grid"><dl class="facts card">{cells}</dl><div class="table">{table}</div></div>'
