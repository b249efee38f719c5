"""Tabs of the health page: effective settings, audit log and alert history."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.history import History, file_version
from penstock.web import elements
from penstock.web.audit_log import AuditEntry
from penstock.web.effective_settings import EffectiveSetting, collect_secrets, list_effective_settings
from penstock.web.elements import format_number, moment_html, update_html
from penstock.web.markup import html, join
from penstock.web.page_layout import PageContext

_PARTS = {"services": "Services", "settings": "Settings", "audit": "Audit log", "alerts": "Alerts"}
_EVERY_S = 5.0
NEWEST_ENTRIES = 200
NEWEST_ALERTS = 50


def tab_links_html(part: str) -> Markup:
    """Return HTML links to the tabs of the health page."""
    parts = {f"/health?part={name}": (title, name == part) for name, title in _PARTS.items()}
    parts["/health/logs/control-center"] = ("Logs", part == "logs")
    return join(
        html('<a href="{}"{}>{}</a>', to, " aria-current=page" if is_here else "", title)
        for to, (title, is_here) in parts.items()
    )


def add_settings(visit: PageContext) -> None:
    """Add the effective settings, with a search. Secrets are hidden."""
    effective = list_effective_settings(visit.context.settings)
    text = "Each setting is an environment variable that is read at startup. Set it, then restart the services."
    elements.add_html(text, tag="p")

    def render() -> Markup:
        return _settings_html(_filter_settings(effective, search.value or ""), len(effective))

    def show() -> None:
        update_html(table, render())
        query = urlencode({"part": "settings"} | ({"search": search.value} if search.value else {}))
        ui.navigate.history.replace(f"/health?{query}")

    search = ui.input("Search settings", value=visit.query.get("search", ""), on_change=show)
    search.props("outlined dense clearable debounce=200").classes("seek")
    table = elements.add_html(render(), tag="div").classes("settings")


def _filter_settings(settings: list[EffectiveSetting], text: str) -> list[EffectiveSetting]:
    """Return the settings whose name, value or description contains the text, ignoring case."""
    wanted = text.casefold()
    return [
        setting
        for setting in settings
        if wanted in f"{setting.variable} {setting.value} {setting.description}".casefold()
    ]


def _settings_html(matches: list[EffectiveSetting], total: int) -> Markup:
    if not matches:
        return html('<div class="empty"><strong>No matching settings</strong><p>Change or clear the search.</p></div>')
    rows = [
        [
            html("<code>{}</code>", setting.variable),
            html("<code>{}</code>", setting.value) if setting.value else html('<span class="quiet">empty</span>'),
            html('<span class="quiet">default</span>') if setting.is_default else html("<strong>set</strong>"),
            setting.description,
        ]
        for setting in matches
    ]
    caption = f"{format_number(len(matches))} of {format_number(total)} settings; set: differs from the default"
    return _render_table(caption, ("Variable", "Value", "", "Meaning"), rows)


def add_audit_log(visit: PageContext) -> None:
    """Add the audit log, newest first."""
    hide = collect_secrets(visit.context.settings).hide
    path = visit.context.audit_log.path
    elements.add_html(html("Stored in <code>{}</code>, one JSON object per line.", path), tag="p")
    _show_live_html(visit, path, lambda: _audit_html(visit.context.audit_log.read_newest(NEWEST_ENTRIES), hide))


def _show_live_html(visit: PageContext, path: Path, render: Callable[[], Markup]) -> None:
    """Show the HTML that `render` returns for a file, and render it again when the file changes."""
    element = elements.add_html("", tag="div")
    seen: list[tuple[int, int] | None] = []

    async def refresh() -> None:
        version = file_version(path)
        if seen != [version]:
            seen[:] = [version]
            update_html(element, await visit.ask(render))

    visit.every(_EVERY_S, refresh)


def _audit_html(entries: list[AuditEntry], hide: Callable[[str], str]) -> Markup:
    if not entries:
        return html(
            '<div class="empty"><strong>No actions yet</strong><p>Every action on these pages is listed here with its '
            "user and outcome, and so is every request to show personal data.</p></div>"
        )
    rows = [
        [moment_html(entry.at), *map(hide, (entry.who, entry.action, entry.subject, entry.outcome))]
        for entry in entries
    ]
    return _render_table(
        f"newest {format_number(len(entries))}", ("Time", "User", "Action", "Subject", "Outcome"), rows
    )


def add_alerts(visit: PageContext) -> None:
    """Add the newest alert changes."""
    hide = collect_secrets(visit.context.settings).hide
    history = History(visit.context.settings)
    _show_live_html(visit, history.path, lambda: _alerts_html(history.read()[-NEWEST_ALERTS:][::-1], hide))


def _alerts_html(changes: list[AlertChange], hide: Callable[[str], str]) -> Markup:
    if not changes:
        return html(
            '<div class="empty"><strong>No alerts yet</strong><p>The service <code>watch</code> evaluates the alert '
            "rules every few seconds. Trigger an alert: {}</p></div>",
            elements.command_html(remedies.stop("registry")),
        )
    rows = [
        [
            moment_html(change.at),
            elements.state_html("down" if change.change == "firing" else "ok", change.change),
            change.severity,
            change.name,
            hide(change.message),
            elements.command_html(hide(change.command)),
        ]
        for change in changes
    ]
    heads = ("Time", "Change", "Severity", "Alert", "Message", "Command")
    return _render_table(f"newest {format_number(len(changes))} changes", heads, rows)


def _render_table(caption: str, heads: tuple[str, ...], rows: list[list[str]]) -> Markup:
    return elements.region_html(caption, elements.table_html(caption, heads, rows))
