"""Whether the control center itself is well: for supervisors, containers and load balancers. Nobody has to sign in."""

import time

from fastapi import FastAPI
from starlette.responses import JSONResponse

from penstock.control.desk import Desk

LATE_S = 15.0


def register(app: FastAPI, desk: Desk) -> None:
    """Serve /health/live and /health/ready."""

    @app.get("/health/live", include_in_schema=False)
    async def live() -> JSONResponse:
        """The process answers."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        """It has looked at the pipeline lately; services that are away do not make it unready, they are its news."""
        now = desk.view.now
        if now is None or time.time() - now.at_s > LATE_S:
            return JSONResponse({"status": "not ready", "why": "no look at the pipeline lately"}, status_code=503)
        away = sorted(name for name, error in now.services.items() if error)
        return JSONResponse({"status": "ready", "services_away": away})
