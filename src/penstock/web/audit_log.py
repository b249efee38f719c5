"""The audit log: actions taken in the control center, who took them, and their outcome. JSON lines."""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from penstock import formats
from penstock.config import Settings
from penstock.files import LOG_MAX_BYTES, RotatedLog
from penstock.log import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class AuditEntry:
    """An entry of the audit log. `at` is ISO 8601, UTC."""

    at: str
    who: str
    action: str
    subject: str
    outcome: str


class AuditLog:
    """The audit log.

    Entries that cannot be written to disk are still in the application log.
    """

    def __init__(self, settings: Settings, max_bytes: int = LOG_MAX_BYTES) -> None:
        self.path = settings.home / "data" / "audit.jsonl"
        self._log = RotatedLog(self.path, max_bytes)

    def record(self, who: str, action: str, subject: str, outcome: str) -> None:
        """Append an entry."""
        entry = AuditEntry(datetime.now(UTC).isoformat(timespec="milliseconds"), who, action, subject, outcome)
        log.info("action_recorded", who=who, action=action, subject=subject, outcome=outcome)
        try:
            self._log.append(formats.encode_marked(formats.AUDIT_LOG, entry) + b"\n")
        except OSError as error:
            log.warning("audit_entry_not_written", path=str(self.path), error=str(error))

    def read_newest(self, most: int = 100) -> list[AuditEntry]:
        """Return up to `most` entries, newest first. Raises `FormatTooNew`."""
        lines = deque(self._log.lines(), maxlen=most)
        return [entry for path, line in reversed(lines) if (entry := _decode_entry(path, line)) is not None]


def _decode_entry(path: Path, line: bytes) -> AuditEntry | None:
    try:
        formats.check_marked(formats.AUDIT_LOG, line, str(path))
        return msgspec.json.decode(line, type=AuditEntry)
    except msgspec.DecodeError:
        return None
