"""The start page: the stages from the API to the table, and the state of each."""

import time
from typing import Any, NamedTuple

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.monitoring.monitor import PipelineState
from penstock.monitoring.snapshot import Snapshot, compute_rate
from penstock.reconcile.verify import EXCUSED
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import (
    command_html,
    facts_html,
    format_duration,
    format_number,
    moment_html,
    sparkline_html,
    state_html,
    update_html,
)
from penstock.web.markup import NOTHING, html, join
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.pipeline.stages import StageStatus, describe_stages, summarize_pipeline

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
_LABELS = {"ok": "healthy", "busy": "active", "idle": "idle", "late": "degraded", "down": "down", "unknown": "unknown"}
_POINTS = 75
"""Approximate number of points drawn for the fifteen minutes."""


def register(context: AppContext) -> None:
    """Serve the page."""
    shared = _Shared(context)

    @page(context, "/", "Pipeline")
    def pipeline(visit: PageContext) -> None:
        _Pipeline(visit, shared)


class _Parts(NamedTuple):
    """Page content for one snapshot: HTML fragments, and the series of the charts."""

    verdict: Markup
    path: Markup
    branch: Markup
    totals: Markup
    receipt: Markup
    alerts: Markup
    rates: list[dict[str, Any]]
    lag: list[dict[str, Any]]


class _Shared:
    """The parts of the page, built once per snapshot however many pages are open."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._cached: tuple[PipelineState, _Parts] | None = None

    def parts(self) -> _Parts:
        """Return the current parts. The summary also depends on the snapshot's age."""
        pipeline = self._context.state
        if self._cached is None or self._cached[0] is not pipeline:
            self._cached = pipeline, self._make(pipeline)
        return self._cached[1]._replace(verdict=_render_summary(pipeline))

    def _make(self, pipeline: PipelineState) -> _Parts:
        stages = describe_stages(pipeline, self._context.settings)
        return _Parts(
            verdict=NOTHING,
            path=html('<div class="path">{}</div>', join(_render_stage(stage, pipeline) for stage in stages[:-1])),
            branch=join(_render_stage(stage, pipeline) for stage in stages[-1:]),
            totals=_render_totals(pipeline),
            receipt=_render_receipt(pipeline),
            alerts=_render_alerts(pipeline),
            rates=_build_rate_series(pipeline),
            lag=_build_lag_series(pipeline),
        )


def _render_summary(pipeline: PipelineState) -> Markup:
    summary = summarize_pipeline(pipeline, time.time())
    command = command_html(summary.command)
    return html('<div class="verdict {}"><strong>{}</strong> {}</div>', summary.tone, summary.text, command)


class _Pipeline:
    """The page. A part is sent again only if it has changed."""

    def __init__(self, visit: PageContext, shared: _Shared) -> None:
        self._shared = shared
        self._verdict = elements.add_html("", tag="div").props("role=status aria-live=polite")
        self._path = elements.add_html("", tag="div").props('aria-label="Pipeline stages" role=group')
        self._branch = elements.add_html("", tag="div").classes("branch")
        self._totals = elements.add_html("", tag="div").classes("big")
        with ui.element("div").classes("grid"):
            with ui.element("div").classes("card"):
                elements.add_heading("Throughput")
                self._rates = elements.add_chart(
                    elements.build_time_axes("1/s"), "throughput in records per second over fifteen minutes"
                )
            with ui.element("div").classes("card"):
                elements.add_heading("Lag and latency")
                self._lag = elements.add_chart(_two_axes(), "lag in records, and latency in ms, over fifteen minutes")
        with ui.element("div").classes("grid"):
            self._receipt = elements.add_html("", tag="section").classes("card")
            self._alerts = elements.add_html("", tag="section").classes("card")
        self._refresh_parts()
        visit.every(REFRESH_S, self._refresh_parts)

    def _refresh_parts(self) -> None:
        parts = self._shared.parts()
        for name in ("verdict", "path", "branch", "totals", "receipt", "alerts"):
            update_html(getattr(self, f"_{name}"), getattr(parts, name))
        for chart, lines in ((self._rates, parts.rates), (self._lag, parts.lag)):
            if chart.options.get("series") is not lines:
                chart.options["series"] = lines
                chart.update()


