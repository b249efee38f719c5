"""The machine that the services run on: the local stack of this home, or none when the cluster is elsewhere."""

from pathlib import Path
from typing import Protocol

from penstock.config import LOOPBACK, Settings
from penstock.errors import WrongUse
from penstock.stack import layout
from penstock.stack.service import Status


class Host(Protocol):
    """Where services can be looked at, read and restarted."""

    is_local: bool

    def services(self) -> list[Status]:
        """Every service, as it is now; none when they run elsewhere."""

    def log_of(self, service: str) -> Path:
        """Where a service's log is. Raises `WrongUse` for a service that there is none of."""

    def stop(self, service: str) -> None:
        """Stop a service, and leave the others alone."""

    def start(self, service: str) -> None:
        """Start a service, and return when it is ready."""

    def restart(self, service: str) -> None:
        """Stop and start a service; those that need it stay up meanwhile."""


class Elsewhere:
    """Services that others look after: nothing is known of their processes. Raises `WrongUse`."""

    is_local = False

    def services(self) -> list[Status]:
        """None is known."""
        return []

    def log_of(self, service: str) -> Path:
        """There is none here."""
        raise _elsewhere(f"the log of {service}")

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
    if not (is_ours and layout.of(settings).credentials.exists()):
        return Elsewhere()
    from penstock.control.local_stack import LocalStack  # all that the stack is made of, which is not everywhere

    return LocalStack(settings)
