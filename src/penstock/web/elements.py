"""Building blocks of pages. Each works without colour and by keyboard, and is labelled for screen readers."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from nicegui import ui

from penstock.contract.fields import from_epoch_ms
from penstock.errors import PenstockError
from penstock.web.markup import NOTHING, escape_value, html, join

UNKNOWN = "\N{EN DASH}"
STATES = {
    "ok": ("check_circle", "good"),
    "busy": ("autorenew", "good"),
    "idle": ("pause_circle", "quiet"),
    "late": ("hourglass_top", "warn"),
    "down": ("error", "bad"),
    "unknown": ("help", "quiet"),
}
"""Icon and tone of each state."""


def format_number(value: float | None, unit: str = "") -> str:
    """Format a number with thousands separators; a dash if unknown."""
    if value is None:
        return UNKNOWN
    text = f"{value:,.1f}" if isinstance(value, float) and abs(value) < 100 else f"{round(value):,}"
    return f"{text} {unit}".rstrip()


def format_duration(ms: float | None) -> str:
    """Format a duration in its largest fitting unit; a dash if unknown."""
    if ms is None:
        return UNKNOWN
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms >= unit_ms:
            return f"{ms / unit_ms:.1f} {unit}"
    return f"{ms:.0f} ms"


def format_size(count: float | None) -> str:
    """Format a number of bytes in its largest fitting unit; a dash if unknown."""
    if count is None:
        return UNKNOWN
    for unit, unit_bytes in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= unit_bytes:
            return f"{count / unit_bytes:,.1f} {unit}"
    return f"{count:.0f} B"


def format_iso(moment: datetime | float | int | str | None) -> str:
    """Return a time as ISO 8601, from a datetime, epoch milliseconds or ISO text; empty for None."""
    if moment is None:
        return ""
    if isinstance(moment, int | float):
        moment = from_epoch_ms(int(moment))
    return moment if isinstance(moment, str) else moment.isoformat(timespec="milliseconds")


def moment_html(moment: datetime | float | int | str | None) -> Markup:
    """Return HTML for a time: shown in the viewer's time zone, in UTC on hover; a dash if unknown."""
    text = format_iso(moment)
    return html('<local-time datetime="{0}">{0}</local-time>', text) if text else html("{}", UNKNOWN)


def add_html(content: str, tag: str = "span") -> ui.html:
    """Add HTML, or text, which is escaped."""
    return ui.html(str(escape_value(content)), sanitize=False, tag=tag)


def update_html(part: ui.html, content: str) -> None:
    """Replace the content of an element. Unchanged content is not sent to the browser again."""
    text = str(escape_value(content))
    if part.content != text:
        part.content = text


def state_html(state: str, text: str) -> Markup:
    """Return HTML for a state: icon and text."""
    icon, tone = STATES.get(state, STATES["unknown"])
    return html('<span class="state {}"><i class="material-icons" aria-hidden="true">{}</i>{}</span>', tone, icon, text)


def add_copyable(text: str, what: str = "") -> ui.element:
    """Add a command or an id with a copy button."""
    with ui.element("span").classes("copyable") as wrapper:
        add_html(text, tag="code")
        button = ui.button(icon="content_copy").props("flat dense size=sm")
        button.props["aria-label"] = f"Copy {what or text}"
        button.on("click", js_handler=f"() => copyText({json.dumps(text)})")
    return wrapper


def command_html(text: str) -> Markup:
    """Return HTML for a command with a copy button; empty for no command."""
    if not text:
        return NOTHING
    return html(
        '<span class="copyable"><code>{0}</code>'
        '<button type="button" class="copy" data-copy="{0}" aria-label="Copy {0}">'
        '<i class="material-icons" aria-hidden="true">content_copy</i></button></span>',
        text,
    )


def add_heading(text: str, level: int = 2) -> ui.html:
    """Add a heading."""
    return add_html(text, tag=f"h{level}")


def add_empty_state(what: str, todo: str, command: str = "") -> None:
    """Add an empty state: what is missing, and what to do about it."""
    with ui.element("div").classes("empty"):
        add_html(what, tag="strong")
        add_html(todo, tag="p")
        if command:
            add_copyable(command)


def add_error(error: PenstockError) -> None:
    """Add an error: its message, and its hint with a copy button."""
    with ui.element("div").classes("trouble").props('role="alert"'):
        add_html(error.message, tag="p")
        if error.hint:
            add_copyable(error.hint)


def add_link(text: str, to: str) -> ui.link:
    """Add a link."""
    return ui.link(text, to)


def message_path(topic: str, partition: int | str, offset: int | str) -> str:
    """Return the path of a message's page."""
    return f"/topics/{quote(topic, safe='')}/messages/{partition}/{offset}"


