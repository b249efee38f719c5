"""The alert watcher: polls the pipeline, and reports each change of an alert once.

It reports to the log, to the history of alerts in the data directory, and to a webhook if configured.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from penstock import remedies
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.files import hold_lock
from penstock.log import get_logger
from penstock.monitoring import webhook
from penstock.monitoring.alerts import AlertChange, Board
from penstock.monitoring.history import History
from penstock.monitoring.poller import Poller
from penstock.monitoring.regular import ScheduledVerify
from penstock.monitoring.snapshot import Snapshot
from penstock.monitoring.webhook import Webhook

log = get_logger(__name__)

Poll = Callable[[], Snapshot]
Report = Callable[[AlertChange], None]


class Watch:
    """The alert watcher of one data directory. Tracks firing alerts and sends notifications."""

    def __init__(
        self, settings: Settings, poll: Poll, report: Report = lambda _: None, schedule: ScheduledVerify | None = None
    ) -> None:
        self._settings, self._poll, self._report, self._schedule = settings, poll, report, schedule
        self._history = History(settings)
        known = self._history.read()
        self._board = Board(self._history.open(), known[-1].number if known else 0)
        self._unwritten: list[AlertChange] = []
        self._webhook = _webhook(settings, self._history)

    def round(self) -> list[AlertChange]:
        """Poll once, report the alerts that changed since the last round, and return them."""
        now = self._poll()
        changes = self._board.take(now, self._settings)
        self._write_changes(changes)
        for change in changes:
            _log_change(change)
            self._report(change)
        if self._webhook:
            self._webhook.send(changes)
        if self._schedule:
            self._schedule.round(now)
        _write_heartbeat(self._settings.watch_beat)
        return changes

    def _write_changes(self, changes: Iterable[AlertChange]) -> None:
        """Append the changes to the history; those that fail, e.g. on a full disk, together with the next changes."""
        self._unwritten += changes
        try:
            self._history.append(self._unwritten)
            self._unwritten.clear()
        except OSError as error:
            log.warning("alert_history_write_failed", path=str(self._history.path), error=str(error))

    def run(self, stop: threading.Event) -> None:
        """Run a round every `watch_s` seconds, until `stop` is set."""
        while not stop.is_set():
            began_s = time.monotonic()
            self.round()
            stop.wait(max(0.0, began_s + self._settings.watch_s - time.monotonic()))

    def close(self) -> None:
        """Wait for a delivery to the webhook, and end a verification."""
        if self._webhook:
            self._webhook.close()
        if self._schedule:
            self._schedule.close()


def _webhook(settings: Settings, history: History) -> Webhook | None:
    path = history.path.with_name("alerts.webhook")
    if settings.alert_webhook_url.get_secret_value():
        return Webhook(webhook.build_poster(settings), path, history.read())
    path.unlink(missing_ok=True)  # a webhook that is configured later gets no old changes
    return None


def _log_change(change: AlertChange) -> None:
    facts = {"name": change.name, "subject": change.subject, "severity": change.severity, "since": change.since}
    if change.change == "firing":
        log.warning("alert_firing", **facts, message=change.message, command=change.command)
    else:
        log.info("alert_resolved", **facts)


def _write_heartbeat(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        log.warning("heartbeat_write_failed", path=str(path), error=str(error))


def run_watcher(settings: Settings, stop: threading.Event, report: Report = lambda _: None) -> None:
    """Watch until `stop` is set. Raises `PenstockError` if another watcher is running on this data directory."""
    with lock_watcher(settings):
        poller = Poller(settings)
        watch = Watch(settings, poller.read_snapshot, report, ScheduledVerify(settings))
        try:
            watch.run(stop)
        finally:
            watch.close()
            poller.close()


def poll_once(settings: Settings) -> list[AlertChange]:
    """Poll once and return the active alerts. Writes and posts nothing."""
    poller = Poller(settings)
    try:
        return find_alerts(settings, poller.read_snapshot())
    finally:
        poller.close()


def find_alerts(settings: Settings, now: Snapshot) -> list[AlertChange]:
    """Return the alerts of a snapshot, and firing alerts that cannot be confirmed as resolved."""
    board = Board(History(settings).open())
    board.take(now, settings, patient=False)
    return board.open


@contextmanager
def lock_watcher(settings: Settings) -> Iterator[None]:
    """Lock the data directory against other watchers. Raises `PenstockError` if another one is running.

    Two watchers would send duplicate notifications.
    """
    path = settings.watch_beat.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(path, wait=False))
        except BlockingIOError:
            raise PenstockError(
                f"another alert watcher is running on {settings.home}",
                hint=f"{remedies.show_alerts()}, {remedies.poll_alerts()}",
            ) from None
        yield
