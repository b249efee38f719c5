"""What every page has around it: the way to the other pages, the viewer's choices, and one way to ask and to act."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from nicegui import ui
from starlette.requests import Request

from penstock.control import elements
from penstock.control.desk import Desk
from penstock.control.guard import SESSION
from penstock.control.sessions import Session
from penstock.control.trail import Trail
from penstock.errors import PenstockError
from penstock.log import get_logger

log = get_logger(__name__)

T = TypeVar("T")
PAGES = {
    "/": "Pipeline",
    "/topics": "Topics",
    "/schemas": "Schemas",
    "/stream": "Stream",
    "/table": "Table",
    "/runs": "Runs",
    "/rejected": "Rejected",
    "/health": "Health",
}
REFRESH_S = 2.0


class Visit:
    """One viewer on one page: `path` and `query` hold the address's parameters."""

    def __init__(self, desk: Desk, session: Session, request: Request) -> None:
        self.desk = desk
        self.session = session
        self.path: dict[str, str] = dict(request.path_params)
        self.query: dict[str, str] = dict(request.query_params)

    @property
    def masks(self) -> bool:
        """Whether personal data are hidden from this viewer."""
        return not self.session.shows_personal

    async def ask(self, question: Callable[..., T], *arguments: Any, **more: Any) -> T:
        """What `question` gives, asked in a thread. Raises what it raises."""
        return await asyncio.to_thread(question, *arguments, **more)

    async def act(self, action: str, subject: str, deed: Callable[[], T]) -> T | None:
        """What `deed` gives, carried out in a thread and written to the audit log; None when it failed.

        The viewer is told how it ended. The deed goes on, and is written down, also when the page is closed meanwhile.
        """
        if self.session.ended or not self.session.signed_in:
            ui.notify("This session has ended: load the page again.", type="negative")
            return None
        carried_out = partial(noted, self.desk.trail, self.session.name, action, subject, deed)
        try:
            done = await asyncio.get_running_loop().run_in_executor(self.desk.acting, carried_out)
        except PenstockError as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=15_000, close_button="Close")
            return None
        except Exception:
            log.exception("deed_failed", action=action, subject=subject)  # the page's edge
            text = f"{action} failed, and nobody foresaw how: ./penstock logs control-center"
            ui.notify(text, type="negative", timeout=15_000, close_button="Close")
            return None
        ui.notify(f"{action}: done", type="positive")
        return done

    def every(self, seconds: float, refresh: Callable[[], Any | Awaitable[Any]]) -> ui.timer:
        """Call `refresh` now and then again and again while the page is open; a service that is away breaks nothing."""

        async def again() -> None:
            try:
                found = refresh()
                if inspect.isawaitable(found):
                    await found
            except PenstockError as error:
                log.debug("not_refreshed", error=error.message)

        return ui.timer(seconds, again, immediate=True)


def noted(trail: Trail, who: str, action: str, subject: str, deed: Callable[[], T]) -> T:
    """What `deed` gives, once the trail says how it ended. Raises what it raises."""
    try:
        done = deed()
    except BaseException as error:
        why = error.message if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
        trail.note(who, action, subject, f"failed: {why}")
        raise
    trail.note(who, action, subject, "done")
    return done


Build = Callable[[Visit], Any]


def page(desk: Desk, path: str, title: str) -> Callable[[Build], Build]:
    """Serve what `build` makes at `path`, within the frame. A `PenstockError` that it raises is shown as such."""

    def decorate(build: Build) -> Build:
        async def shown(request: Request) -> None:
            session = request.scope[SESSION]
            visit = Visit(desk, session, request)
            with _framed(visit, title, request.url.path):
                try:
                    found = build(visit)
                    if inspect.isawaitable(found):
                        await found
                except PenstockError as error:
                    elements.trouble(error)

        ui.page(path, title=f"{title} · penstock", response_timeout=30)(shown)
        return build

    return decorate


def _framed(visit: Visit, title: str, path: str) -> ui.element:
    """The page's frame; gives the element that the page is built in."""
    session = visit.session
    dark = ui.dark_mode(session.dark)
    ui.element("a").classes("skip").props('href="#main"').add_slot("default", "Skip to the content")
    with ui.element("header").classes("top"):
        with ui.element("div").classes("brand"):
            elements.markup('<a href="/" class="name">penstock</a>')
            elements.markup(f'<span class="topic">{visit.desk.pipeline.topic}</span>')
        with ui.element("nav").props('aria-label="Pages"'):
            for to, name in PAGES.items():
                here = path == to or (to != "/" and path.startswith(f"{to}/"))
                elements.markup(f'<a href="{to}"{" aria-current=page" if here else ""}>{name}</a>')
        with ui.element("div").classes("choices"):
            _personal(visit)
            _theme(session, dark)
            if visit.desk.settings.control_password.get_secret_value():
                leave = partial(_leave, visit)
                ui.button(icon="logout", on_click=leave).props('flat round dense aria-label="Sign out"')
    main = ui.element("div").props("id=main tabindex=-1")  # NiceGUI puts all of it into a <main>
    with main:
        elements.heading(title, 1)
    return main


def _theme(session: Session, dark: ui.dark_mode) -> None:
    icons = {None: ("brightness_auto", "as the browser"), True: ("dark_mode", "dark"), False: ("light_mode", "light")}
    after: dict[bool | None, bool | None] = {None: True, True: False, False: None}

    def switch() -> None:
        session.dark = after[session.dark]
        dark.value = session.dark
        button.props(f'icon={icons[session.dark][0]} aria-label="Colours: {icons[session.dark][1]}"')

    icon, name = icons[session.dark]
    button = ui.button(icon=icon, on_click=switch).props(f'flat round dense aria-label="Colours: {name}"')


def _personal(visit: Visit) -> None:
    session = visit.session

    def switch() -> None:
        session.shows_personal = not session.shows_personal
        done = "shown" if session.shows_personal else "hidden"
        visit.desk.trail.note(session.name, "personal_data", "", done)
        ui.navigate.reload()

    icon, name = ("visibility", "shown") if session.shows_personal else ("visibility_off", "hidden")
    label = f"Personal data: {name}"
    button = ui.button(label, icon=icon, on_click=switch).props("flat dense no-caps").classes("personal")
    button.tooltip("What the contract marks as personal. Showing it is written to the audit log.")


def _leave(visit: Visit) -> None:
    visit.desk.trail.note(visit.session.name, "sign_out", "", "done")
    visit.desk.sessions.end(visit.session)
    ui.navigate.to("/sign-in")