def _sample_snapshots(pipeline: PipelineState) -> list[Snapshot]:
    """Return the snapshots to draw."""
    return pipeline.snapshots[:: max(1, len(pipeline.snapshots) // _POINTS)]


def _build_rate_series(pipeline: PipelineState) -> list[dict[str, Any]]:
    snapshots = _sample_snapshots(pipeline)
    names = {"kafka": "in", "stored": "stored", "rejected": "rejected"}
    return [
        elements.build_series(
            name, [(snapshots[at].at_s, compute_rate(snapshots[: at + 1], count)) for at in range(1, len(snapshots))]
        )
        for count, name in names.items()
    ]


def _build_lag_series(pipeline: PipelineState) -> list[dict[str, Any]]:
    snapshots = _sample_snapshots(pipeline)
    return [
        elements.build_series("lag", [(snapshot.at_s, snapshot.lag_records) for snapshot in snapshots], area=True),
        elements.build_series("latency p50, ms", [(snapshot.at_s, snapshot.p50_ms) for snapshot in snapshots])
        | {"yAxisIndex": 1},
        elements.build_series("latency p99, ms", [(snapshot.at_s, snapshot.p99_ms) for snapshot in snapshots])
        | {"yAxisIndex": 1},
    ]


def _two_axes() -> dict[str, object]:
    axes = elements.build_time_axes("records")
    return axes | {"yAxis": [axes["yAxis"], {**axes["yAxis"], "name": "ms", "splitLine": {"show": False}}]}


def _render_stage(stage: StageStatus, pipeline: PipelineState) -> Markup:
    snapshots = _sample_snapshots(pipeline)
    values = [compute_rate(snapshots[: at + 1], _COUNTS[stage.name], over_s=30) for at in range(1, len(snapshots))]
    error = _render_error(stage) if stage.error else ""
    lag = f", lag {format_number(stage.waiting)}" if stage.waiting else ""
    return html(
        '<article class="hop {state}" id="hop-{name}">'
        '<h3><a href="{address}">{title}</a>{label}</h3>'
        '<div class="rate">{rate_s} <small>records/s</small></div>'
        '<div class="told">{total} {counts}{lag}</div>'
        '<div class="told">{message}</div>'
        "{sparkline}{error}</article>",
        state=stage.state,
        name=stage.name,
        address=_LINKS[stage.name],
        title=stage.title,
        label=state_html(stage.state, _LABELS[stage.state]),
        rate_s=format_number(stage.rate_s),
        total=format_number(stage.total),
        counts=stage.counts,
        lag=lag,
        message=stage.told,
        sparkline=sparkline_html(values, f"{stage.title}: records per second over the last fifteen minutes"),
        error=error,
    )


def _render_error(stage: StageStatus) -> Markup:
    """Return the error: with the command to run if the stage is down, else with its time."""
    if stage.state == "down":
        return html('<div class="wrong" role="alert">{}</div>{}', stage.error, command_html(stage.command))
    when = "" if stage.error_at_s is None else html(" {}", moment_html(stage.error_at_s * 1000))
    return html('<div class="wrong over">last error{}: {}</div>', when, stage.error[:200])


def _render_totals(pipeline: PipelineState) -> Markup:
    now = pipeline.now
    counts = (
        {}
        if now is None
        else {
            "received": format_number(now.counts.kafka),
            "stored": format_number(now.counts.stored),
            "lag": format_number(now.lag_records),
            "dead letters": format_number(now.counts.rejected),
            "latency p50": format_duration(now.p50_ms),
            "latency p99": format_duration(now.p99_ms),
        }
    )
    return join(
        html('<div class="card"><strong>{}</strong><span class="quiet">{}</span></div>', value, name)
        for name, value in counts.items()
    )


def _render_receipt(pipeline: PipelineState) -> Markup:
    receipt = pipeline.receipt
    if receipt is None:
        command = command_html(remedies.verify())
        return html(
            "<h2>Last receipt</h2><p>No receipt yet. Create one to prove that nothing was lost: {}</p>", command
        )
    state = ("ok", "balanced") if receipt["balanced"] else ("down", "not balanced")
    labels = {"waiting": "pending"}
    names = ("produced", "stored", "rejected", "waiting", "missing", "rows")
    counts = [(labels.get(name, name), format_number(receipt[name])) for name in names]
    counts += [(name, format_number(receipt[name])) for name in EXCUSED if receipt.get(name)]
    warnings = join(html('<p class="warn">{}</p>', warning) for warning in receipt.get("warnings", []))
    return html(
        '<h2>Last receipt</h2><p>{state} {moment}</p><dl class="facts">{cells}</dl>{warnings}',
        state=state_html(*state),
        moment=moment_html(receipt["at"]),
        cells=facts_html(counts),
        warnings=warnings,
    )


def _render_alerts(pipeline: PipelineState) -> Markup:
    note = NOTHING
    if not pipeline.is_watched:
        note = html("<p>Alerting is not running. Start it with: {}</p>", command_html(remedies.start("watch")))
    if not pipeline.alerts:
        return html("<h2>Alerts</h2>{}", note or html("<p>No active alerts.</p>"))
    lines = join(
        html(
            '<li><strong class="{tone}">{name}</strong> {message}, since {since}<br>{command}</li>',
            tone="bad" if alert.severity == "critical" else "warn",
            name=alert.name,
            message=alert.message,
            since=moment_html(alert.since),
            command=command_html(alert.command),
        )
        for alert in pipeline.alerts
    )
    return html("<h2>Alerts</h2>{}<ul>{}</ul>", note, lines)
