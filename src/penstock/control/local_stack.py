"""The host that the local stack of this home is."""

from pathlib import Path

from penstock.config import Settings
from penstock.stack import launch, status
from penstock.stack.service import Status


class LocalStack:
    """The local stack of this home."""

    is_local = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def services(self) -> list[Status]:
        """As `./penstock status`."""
        return status.read(self._settings)

    def log_of(self, service: str) -> Path:
        """As `./penstock logs`."""
        return launch.log_of(self._settings, service)

    def stop(self, service: str) -> None:
        """As `./penstock down`."""
        launch.down(self._settings, [service])

    def start(self, service: str) -> None:
        """As `./penstock up`."""
        launch.up(self._settings, [service])

    def restart(self, service: str) -> None:
        """As `./penstock restart`."""
        launch.restart(self._settings, [service])
