"""The parts that pages are made of. Each is whole without colour, works by keyboard and says what it is."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import quote

from nicegui import ui

from penstock.contract.fields import from_epoch_ms
from penstock.errors import PenstockError

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


def number(value: float | None, unit: str = "") -> str:
    """A number, grouped; a dash when it is not known."""
    if value is None:
        return UNKNOWN
    text = f"{value:,.1f}" if isinstance(value, float) and abs(value) < 100 else f"{round(value):,}"
    return f"{text} {unit}".rstrip()


def duration(ms: float | None) -> str:
    """A time span in its largest fitting unit; a dash when it is not known."""
    if ms is None:
        return UNKNOWN
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms >= unit_ms:
            return f"{ms / unit_ms:.1f} {unit}"
    return f"{ms:.0f} ms"


def size(count: float | None) -> str:
    """A number of bytes in its largest fitting unit; a dash when it is not known."""
    if count is None:
        return UNKNOWN
    for unit, unit_bytes in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= unit_bytes:
            return f"{count / unit_bytes:,.1f} {unit}"
    return f"{count:.0f} B"


def iso(moment: datetime | float | int | str | None) -> str:
    """ISO 8601 of a time, of epoch milliseconds or of such a text; empty for none."""
    if moment is None:
        return ""
    if isinstance(moment, int | float):
        moment = from_epoch_ms(int(moment))
    return moment if isinstance(moment, str) else moment.isoformat(timespec="milliseconds")


def moment_html(moment: datetime | float | int | str | None) -> str:
    """A time as the browser shows it: in the viewer's zone, in UTC on hover."""
    text = iso(moment)
    return f'<local-time datetime="{escape(text)}">{escape(text)}</local-time>' if text else UNKNOWN


def moment(at: datetime | float | int | str | None) -> ui.html:
    """A time in the viewer's zone, in UTC on hover."""
    return markup(moment_html(at))


def markup(text: str, tag: str = "span") -> ui.html:
    """HTML of our own making; whatever comes from outside is escaped before."""
    return ui.html(text, sanitize=False, tag=tag)


def put(part: ui.html, content: str) -> None:
    """Give a part another content; it is sent only when it changed."""
    if part.content != content:
        part.content = content


def state_html(state: str, text: str) -> str:
    """A state: icon and words."""
    icon, tone = STATES.get(state, STATES["unknown"])
    return f'<span class="state {tone}"><i class="material-icons" aria-hidden="true">{icon}</i>{escape(text)}</span>'


def copyable(text: str, what: str = "") -> ui.element:
    """A command or an id with a button that copies it."""
    with ui.element("span").classes("copyable") as shown:
        markup(escape(text), tag="code")
        button = ui.button(icon="content_copy").props("flat dense size=sm")
        button.props["aria-label"] = f"Copy {what or text}"
        button.on("click", js_handler=f"() => copyText({json.dumps(text)})")
    return shown


def command_html(text: str) -> str:
    """A command with a button that copies it, for HTML that is made as text; empty for none."""
    if not text:
        return ""
    shown = escape(text)
    icon = '<i class="material-icons" aria-hidden="true">content_copy</i>'
    button = f'<button type="button" class="copy" data-copy="{shown}" aria-label="Copy {shown}">{icon}</button>'
    return f'<span class="copyable"><code>{shown}</code>{button}</span>'


def heading(text: str, level: int = 2) -> ui.html:
    """A heading."""
    return markup(escape(text), tag=f"h{level}")


def empty(what: str, todo: str, command: str = "") -> None:
    """Nothing to show: what that means, and what to do."""
    with ui.element("div").classes("empty"):
        markup(escape(what), tag="strong")
        markup(escape(todo), tag="p")
        if command:
            copyable(command)


def trouble(error: PenstockError) -> None:
    """An error: what happened, and what to type."""
    with ui.element("div").classes("trouble").props('role="alert"'):
        markup(escape(error.message), tag="p")
        if error.hint:
            copyable(error.hint)


def link(text: str, to: str) -> ui.link:
    """A link within the page."""
    return ui.link(text, to)


def message_address(topic: str, partition: int | str, offset: int | str) -> str:
    """The address of the page of a message."""
    return f"/topics/{quote(topic, safe='')}/messages/{partition}/{offset}"


def message_link(topic: str, partition: int, offset: int, text: str = "") -> str:
    """A link to a message; without `text` its offset is shown."""
    return f'<a href="{message_address(topic, partition, offset)}">{escape(text) or f"{offset:,}"}</a>'


def facts(pairs: Iterable[tuple[str, str]]) -> ui.html:
    """Names and values; values are HTML of our own making."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs)
    return markup(lines, tag="dl").classes("facts")


def table_html(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are HTML of our own making."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def region_html(label: str, table: str) -> str:
    """A table, made by `table_html`, that can be scrolled sideways, by keyboard too."""
    return f'<div class="table" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> ui.html:
    """A table that can be scrolled sideways; cells are HTML of our own making."""
    shown = markup(table_html(caption, heads, rows), tag="div").classes("table")
    shown.props("tabindex=0 role=region")
    shown.props["aria-label"] = caption
    return shown


def sparkline_html(values: Sequence[float | None], label: str, width: int = 150, height: int = 28) -> str:
    """A small line without axes; `label` says it in words. Gaps are values that are not known."""
    known = [one for one in values if one is not None]
    top = max(known, default=0.0) or 1.0
    step = width / max(len(values) - 1, 1)
    points: list[str] = []
    runs: list[list[str]] = [points]
    for at, value in enumerate(values):
        if value is None:
            if points:
                points = []
                runs.append(points)
            continue
        points.append(f"{at * step:.1f},{height - 2 - (height - 4) * value / top:.1f}")
    lines = "".join(f'<polyline points="{" ".join(run)}"/>' for run in runs if run)
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="none">{lines}</svg>'
    )


def chart(options: dict[str, Any], label: str) -> ui.echart:
    """A chart in the page's colours; `label` says what it shows."""
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
    shown = ui.echart(shared | options, renderer="svg").classes("chart")  # SVG, so that the style sheet has its say
    shown.props("role=img")
    shown.props["aria-label"] = label
    return shown


def series(name: str, points: Iterable[tuple[float, float | None]], *, area: bool = False) -> dict[str, Any]:
    """A line over time for `chart`; times are epoch seconds."""
    data = [[round(at_s * 1000), value] for at_s, value in points]
    line: dict[str, Any] = {"name": name, "type": "line", "showSymbol": False, "data": data, "lineStyle": {"width": 2}}
    return line | ({"areaStyle": {"opacity": 0.15}} if area else {})


def time_axes(unit: str) -> dict[str, Any]:
    """Axes of a chart over time."""
    return {
        "xAxis": {"type": "time", "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "name": unit, "minInterval": 1},
    }


async def confirmed(title: str, text: str, *, name: str = "", verb: str = "Do it") -> bool:
    """Whether the viewer confirms; with `name` it has to be typed first."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        heading(title)
        markup(escape(text), tag="p")
        typed = ui.input(f"Type {name} to confirm").props("outlined dense autofocus") if name else None
        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            go: Callable[[], None] = lambda: dialog.submit(typed is None or typed.value == name)  # noqa: E731
            act = ui.button(verb, on_click=go).props("no-caps color=negative" if name else "no-caps")
            if typed is not None:
                act.bind_enabled_from(typed, "value", lambda value: value == name)
    return bool(await answered(dialog))


async def answered(dialog: ui.dialog) -> Any:
    """What the viewer answers; the dialog is gone then."""
    answer = await dialog
    if not dialog.is_deleted:  # with its page
        dialog.delete()
    return answer
