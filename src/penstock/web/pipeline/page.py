"""The start page: the path from the API to the table, and the state of each stage."""

import time
from html import escape
from typing import Any, NamedTuple

from nicegui import ui

from penstock import remedies
from penstock.monitoring.monitor import Point, View, compute_rate
from penstock.reconcile.verify import EXCUSED
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import command_html, duration, moment_html, number, put, sparkline_html, state_html
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.pipeline import hops as observe_hops
from penstock.web.pipeline.hops import Hop

_LINKS = {
    "api": "/runs",
    "airflow": "/runs",
    "kafka": "/topics",
    "spark": "/stream",
    "cassandra": "/table",
    "rejected": "/rejected",
}
_COUNTS = {
    "api": "fetched",
    "airflow": "produced",
    "kafka": "kafka",
    "spark": "read",
    "cassandra": "stored",
    "rejected": "rejected",
}
_WORDS = {"ok": "ready", "busy": "flowing", "idle": "idle", "late": "behind", "down": "down", "unknown": "not known"}
_POINTS = 75
"""Approximate number of points drawn for the fifteen minutes."""


def register(desk: AppContext) -> None:
    """Serve the page."""
    shared = _Shared(desk)

    @page(desk, "/", "Pipeline")
    def pipeline(visit: PageContext) -> None:
        _Pipeline(visit, shared)


class _Parts(NamedTuple):
    """Page content for one snapshot: HTML fragments, and the series of the charts."""

    verdict: str
    path: str
    branch: str
    totals: str
    receipt: str
    alerts: str
    rates: list[dict[str, Any]]
    late: list[dict[str, Any]]


class _Shared:
    """The parts of the page, built once per snapshot however many pages are open."""

    def __init__(self, desk: AppContext) -> None:
        self._desk = desk
        self._made: tuple[View, _Parts] | None = None

    def parts(self) -> _Parts:
        """Return the current parts. The verdict also depends on the snapshot's age."""
        view = self._desk.view
        if self._made is None or self._made[0] is not view:
            self._made = view, self._make(view)
        return self._made[1]._replace(verdict=_verdict(view))

    def _make(self, view: View) -> _Parts:
        found = observe_hops.hops(view, self._desk.settings)
        return _Parts(
            verdict="",
            path=f'<div class="path">{"".join(_render_stage(hop, view) for hop in found[:-1])}</div>',
            branch="".join(_render_stage(hop, view) for hop in found[-1:]),
            totals=_totals(view),
            receipt=_receipt(view),
            alerts=_alerts(view),
            rates=_rates(view),
            late=_late(view),
        )


def _verdict(view: View) -> str:
    told = observe_hops.verdict(view, time.time())
    return f'<div class="verdict {told.tone}"><strong>{escape(told.text)}</strong> {command_html(told.command)}</div>'


class _Pipeline:
    """The page. A part is sent again only if it has changed."""

    def __init__(self, visit: PageContext, shared: _Shared) -> None:
        self._shared = shared
        self._verdict = elements.markup("", tag="div").props("role=status aria-live=polite")
        self._path = elements.markup("", tag="div").props('aria-label="The way of the records" role=group')
        self._branch = elements.markup("", tag="div").classes("branch")
        self._totals = elements.markup("", tag="div").classes("big")
        with ui.element("div").classes("grid"):
            with ui.element("div").classes("card"):
                elements.heading("Records a second")
                self._rates = elements.chart(elements.time_axes("1/s"), "records a second over fifteen minutes")
            with ui.element("div").classes("card"):
                elements.heading("Waiting, and how late")
                self._late = elements.chart(_two_axes(), "records that wait, and latencies, over fifteen minutes")
        with ui.element("div").classes("grid"):
            self._receipt = elements.markup("", tag="section").classes("card")
            self._alerts = elements.markup("", tag="section").classes("card")
        self._refresh_parts()
        visit.every(REFRESH_S, self._refresh_parts)

    def _refresh_parts(self) -> None:
        parts = self._shared.parts()
        for name in ("verdict", "path", "branch", "totals", "receipt", "alerts"):
            put(getattr(self, f"_{name}"), getattr(parts, name))
        for chart, lines in ((self._rates, parts.rates), (self._late, parts.late)):
            if chart.options.get("series") is not lines:
                chart.options["series"] = lines
                chart.update()


