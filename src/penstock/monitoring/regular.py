"""A verification every few hours, without anybody asking: the alerts on receipts then speak of a receipt of today."""

import subprocess
import sys
import time

from penstock.config import Settings
from penstock.log import get_logger
from penstock.monitoring.alerts import Snapshot

log = get_logger(__name__)

_END_S = 10.0
_COMMAND = (sys.executable, "-m", "penstock.cli", "verify", "--json")


class Regular:
    """Has `penstock verify` carried out when the last time is longer ago than `watch_verify_hours`; 0: never.

    In a process of its own, which gives its memory back. The receipt is kept in Cassandra, where the watch finds it as
    one that somebody asked for.
    """

    def __init__(self, settings: Settings, command: tuple[str, ...] = _COMMAND) -> None:
        self._every_s = settings.watch_verify_hours * 3600
        self._command = command
        self._stamp = settings.home / "data" / "verified"
        self._process: subprocess.Popen[bytes] | None = None

    def round(self, now: Snapshot) -> None:
        """Begin, or look whether it has ended. Nothing is verified while a service is away, or no record came yet."""
        if self._process is not None:
            self._look(self._process)
        elif self._every_s and now.topic_records and not any(now.services.values()) and self._is_due():
            log.info("verifying")
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def _is_due(self) -> bool:
        """Whether it is time; at the first start that is not yet."""
        if not self._stamp.exists():
            self._touch()
        return time.time() - self._stamp.stat().st_mtime >= self._every_s

    def _look(self, process: "subprocess.Popen[bytes]") -> None:
        code = process.poll()
        if code is None:
            return
        self._process = None
        self._touch()
        if code in (0, 1):
            log.info("verified", balanced=code == 0)
        else:
            log.warning("not_verified", exit_code=code)  # its own words stand in the log, before this line

    def _touch(self) -> None:
        self._stamp.parent.mkdir(parents=True, exist_ok=True)
        self._stamp.touch()

    def close(self) -> None:
        """End one that is under way."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
