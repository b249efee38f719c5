"""The history of alerts: a file with one JSON line per change, from which firing alerts survive a restart."""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from penstock import formats
from penstock.config import Settings
from penstock.files import LOG_MAX_BYTES, RotatedLog
from penstock.monitoring.alerts import AlertChange


def is_watched(settings: Settings) -> bool:
    """Return whether an alert watcher is running: it has polled the pipeline of this data directory recently."""
    beat = settings.watch_beat
    return beat.exists() and time.time() - beat.stat().st_mtime <= settings.watch_beat_s


class History:
    """The history of alerts. Lines that are corrupt or foreign are skipped.

    Each new file starts with the alerts that are firing, so that none is lost while it fires.
    """

    def __init__(self, settings: Settings, max_bytes: int = LOG_MAX_BYTES) -> None:
        self.path = settings.home / "data" / "alerts.jsonl"
        self._log = RotatedLog(self.path, max_bytes, carry_over=lambda: _encode_changes(self.open()))

    def read(self) -> list[AlertChange]:
        """Return all changes that are still kept, oldest first. Raises `FormatTooNew`."""
        decoded = (_decode_change(path, line) for path, line in self._log.lines())
        changes = {change.number: change for change in decoded if change is not None}
        return [changes[number] for number in sorted(changes)]

    def open(self) -> list[AlertChange]:
        """Return the firing alerts: those whose last change is `firing`."""
        last = {change.key: change for change in self.read()}
        return [change for change in last.values() if change.change == "firing"]

    def append(self, changes: Iterable[AlertChange]) -> None:
        """Append the changes. Raises `OSError`."""
        if lines := _encode_changes(changes):
            self._log.append(lines)


def file_version(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file's content: its modification time in ns, and its size in bytes.

    None if the file does not exist, as for a moment while a log is rotated.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _encode_changes(changes: Iterable[AlertChange]) -> bytes:
    return b"".join(formats.encode_marked(formats.ALERTS, change) + b"\n" for change in changes)


def _decode_change(path: Path, line: bytes) -> AlertChange | None:
    try:
        formats.check_marked(formats.ALERTS, line, str(path))
        return msgspec.json.decode(line, type=AlertChange)
    except msgspec.DecodeError:
        return None
