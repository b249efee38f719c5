"""The history of alerts: a file with one JSON line per change, from which firing alerts survive a restart."""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from penstock import formats
from penstock.config import Settings
from penstock.monitoring.alerts import AlertChange

MAX_BYTES = 5 * 1024 * 1024


def is_watched(settings: Settings) -> bool:
    """Return whether an alert watcher is running: it has polled the pipeline of this data directory recently."""
    beat = settings.watch_beat
    return beat.exists() and time.time() - beat.stat().st_mtime <= settings.watch_beat_s


class History:
    """The history file and its predecessor. Lines that are corrupt or foreign are skipped."""

    def __init__(self, settings: Settings, max_bytes: int = MAX_BYTES) -> None:
        self.path = settings.home / "data" / "alerts.jsonl"
        self._before = self.path.with_name("alerts.1.jsonl")
        self._max_bytes = max_bytes

    def read(self) -> list[AlertChange]:
        """Return all changes that are still kept, oldest first. Raises `FormatTooNew`."""
        changes = {change.number: change for path in (self._before, self.path) for change in _read_changes(path)}
        return [changes[number] for number in sorted(changes)]

    def open(self) -> list[AlertChange]:
        """Return the firing alerts: those whose last change is `firing`."""
        last = {change.key: change for change in self.read()}
        return [change for change in last.values() if change.change == "firing"]

    def append(self, changes: Iterable[AlertChange]) -> None:
        """Append the changes. Raises `OSError`."""
        lines = _encode_changes(changes)
        if not lines:
            return
        if _size_bytes(self.path) + len(lines) > self._max_bytes:
            self._rotate_file()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write((b"\n" if _is_torn(self.path) else b"") + lines)

    def _rotate_file(self) -> None:
        """Start a new file with the alerts that are firing, so that none is lost while it fires."""
        fires = _encode_changes(self.open())
        self.path.replace(self._before)
        self.path.write_bytes(fires)


def file_version(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file's content: its modification time in ns, and its size in bytes.

    None if the file does not exist, as for a moment while a log is rotated.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a file; empty if it does not exist."""
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _encode_changes(changes: Iterable[AlertChange]) -> bytes:
    return b"".join(formats.encode_marked(formats.ALERTS, change) + b"\n" for change in changes)


def _read_changes(path: Path) -> Iterable[AlertChange]:
    for line in read_lines(path):
        try:
            formats.check_marked(formats.ALERTS, line, str(path))
            yield msgspec.json.decode(line, type=AlertChange)
        except msgspec.DecodeError:
            continue


def _size_bytes(path: Path) -> int:
    version = file_version(path)
    return version[1] if version else 0


def _is_torn(path: Path) -> bool:
    """Return whether the last line is incomplete."""
    if not _size_bytes(path):
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"
