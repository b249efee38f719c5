"""Parts of health: the settings in force, what was done on the page, and the alerts that were."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import urlencode

from nicegui import ui

from penstock.control import elements
from penstock.control.elements import moment_html, number
from penstock.control.frame import Visit
from penstock.control.in_force import Setting, in_force, secrets_of
from penstock.control.trail import Deed
from penstock.observe.alerts import Change
from penstock.observe.history import History

_PARTS = {"services": "Services", "settings": "Settings", "audit": "Audit log", "alerts": "Alerts"}
_EVERY_S = 5.0
NEWEST_DEEDS = 200
NEWEST_ALERTS = 50


def links(part: str) -> str:
    """The way to the other parts."""
    parts = {f"/health?part={name}": (title, name == part) for name, title in _PARTS.items()}
    parts["/health/logs/control-center"] = ("Logs", part == "logs")
    return "".join(
        f'<a href="{to}"{" aria-current=page" if is_here else ""}>{title}</a>' for to, (title, is_here) in parts.items()
    )


def settings(visit: Visit) -> None:
    """Every setting in force, with a search; secrets are hidden."""
    every = in_force(visit.desk.settings)
    text = "Each is an environment variable, read when penstock starts: set it, and restart the services."
    elements.markup(text, tag="p")

    def show() -> None:
        table.content = _settings_html(_that_hold(every, search.value or ""), len(every))
        query = urlencode({"part": "settings"} | ({"search": search.value} if search.value else {}))
        ui.navigate.history.replace(f"/health?{query}")

    search = ui.input("Search settings", value=visit.query.get("search", ""), on_change=show)
    search.props("outlined dense clearable debounce=200").classes("seek")
    table = elements.markup("", tag="div").classes("settings")
    table.content = _settings_html(_that_hold(every, search.value or ""), len(every))


def _that_hold(every: list[Setting], text: str) -> list[Setting]:
    """The settings that hold the text in name, value or meaning, whatever its case."""
    wanted = text.casefold()
    return [one for one in every if wanted in f"{one.variable} {one.value} {one.description}".casefold()]


def _settings_html(found: list[Setting], of_all: int) -> str:
    if not found:
        return '<div class="empty"><strong>No setting fits</strong><p>Search for less, or clear the search.</p></div>'
    rows = [
        [
            f"<code>{escape(one.variable)}</code>",
            f"<code>{escape(one.value)}</code>" if one.value else '<span class="quiet">empty</span>',
            '<span class="quiet">default</span>' if one.is_default else "<strong>set</strong>",
            escape(one.description),
        ]
        for one in found
    ]
    caption = f"{number(len(found))} of {number(of_all)} settings; set: another value than the default"
    return _table(caption, ("Variable", "Value", "", "Meaning"), rows)


def audit(visit: Visit) -> None:
    """What was done on the page, the newest first."""
    hide = secrets_of(visit.desk.settings).hide
    path = visit.desk.trail.path
    elements.markup(f"Kept in <code>{escape(str(path))}</code>, a JSON object a line.", tag="p")
    _follow(visit, path, lambda: hide(_audit_html(visit.desk.trail.newest(NEWEST_DEEDS))))


def _follow(visit: Visit, path: Path, told: Callable[[], str]) -> None:
    """Show what is told of a file, again when it has changed."""
    shown = elements.markup("", tag="div")
    seen: list[tuple[int, int]] = []

    async def refresh() -> None:
        stat = path.stat() if path.exists() else None
        now = (stat.st_mtime_ns, stat.st_size) if stat else (0, 0)
        if seen != [now]:
            seen[:] = [now]
            shown.content = await visit.ask(told)

    visit.every(_EVERY_S, refresh)


def _audit_html(deeds: list[Deed]) -> str:
    if not deeds:
        return (
            '<div class="empty"><strong>Nothing was done yet</strong><p>Whatever is started, changed, sent or deleted '
            "on these pages is listed here, with who and how it ended; so is each look at personal data.</p></div>"
        )
    rows = [
        [moment_html(one.at), escape(one.who), escape(one.action), escape(one.subject), escape(one.outcome)]
        for one in deeds
    ]
    return _table(f"the newest {number(len(deeds))}", ("When", "Who", "What", "On what", "Outcome"), rows)


def alerts(visit: Visit) -> None:
    """The newest changes of alerts."""
    hide = secrets_of(visit.desk.settings).hide
    history = History(visit.desk.settings)
    _follow(visit, history.path, lambda: hide(_alerts_html(history.read()[-NEWEST_ALERTS:][::-1])))


def _alerts_html(changes: list[Change]) -> str:
    if not changes:
        return (
            '<div class="empty"><strong>No alert has fired yet</strong><p>The service <code>watch</code> looks for '
            f"them every few seconds; try one: {elements.command_html('./penstock down registry')}</p></div>"
        )
    rows = [
        [
            moment_html(one.at),
            elements.state_html("down" if one.change == "firing" else "ok", one.change),
            escape(one.severity),
            escape(one.name),
            escape(one.message),
            elements.command_html(one.command),
        ]
        for one in changes
    ]
    heads = ("When", "Change", "Severity", "Alert", "Message", "What to type")
    return _table(f"the newest {number(len(changes))} changes", heads, rows)


def _table(caption: str, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    return elements.region_html(caption, elements.table_html(caption, heads, rows))
