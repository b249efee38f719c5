"""Page layout and context: navigation, the viewer's preferences, and how a page runs queries and actions."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from nicegui import ui
from starlette.requests import Request

from penstock import remedies
from penstock.errors import PenstockError
from penstock.log import get_logger
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.audit_log import AuditLog
from penstock.web.markup import html
from penstock.web.security import SESSION
from penstock.web.sessions import Session

log = get_logger(__name__)

T = TypeVar("T")
PAGES = {
    "/": "Pipeline",
    "/topics": "Topics",
    "/schemas": "Schemas",
    "/stream": "Stream",
    "/table": "Table",
    "/runs": "Runs",
    "/rejected": "Dead letters",
    "/health": "Health",
}
REFRESH_S = 2.0


class PageContext:
    """One viewer's visit to one page. `path` and `query` hold the parameters of the URL."""

    def __init__(self, context: AppContext, session: Session, request: Request) -> None:
        self.context = context
        self.session = session
        self.path: dict[str, str] = dict(request.path_params)
        self.query: dict[str, str] = dict(request.query_params)

    @property
    def masks(self) -> bool:
        """Return whether personal data is masked for this viewer."""
        return not self.session.shows_personal

    async def ask(self, question: Callable[..., T], *arguments: Any, **more: Any) -> T:
        """Run `question` in a thread and return its result. Raises whatever it raises."""
        return await asyncio.to_thread(question, *arguments, **more)

    async def act(self, action: str, subject: str, operation: Callable[[], T]) -> T | None:
        """Run `operation` in a thread and return its result, or None if it failed.

        The outcome is shown to the viewer and recorded in the audit log. Closing the page neither stops the action nor
        keeps it out of the audit log.
        """
        if self.session.ended or not self.session.signed_in:
            ui.notify("This session has ended. Reload the page.", type="negative")
            return None
        audited = partial(run_audited, self.context.audit_log, self.session.name, action, subject, operation)
        try:
            result = await asyncio.get_running_loop().run_in_executor(self.context.acting, audited)
        except PenstockError as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=15_000, close_button="Close")
            return None
        except Exception:
            log.exception("action_failed", action=action, subject=subject)  # the page's edge
            text = f"{action} failed unexpectedly. See the log: {remedies.show_logs('control-center')}"
            ui.notify(text, type="negative", timeout=15_000, close_button="Close")
            return None
        ui.notify(f"{action}: done", type="positive")
        return result

    def every(self, seconds: float, refresh: Callable[[], Any | Awaitable[Any]]) -> ui.timer:
        """Call `refresh` now and every `seconds` while the page is open. A `PenstockError` only skips that refresh."""

        async def run() -> None:
            try:
                result = refresh()
                if inspect.isawaitable(result):
                    await result
            except PenstockError as error:
                log.debug("refresh_failed", error=error.message)

        return ui.timer(seconds, run, immediate=True)


def run_audited(audit_log: AuditLog, who: str, action: str, subject: str, operation: Callable[[], T]) -> T:
    """Run `operation`, record its outcome in the audit log and return its result. Raises whatever it raises."""
    try:
        result = operation()
    except BaseException as error:
        reason = error.message if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
        audit_log.record(who, action, subject, f"failed: {reason}")
        raise
    audit_log.record(who, action, subject, "done")
    return result


Build = Callable[[PageContext], Any]


def page(context: AppContext, path: str, title: str) -> Callable[[Build], Build]:
    """Serve the page built by the decorated function at `path`. A `PenstockError` is shown on the page."""

    def decorate(build: Build) -> Build:
        async def serve_page(request: Request) -> None:
            session = request.scope[SESSION]
            visit = PageContext(context, session, request)
            with _build_layout(visit, title, request.url.path):
                try:
                    result = build(visit)
                    if inspect.isawaitable(result):
                        await result
                except PenstockError as error:
                    elements.add_error(error)

        ui.page(path, title=f"{title} · penstock", response_timeout=30)(serve_page)
        return build

    return decorate


def _build_layout(visit: PageContext, title: str, path: str) -> ui.element:
    """Build the page layout and return the element for the page's content."""
    session = visit.session
    dark = ui.dark_mode(session.dark)
    ui.element("a").classes("skip").props('href="#main"').add_slot("default", "Skip to content")
    with ui.element("header").classes("top"):
        with ui.element("div").classes("brand"):
            elements.add_html(html('<a href="/" class="name">penstock</a>'))
            elements.add_html(html('<span class="topic">{}</span>', visit.context.pipeline.topic))
        with ui.element("nav").props('aria-label="Pages"'):
            for address, name in PAGES.items():
                is_current = path == address or (address != "/" and path.startswith(f"{address}/"))
                elements.add_html(
                    html('<a href="{}"{}>{}</a>', address, " aria-current=page" if is_current else "", name)
                )
        with ui.element("div").classes("choices"):
            _add_personal_button(visit)
            _add_theme_button(session, dark)
            if visit.context.settings.control_password.get_secret_value():
                sign_out = partial(_sign_out, visit)
                ui.button(icon="logout", on_click=sign_out).props('flat round dense aria-label="Sign out"')
    main = ui.element("div").props("id=main tabindex=-1")  # not a <main>: NiceGUI wraps every page in one
    with main:
        elements.add_heading(title, 1)
    return main


def _add_theme_button(session: Session, dark: ui.dark_mode) -> None:
    icons = {None: ("brightness_auto", "system"), True: ("dark_mode", "dark"), False: ("light_mode", "light")}
    next_choice: dict[bool | None, bool | None] = {None: True, True: False, False: None}

    def switch() -> None:
        session.dark = next_choice[session.dark]
        dark.value = session.dark
        button.props(f'icon={icons[session.dark][0]} aria-label="Theme: {icons[session.dark][1]}"')

    icon, name = icons[session.dark]
    button = ui.button(icon=icon, on_click=switch).props(f'flat round dense aria-label="Theme: {name}"')


def _add_personal_button(visit: PageContext) -> None:
    session = visit.session

    def switch() -> None:
        session.shows_personal = not session.shows_personal
        outcome = "shown" if session.shows_personal else "hidden"
        visit.context.audit_log.record(session.name, "personal_data", "", outcome)
        ui.navigate.reload()

    icon, name = ("visibility", "shown") if session.shows_personal else ("visibility_off", "hidden")
    label = f"Personal data: {name}"
    button = ui.button(label, icon=icon, on_click=switch).props("flat dense no-caps").classes("personal")
    button.tooltip("Fields that the contract marks as personal data. Showing them is recorded in the audit log.")


def _sign_out(visit: PageContext) -> None:
    visit.context.audit_log.record(visit.session.name, "sign_out", "", "done")
    visit.context.sessions.end(visit.session)
    ui.navigate.to("/sign-in")
