"""watch, alerts: detect problems and send notifications."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from penstock.cli.text import format_table, print_json, print_progress

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(watch)
    app.command()(alerts)


def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Poll once, write nothing; exit 1 if an alert is active.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: with --once a list, else one line per change.")
    ] = False,
) -> None:
    """Poll for alerts until stopped, and report each change once.

    Changes go to the log, to data/alerts.jsonl in PENSTOCK_HOME, and to PENSTOCK_ALERT_WEBHOOK_URL if set.
    """
    import logging

    from penstock import config

    settings = config.load()
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # these errors are alerts already
    if not once:
        _run_watcher(settings, as_json)
        return
    from penstock.monitoring import watch as observe_watch

    active = observe_watch.poll_once(settings)
    _print_open(active, as_json)
    raise typer.Exit(1 if active else 0)


def alerts(
    as_json: AsJson = False,
    every: Annotated[bool, typer.Option("--all", help="Show all recorded changes, not only active alerts.")] = False,
) -> None:
    """Show the active alerts recorded by the watch."""
    from penstock import config
    from penstock.monitoring.history import History

    settings = config.load()
    history = History(settings)
    if every:
        _print_changes(history.read(), as_json)
    else:
        _print_open(history.open(), as_json)
    _warn_unless_watched(settings)


def _run_watcher(settings: Any, as_json: bool) -> None:
    import signal
    import threading

    from penstock.monitoring import watch as observe_watch

    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        # in its own thread: the signal may interrupt the loop while it holds the event's lock
        signal.signal(signum, lambda *_: threading.Thread(target=stop.set).start())
    observe_watch.run_watcher(settings, stop, _print_line if as_json else lambda _: None)


def _print_line(change: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(change).decode())


def _print_open(open_alerts: Sequence[Any], as_json: bool) -> None:
    if as_json:
        print_json(open_alerts)
    elif open_alerts:
        lines = [(alert.name, alert.severity, alert.since, alert.message, alert.command) for alert in open_alerts]
        typer.echo(format_table(("alert", "severity", "since", "message", "see"), lines))
    else:
        print_progress("no active alerts")


def _print_changes(changes: Sequence[Any], as_json: bool) -> None:
    if as_json:
        print_json(changes)
    else:
        lines = [(change.at, change.change, change.name, change.subject, change.message) for change in changes]
        typer.echo(format_table(("at", "change", "alert", "subject", "message"), lines))


def _warn_unless_watched(settings: Any) -> None:
    from penstock.monitoring.history import is_watched

    if not is_watched(settings):
        print_progress("no alert watcher is running: ./penstock up watch")
