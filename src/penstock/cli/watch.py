"""watch, alerts: look for what is wrong, and tell it."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from penstock.cli.text import print_json, table, talk

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(watch)
    app.command()(alerts)


def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Look once, write nothing; exit 1 when something is wrong.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: with --once a list, else a line a change.")
    ] = False,
) -> None:
    """Look for alerts until stopped, and tell each change once.

    Told are the log, the file data/alerts.jsonl in the home, and PENSTOCK_ALERT_WEBHOOK_URL when it is set.
    """
    import logging

    from penstock import config

    settings = config.load()
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # what it complains of is an alert already
    if not once:
        _watch(settings, as_json)
        return
    from penstock.observe import watch as observe_watch

    found = observe_watch.once(settings)
    _print_open(found, as_json)
    raise typer.Exit(1 if found else 0)


def alerts(
    as_json: AsJson = False,
    every: Annotated[bool, typer.Option("--all", help="Every change that is kept, not only what fires.")] = False,
) -> None:
    """Show the alerts that fire, as the watch wrote them."""
    from penstock import config
    from penstock.observe.history import History

    settings = config.load()
    history = History(settings)
    if every:
        _print_changes(history.read(), as_json)
    else:
        _print_open(history.open(), as_json)
    _say_unless_watched(settings)


def _watch(settings: Any, as_json: bool) -> None:
    import signal
    import threading

    from penstock.observe import watch as observe_watch

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # in a thread of its own: the signal may interrupt the loop while it holds the event's lock
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    observe_watch.run(settings, stop, _print_line if as_json else lambda _: None)


def _print_line(change: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(change).decode())


def _print_open(found: Sequence[Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif found:
        lines = [(one.name, one.severity, one.since, one.message, one.command) for one in found]
        typer.echo(table(("alert", "severity", "since", "what", "see"), lines))
    else:
        talk("no alert fires")


def _print_changes(found: Sequence[Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        lines = [(one.at, one.change, one.name, one.subject, one.message) for one in found]
        typer.echo(table(("at", "change", "alert", "subject", "what"), lines))


def _say_unless_watched(settings: Any) -> None:
    from penstock.observe.history import is_watched

    if not is_watched(settings):
        talk("nobody watches this home: ./penstock up watch")