def _sample_points(view: View) -> list[Point]:
    """Return the points to draw."""
    return view.points[:: max(1, len(view.points) // _POINTS)]


def _rates(view: View) -> list[dict[str, Any]]:
    points = _sample_points(view)
    names = {"kafka": "come", "stored": "stored", "rejected": "rejected"}
    return [
        elements.series(
            name, [(points[at].at_s, compute_rate(points[: at + 1], count)) for at in range(1, len(points))]
        )
        for count, name in names.items()
    ]


def _late(view: View) -> list[dict[str, Any]]:
    points = _sample_points(view)
    return [
        elements.series("waiting", [(one.at_s, one.lag) for one in points], area=True),
        elements.series("half within, ms", [(one.at_s, one.p50_ms) for one in points]) | {"yAxisIndex": 1},
        elements.series("99 % within, ms", [(one.at_s, one.p99_ms) for one in points]) | {"yAxisIndex": 1},
    ]


def _two_axes() -> dict[str, object]:
    axes = elements.time_axes("records")
    return axes | {"yAxis": [axes["yAxis"], {**axes["yAxis"], "name": "ms", "splitLine": {"show": False}}]}


def _render_stage(hop: Hop, view: View) -> str:
    points = _sample_points(view)
    values = [compute_rate(points[: at + 1], _COUNTS[hop.name], over_s=30) for at in range(1, len(points))]
    wrong = ""
    if hop.error:
        wrong = _render_error(hop)
    waiting = f", {number(hop.waiting)} waiting" if hop.waiting else ""
    return (
        f'<article class="hop {hop.state}" id="hop-{hop.name}">'
        f'<h3><a href="{_LINKS[hop.name]}">{escape(hop.title)}</a>{state_html(hop.state, _WORDS[hop.state])}</h3>'
        f'<div class="rate">{number(hop.rate_s)} <small>records/s</small></div>'
        f'<div class="told">{number(hop.total)} {escape(hop.counts)}{waiting}</div>'
        f'<div class="told">{escape(hop.told)}</div>'
        f"{sparkline_html(values, f'{hop.title}: records a second over the last fifteen minutes')}{wrong}</article>"
    )


def _render_error(hop: Hop) -> str:
    """Return the current error and the command to run, or the last error and its time."""
    if hop.state == "down":
        error = f'<div class="wrong" role="alert">{escape(hop.error)}</div>'
        return error + command_html(hop.command)
    when = "" if hop.error_at_s is None else f" {moment_html(hop.error_at_s * 1000)}"
    return f'<div class="wrong over">last error{when}: {escape(hop.error[:200])}</div>'


def _totals(view: View) -> str:
    now = view.now
    counts = (
        {}
        if now is None
        else {
            "came to Kafka": number(now.counts.kafka),
            "stored": number(now.counts.stored),
            "waiting": number(now.lag),
            "set aside": number(now.counts.rejected),
            "half within": duration(now.p50_ms),
            "99 % within": duration(now.p99_ms),
        }
    )
    return "".join(
        f'<div class="card"><strong>{value}</strong><span class="quiet">{name}</span></div>'
        for name, value in counts.items()
    )


def _receipt(view: View) -> str:
    receipt = view.receipt
    if receipt is None:
        how = command_html(remedies.verify())
        return f"<h2>Last receipt</h2><p>None yet. It proves that nothing was lost: {how}</p>"
    words = ("ok", "balanced") if receipt["balanced"] else ("down", "not balanced")
    names = ("produced", "stored", "rejected", "waiting", "missing", "rows")
    counts = [(name, number(receipt[name])) for name in names]
    counts += [(name, number(receipt[name])) for name in EXCUSED if receipt.get(name)]
    cells = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in counts)
    warnings = "".join(f'<p class="warn">{escape(str(one))}</p>' for one in receipt.get("warnings", []))
    return (
        f"<h2>Last receipt</h2><p>{state_html(*words)} {moment_html(receipt['at'])}</p>"
        f'<dl class="facts">{cells}</dl>{warnings}'
    )


def _alerts(view: View) -> str:
    nobody = "" if view.is_watched else f"<p>Nobody looks for alerts: {command_html(remedies.start('watch'))}</p>"
    if not view.alerts:
        return f"<h2>Alerts</h2>{nobody or '<p>None fires.</p>'}"
    lines = "".join(
        f'<li><strong class="{"bad" if one.severity == "critical" else "warn"}">{escape(one.name)}</strong> '
        f"{escape(one.message)}, since {moment_html(one.since)}<br>{command_html(one.command)}</li>"
        for one in view.alerts
    )
    return f"<h2>Alerts</h2>{nobody}<ul>{lines}</ul>"
