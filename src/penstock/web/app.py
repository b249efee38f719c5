"""The web application: pages, API, metrics and health checks behind one security middleware."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from nicegui import ui
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from penstock.config import Settings
from penstock.log import get_logger
from penstock.web.app_context import ASKING_THREADS, AppContext
from penstock.web.security import SecurityMiddleware

log = get_logger(__name__)

_STATIC = Path(__file__).parent / "static"
PAGES = ("pipeline", "topics", "schemas", "stream", "table", "runs", "rejected", "health")
_HEAD = """
<link rel="stylesheet" href="/assets/penstock.css">
<script src="/assets/penstock.js" defer></script>
"""


def build_app(settings: Settings) -> tuple[ASGIApp, AppContext]:
    """Return the application and its `AppContext`, which polls the pipeline while the application runs.

    Call once per process: NiceGUI keeps its pages and head elements in process-wide state.
    """
    context = AppContext(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        executor = ThreadPoolExecutor(ASKING_THREADS, thread_name_prefix="ask")
        asyncio.get_running_loop().set_default_executor(executor)
        context.start()
        yield
        await asyncio.to_thread(context.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/assets", StaticFiles(directory=_STATIC))
    for name in ("readiness", "metrics", "api"):
        import_module(f"penstock.web.{name}").register(app, context)
    ui.add_head_html(_HEAD, shared=True)
    for name in PAGES:
        import_module(f"penstock.web.{name}.page").register(context)
    ui.run_with(
        app,
        title="penstock",
        language="en-US",
        favicon=_STATIC / "favicon.svg",
        dark=None,
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=15.0,
        show_welcome_message=False,
    )
    return SecurityMiddleware(app, settings, context.sessions, context.audit_log), context


def serve_app(settings: Settings, port: int) -> None:
    """Serve the control center until SIGTERM or SIGINT."""
    app, _ = build_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.control_host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            proxy_headers=False,
        )
    )
    log.info("serving", address=f"http://{settings.control_host}:{port}")
    server.run()
