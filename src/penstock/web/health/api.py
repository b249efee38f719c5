"""Services and their logs, effective settings, audit log and alerts. Responses contain no secrets."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query

from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.history import History
from penstock.stack.service import Status
from penstock.web.app_context import AppContext
from penstock.web.audit_log import AuditEntry
from penstock.web.effective_settings import EffectiveSetting, list_effective_settings
from penstock.web.health.health_service import HealthService
from penstock.web.health.space import Space
from penstock.web.logbook import MOST_LINES, LogLine


@dataclass(frozen=True)
class Log:
    """The tail of a service's log, oldest line first."""

    service: str
    lines: list[LogLine]


def register(api: FastAPI, context: AppContext) -> None:
    """Add the health routes."""
    health_service = context.get_shared(HealthService)

    @api.get("/services")
    def services() -> list[Status]:
        """List the services of the local stack; for a remote cluster only whether each responds."""
        return health_service.list_services()

    @api.get("/machine")
    def machine() -> Space:
        """Get disk and memory usage, and the size of each folder in the data directory."""
        return health_service.get_space()

    @api.get("/settings")
    def settings() -> list[EffectiveSetting]:
        """List all effective settings. Secrets are shown as ******."""
        return list_effective_settings(context.settings)

    @api.get("/logs/{service}")
    def logs(
        service: str,
        lines: Annotated[int, Query(ge=1, le=MOST_LINES)] = 200,
        search: Annotated[str, Query(description="Only lines that contain this text, ignoring case.")] = "",
    ) -> Log:
        """Get the last lines of a service's log, from its last 2 MiB."""
        return Log(service, health_service.open_log(service).read_last(lines, search).lines)

    @api.get("/audit")
    def audit(newest: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[AuditEntry]:
        """List audit log entries, newest first."""
        return context.audit_log.read_newest(newest)

    @api.get("/alerts")
    def alerts(newest: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[AlertChange]:
        """List alert changes, newest first."""
        return History(context.settings).read()[-newest:][::-1]
