"""The machine that the services run on: the local stack of this home, or none when the cluster is elsewhere."""

from typing import Protocol

from penstock.config import LOOPBACK, Settings
from penstock.errors import WrongUse
from penstock.stack import launch, layout, logs, status
from penstock.stack.status import Status


class Host(Protocol):
    """Where services can be looked at, read and restarted."""

    is_local: bool

    def services(self) -> list[Status]:
        """Every service, as it is now; none when they run elsewhere."""

    def log(self, service: str, lines: int) -> list[str]:
        """The last lines of a service's log."""

    def stop(self, service: str) -> None:
        """Stop a service, and leave the others alone."""

    def start(self, service: str) -> None:
        """Start a service, and return when it is ready."""

    def restart(self, service: str) -> None:
        """Stop and start a service; those that need it stay up meanwhile."""


class LocalStack:
    """The local stack of this home."""

    is_local = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def services(self) -> list[Status]:
        """As `./penstock status`."""
        return status.read(self._settings)

    def log(self, service: str, lines: int) -> list[str]:
        """As `./penstock logs`."""
        return logs.tail(launch.log_of(self._settings, service), lines)

    def stop(self, service: str) -> None:
        """As `./penstock down`."""
        launch.down(self._settings, [service])

    def start(self, service: str) -> None:
        """As `./penstock up`."""
        launch.up(self._settings, [service])

    def restart(self, service: str) -> None:
        """As `./penstock restart`."""
        launch.restart(self._settings, [service])


class Elsewhere:
    """Services that others look after: nothing is known of their processes. Raises `WrongUse`."""

    is_local = False

    def services(self) -> list[Status]:
        """None is known."""
        return []

    def log(self, service: str, lines: int) -> list[str]:
        """There is none here."""
        raise _elsewhere(f"the last {lines} lines of {service}")

    def stop(self, service: str) -> None:
        """Cannot be done from here."""
        raise _elsewhere(service)

    def start(self, service: str) -> None:
        """Cannot be done from here."""
        raise _elsewhere(service)

    def restart(self, service: str) -> None:
        """Cannot be done from here."""
        raise _elsewhere(service)


def _elsewhere(what: str) -> WrongUse:
    return WrongUse(f"{what}: the local stack of this home is not what the settings name", hint="./penstock config")


def host_of(settings: Settings) -> Host:
    """The local stack, if the settings name its Kafka and this home holds one."""
    is_ours = settings.kafka_bootstrap == f"{LOOPBACK}:{settings.kafka_port}"
    return LocalStack(settings) if is_ours and layout.of(settings).credentials.exists() else Elsewhere()
