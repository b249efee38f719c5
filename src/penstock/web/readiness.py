"""Health probes of the control center itself, for supervisors, containers and load balancers. No sign-in needed."""

import time

from fastapi import FastAPI
from starlette.responses import JSONResponse

from penstock.web.app_context import AppContext

LATE_S = 15.0


def register(app: FastAPI, context: AppContext) -> None:
    """Serve /health/live and /health/ready."""

    @app.get("/health/live", include_in_schema=False)
    async def live() -> JSONResponse:
        """Report that the process is up."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        """Report whether the pipeline was polled recently. Unavailable dependencies do not affect readiness."""
        now = context.state.now
        if now is None or time.time() - now.at_s > LATE_S:
            return JSONResponse(
                {"status": "not ready", "why": f"the pipeline was not polled in the last {LATE_S:g} s"}, status_code=503
            )
        unavailable = sorted(name for name, error in now.services.items() if error)
        return JSONResponse({"status": "ready", "services_away": unavailable})
