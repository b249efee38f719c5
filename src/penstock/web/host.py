"""Control of the services' processes: the local stack of this data directory, or nothing for a remote cluster."""

from pathlib import Path
from typing import Protocol

from penstock import remedies
from penstock.config import LOOPBACK, Settings
from penstock.errors import UsageError
from penstock.stack import layout
from penstock.stack.service import Status


class Host(Protocol):
    """Inspects, starts and stops services, and locates their logs."""

    is_local: bool

    def list_services(self) -> list[Status]:
        """Return the current state of every service; empty if they run elsewhere."""

    def locate_log(self, service: str) -> Path:
        """Return the path of a service's log. Raises `UsageError` for an unknown service."""

    def stop(self, service: str) -> None:
        """Stop one service; leave the others running."""

    def start(self, service: str) -> None:
        """Start a service and return once it is ready."""

    def restart(self, service: str) -> None:
        """Stop and start a service. Services that depend on it stay up."""


class Elsewhere:
    """Services that run elsewhere: their processes are unknown, and all methods but `services` raise `UsageError`."""

    is_local = False

    def list_services(self) -> list[Status]:
        """Return an empty list."""
        return []

    def locate_log(self, service: str) -> Path:
        """Raise `UsageError`."""
        raise _make_mismatch_error(f"the log of {service}")

    def stop(self, service: str) -> None:
        """Raise `UsageError`."""
        raise _make_mismatch_error(service)

    def start(self, service: str) -> None:
        """Raise `UsageError`."""
        raise _make_mismatch_error(service)

    def restart(self, service: str) -> None:
        """Raise `UsageError`."""
        raise _make_mismatch_error(service)


def _make_mismatch_error(what: str) -> UsageError:
    return UsageError(
        f"{what} is not available here: the settings do not point to the local stack of this data directory",
        hint=remedies.show_settings(),
    )


def create_host(settings: Settings) -> Host:
    """Return the local stack if the settings point at its Kafka and this data directory has one, else `Elsewhere`."""
    is_ours = settings.kafka_bootstrap == f"{LOOPBACK}:{settings.kafka_port}"
    if not (is_ours and layout.resolve_layout(settings).credentials.exists()):
        return Elsewhere()
    from penstock.web.local_stack import LocalStack  # imports the whole stack, which is not installed everywhere

    return LocalStack(settings)
