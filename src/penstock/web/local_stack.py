"""`Host` implementation for the local stack of this data directory."""

from pathlib import Path

from penstock.config import Settings
from penstock.stack import launch, status
from penstock.stack.service import Status


class LocalStack:
    """The local stack of this data directory."""

    is_local = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list_services(self) -> list[Status]:
        """Return the state of every service."""
        return status.read_statuses(self._settings)

    def locate_log(self, service: str) -> Path:
        """Return the path of a service's log."""
        return launch.log_path(self._settings, service)

    def stop(self, service: str) -> None:
        """Stop a service."""
        launch.stop_services(self._settings, [service])

    def start(self, service: str) -> None:
        """Start a service."""
        launch.start_services(self._settings, [service])

    def restart(self, service: str) -> None:
        """Restart a service."""
        launch.restart_services(self._settings, [service])
