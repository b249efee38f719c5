"""Parts of a page that come after the page itself: what goes wrong in one is shown there, and the rest goes on."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from html import escape

from nicegui import ui

from penstock.control import elements
from penstock.errors import PenstockError

Draw = Callable[[], None]
"""Makes the elements of a part, once what it shows is known."""


def soon(told: str, ask: Callable[[], Awaitable[Draw]]) -> ui.element:
    """A part that says `told` until it is filled with what is asked once the page is there."""
    part = ui.element("div").props("aria-live=polite")
    with part:
        elements.markup(escape(told), tag="p").classes("quiet")

    async def go() -> None:
        await fill(part, ask())

    ui.timer(0.05, go, once=True)
    return part


async def fill(part: ui.element, asked: Awaitable[Draw]) -> None:
    """Put into `part` what is asked, or the trouble, in place of what was there."""
    try:
        draw = await asked
    except PenstockError as error:
        draw = partial(elements.trouble, error)
    if part.is_deleted:
        return
    part.clear()
    with part:
        draw()


def copy_button(text: str, what: str) -> ui.button:
    """A button that copies a longer text."""
    button = ui.button("Copy", icon="content_copy").props(
        f'flat dense no-caps size=sm aria-label="Copy: {escape(what)}"'
    )
    button.on("click", js_handler=f"() => copyText({json.dumps(text)})")
    return button
