"""The audit log: actions taken in the control center, who took them, and their outcome. JSON lines."""

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from penstock import formats
from penstock.config import Settings
from penstock.log import get_logger
from penstock.monitoring.history import read_lines

log = get_logger(__name__)

MAX_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True)
class AuditEntry:
    """An entry of the audit log. `at` is ISO 8601, UTC."""

    at: str
    who: str
    action: str
    subject: str
    outcome: str


class AuditLog:
    """The audit log: the current file and one rotated predecessor.

    Entries that cannot be written to disk are still in the application log.
    """

    def __init__(self, settings: Settings, max_bytes: int = MAX_BYTES) -> None:
        self.path = settings.home / "data" / "audit.jsonl"
        self._rotated = self.path.with_name("audit.1.jsonl")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def record(self, who: str, action: str, subject: str, outcome: str) -> None:
        """Append an entry."""
        entry = AuditEntry(datetime.now(UTC).isoformat(timespec="milliseconds"), who, action, subject, outcome)
        log.info("action_recorded", who=who, action=action, subject=subject, outcome=outcome)
        try:
            with self._lock:
                self._append_line(formats.encode_marked(formats.AUDIT_LOG, entry) + b"\n")
        except OSError as error:
            log.warning("audit_entry_not_written", path=str(self.path), error=str(error))

    def _append_line(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size + len(line) > self._max_bytes:
            self.path.replace(self._rotated)
        with self.path.open("ab") as file:
            file.write(line)

    def read_newest(self, most: int = 100) -> list[AuditEntry]:
        """Return up to `most` entries, newest first. Raises `FormatTooNew`."""
        lines = deque[bytes](maxlen=most)
        for path in (self._rotated, self.path):
            lines.extend(read_lines(path))
        return [entry for line in reversed(lines) if (entry := self._decode_entry(line)) is not None]

    def _decode_entry(self, line: bytes) -> AuditEntry | None:
        try:
            formats.check_marked(formats.AUDIT_LOG, line, str(self.path))
            return msgspec.json.decode(line, type=AuditEntry)
        except msgspec.DecodeError:
            return None
