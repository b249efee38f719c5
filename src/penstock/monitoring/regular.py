"""Run `verify` on a schedule so that receipt alerts stay current."""

import subprocess
import sys
import time

from penstock.config import Settings
from penstock.log import get_logger
from penstock.monitoring.snapshot import Snapshot

log = get_logger(__name__)

_END_S = 10.0
_COMMAND = (sys.executable, "-m", "penstock.reconcile")


class ScheduledVerify:
    """Verifies the topic if the last verification was more than `watch_verify_hours` ago; 0 disables it.

    It runs in its own process, so that its memory is freed. The receipt is stored in Cassandra, where the watcher reads
    it like any other.
    """

    def __init__(self, settings: Settings, command: tuple[str, ...] = _COMMAND) -> None:
        self._every_s = settings.watch_verify_hours * 3600
        self._command = command
        self._stamp = settings.home / "data" / "verified"
        self._process: subprocess.Popen[bytes] | None = None

    def round(self, now: Snapshot) -> None:
        """Start a verification if it is due, or check whether it has ended.

        Nothing is verified while a service is unavailable, or the topic holds no records.
        """
        if self._process is not None:
            self._poll_process(self._process)
        elif self._every_s and now.topic_records and not any(now.services.values()) and self._is_due():
            log.info("verification_started")
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def _is_due(self) -> bool:
        """Return whether a verification is due; at the first start it is not."""
        if not self._stamp.exists():
            self._touch_stamp()
        return time.time() - self._stamp.stat().st_mtime >= self._every_s

    def _poll_process(self, process: "subprocess.Popen[bytes]") -> None:
        code = process.poll()
        if code is None:
            return
        self._process = None
        self._touch_stamp()
        if code in (0, 1):
            log.info("verification_finished", balanced=code == 0)
        else:
            log.warning("verification_failed", exit_code=code)  # its own message precedes this line in the log

    def _touch_stamp(self) -> None:
        self._stamp.parent.mkdir(parents=True, exist_ok=True)
        self._stamp.touch()

    def close(self) -> None:
        """End a verification that is in progress."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