def message_link(topic: str, partition: int, offset: int, text: str = "") -> Markup:
    """Return HTML for a link to a message. The text defaults to its offset."""
    return html('<a href="{}">{}</a>', message_path(topic, partition, offset), text or f"{offset:,}")


def facts_html(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return the items of a list of names and values. They are HTML, or text, which is escaped."""
    return join(html("<dt>{}</dt><dd>{}</dd>", name, value) for name, value in pairs)


def add_facts(pairs: Iterable[tuple[str, str]]) -> ui.html:
    """Add a list of names and values."""
    return add_html(facts_html(pairs), tag="dl").classes("facts")


def table_html(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return HTML for a table. Cells are HTML, or text, which is escaped."""
    head = join(html('<th scope="col">{}</th>', title) for title in heads)
    body = join(html("<tr>{}</tr>", join(html("<td>{}</td>", cell) for cell in row)) for row in rows)
    return html("<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", caption, head, body)


def region_html(label: str, table: Markup, classes: str = "table") -> Markup:
    """Wrap a table from `table_html` for horizontal scrolling, by keyboard too."""
    return html('<div class="{}" tabindex="0" role="region" aria-label="{}">{}</div>', classes, label, table)


def add_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> ui.html:
    """Add a table that scrolls horizontally. Cells are HTML, or text, which is escaped."""
    region = add_html(table_html(caption, heads, rows), tag="div").classes("table")
    region.props("tabindex=0 role=region")
    region.props["aria-label"] = caption
    return region


def sparkline_html(values: Sequence[float | None], label: str, width: int = 150, height: int = 28) -> Markup:
    """Return SVG for a sparkline. `label` describes it for screen readers; unknown values leave gaps."""
    known = [value for value in values if value is not None]
    top = max(known, default=0.0) or 1.0
    step = width / max(len(values) - 1, 1)
    points: list[str] = []
    runs: list[list[str]] = [points]
    for index, value in enumerate(values):
        if value is None:
            if points:
                points = []
                runs.append(points)
            continue
        points.append(f"{index * step:.1f},{height - 2 - (height - 4) * value / top:.1f}")
    lines = join(html('<polyline points="{}"/>', " ".join(run)) for run in runs if run)
    return html(
        '<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        'preserveAspectRatio="none">{lines}</svg>',
        width=width,
        height=height,
        label=label,
        lines=lines,
    )


def add_chart(options: dict[str, Any], label: str) -> ui.echart:
    """Add a chart in the page's colours. `label` describes it for screen readers."""
    shared = {
        "animation": False,
        "backgroundColor": "transparent",
        "color": ["#2488a8", "#c77700", "#9a62c4", "#3f9463", "#d0524a", "#7b8794", "#b58900"],
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 8, "right": 16, "top": 36, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "axis"},
        "legend": {"top": 0},
        "aria": {"enabled": True, "label": {"description": label}},
    }
    element = ui.echart(shared | options, renderer="svg").classes("chart")  # SVG, so that the style sheet applies
    element.props("role=img")
    element.props["aria-label"] = label
    return element


def build_series(name: str, points: Iterable[tuple[float, float | None]], *, area: bool = False) -> dict[str, Any]:
    """Return a time series for `chart`. Times are epoch seconds."""
    data = [[round(at_s * 1000), value] for at_s, value in points]
    line: dict[str, Any] = {"name": name, "type": "line", "showSymbol": False, "data": data, "lineStyle": {"width": 2}}
    return line | ({"areaStyle": {"opacity": 0.15}} if area else {})


def build_time_axes(unit: str) -> dict[str, Any]:
    """Return the axes of a time series chart."""
    return {
        "xAxis": {"type": "time", "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "name": unit, "minInterval": 1},
    }


async def ask_confirmation(title: str, text: str, *, name: str = "", verb: str = "Confirm") -> bool:
    """Ask for confirmation and return the answer. With `name`, the viewer must type it first."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        add_heading(title)
        add_html(text, tag="p")
        typed = ui.input(f"Type {name} to confirm").props("outlined dense autofocus") if name else None
        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            submit: Callable[[], None] = lambda: dialog.submit(typed is None or typed.value == name)  # noqa: E731
            confirm = ui.button(verb, on_click=submit).props("no-caps color=negative" if name else "no-caps")
            if typed is not None:
                confirm.bind_enabled_from(typed, "value", lambda value: value == name)
    return bool(await await_answer(dialog))


async def await_answer(dialog: ui.dialog) -> Any:
    """Wait for the viewer's answer to a dialog, and delete the dialog."""
    answer = await dialog
    if not dialog.is_deleted:  # it may be gone with its page
        dialog.delete()
    return answer
