"""The services and their logs, the settings in force, the audit log and the alerts; no answer holds a secret."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query

from penstock.control.desk import Desk
from penstock.control.in_force import Setting, in_force
from penstock.control.logbook import MOST_LINES, Line
from penstock.control.trail import Deed
from penstock.control.upkeep import Upkeep
from penstock.observe.alerts import Change
from penstock.observe.history import History
from penstock.observe.space import Space
from penstock.stack.service import Status


@dataclass(frozen=True)
class Log:
    """The end of a service's log, the oldest line first."""

    service: str
    lines: list[Line]


def register(api: FastAPI, desk: Desk) -> None:
    """Serve it."""
    upkeep = desk.one(Upkeep)

    @api.get("/services")
    def services() -> list[Status]:
        """Every service of the local stack; of a cluster elsewhere whether each answers."""
        return upkeep.services()

    @api.get("/machine")
    def machine() -> Space:
        """Disk, memory, and what the folders of the home take."""
        return upkeep.space()

    @api.get("/settings")
    def settings() -> list[Setting]:
        """Every setting in force; secrets are ******."""
        return in_force(desk.settings)

    @api.get("/logs/{service}")
    def logs(
        service: str,
        lines: Annotated[int, Query(ge=1, le=MOST_LINES)] = 200,
        search: Annotated[str, Query(description="A text that each line holds, whatever its case.")] = "",
    ) -> Log:
        """The last lines of a service's log, of the last 2 MiB of it."""
        return Log(service, upkeep.logbook(service).last(lines, search).lines)

    @api.get("/audit")
    def audit(newest: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[Deed]:
        """What was done on the page, the newest first."""
        return desk.trail.newest(newest)

    @api.get("/alerts")
    def alerts(newest: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[Change]:
        """The newest changes of alerts, the newest first."""
        return History(desk.settings).read()[-newest:][::-1]
