"""Health of the services and the machine, cached for all open pages."""

from dataclasses import replace

from penstock import remedies
from penstock.errors import UsageError
from penstock.stack.service import Status
from penstock.web.app_context import AppContext
from penstock.web.effective_settings import Secrets, collect_secrets
from penstock.web.health import space
from penstock.web.health.space import Space
from penstock.web.logbook import Logbook
from penstock.web.query_cache import QueryCache

OURSELVES = "control-center"
SERVICES_S = 5.0
SPACE_S = 60.0


class HealthService:
    """State of services, disk and memory; logs and restarts. Shared by all pages and thread-safe."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._services = QueryCache(self._read_services, SERVICES_S)
        self._space = QueryCache(lambda: space.measure_space(context.settings.home), SPACE_S)

    @property
    def secrets(self) -> Secrets:
        """Return the effective secrets."""
        return collect_secrets(self._context.settings)

    def list_services(self) -> list[Status]:
        """Return every service; for a remote cluster only whether each responds."""
        return self._services()

    def get_space(self) -> Space:
        """Return disk and memory usage."""
        return self._space()

    def open_log(self, service: str) -> Logbook:
        """Return the log of a service of the local stack.

        Raises `NotFound` for an unknown service, `UsageError` for a remote cluster.
        """
        if not self._context.host.is_local:
            raise UsageError(
                f"the log of {service} is on the host where the service runs", hint=remedies.show_settings()
            )
        return Logbook(self._context.host, service, self.secrets)

    def restart(self, service: str) -> None:
        """Restart a service. Services that depend on it stay up.

        Raises `UsageError` for the control center itself and for a remote cluster.
        """
        if service == OURSELVES or not self._context.host.is_local:
            raise UsageError(f"cannot restart {service} from the control center", hint=remedies.restart(service))
        try:
            self._context.host.restart(service)
        finally:
            self._services.clear_cache()

    def _read_services(self) -> list[Status]:
        hide = self.secrets.hide
        services = self._context.host.list_services() or self._remote_services()
        return [replace(service, detail=hide(service.detail), page=hide(service.page)) for service in services]

    def _remote_services(self) -> list[Status]:
        now = self._context.state.now
        services = {} if now is None else now.services
        return [
            Status(name, name, "", "failing" if error else "ready", error, 0, {}, 0.0, 0, "")
            for name, error in services.items()
        ]
