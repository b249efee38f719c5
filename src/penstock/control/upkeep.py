"""The services and the machine as every open page of health sees them: asked once for all."""

from dataclasses import replace

from penstock.control.desk import Desk
from penstock.control.in_force import Secrets, secrets_of
from penstock.control.logbook import Logbook
from penstock.control.shared import Shared
from penstock.errors import WrongUse
from penstock.observe import space
from penstock.observe.space import Space
from penstock.stack.service import Status

OURSELVES = "control-center"
SERVICES_S = 5.0
SPACE_S = 60.0


class Upkeep:
    """One for all pages. Its methods may be called from any thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._services = Shared(self._ask, SERVICES_S)
        self._space = Shared(lambda: space.read(desk.settings.home), SPACE_S)

    @property
    def secrets(self) -> Secrets:
        """The secrets in force."""
        return secrets_of(self._desk.settings)

    def services(self) -> list[Status]:
        """Every service; of a cluster elsewhere whether each answers, and no more."""
        return self._services()

    def space(self) -> Space:
        """Disk and memory."""
        return self._space()

    def logbook(self, service: str) -> Logbook:
        """The log of a service of the local stack. Raises `NotThere`, and `WrongUse` for a cluster elsewhere."""
        if not self._desk.host.is_local:
            raise WrongUse(f"the log of {service} lies where the service runs, not here", hint="./penstock config")
        return Logbook(self._desk.host, service, self.secrets)

    def restart(self, service: str) -> None:
        """Stop and start a service as `./penstock restart` does; those that need it stay up meanwhile."""
        if service == OURSELVES or not self._desk.host.is_local:
            raise WrongUse(f"{service} cannot be restarted from here", hint=f"./penstock restart {service}")
        try:
            self._desk.host.restart(service)
        finally:
            self._services.forget()

    def _ask(self) -> list[Status]:
        hide = self.secrets.hide
        found = self._desk.host.services() or self._elsewhere()
        return [replace(one, detail=hide(one.detail), page=hide(one.page)) for one in found]

    def _elsewhere(self) -> list[Status]:
        now = self._desk.view.now
        services = {} if now is None else now.services
        return [
            Status(name, name, "", "failing" if error else "ready", error, 0, {}, 0.0, 0, "")
            for name, error in services.items()
        ]
