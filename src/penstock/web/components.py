"""Page sections that load after the page. An error stays within its section."""

import json
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from penstock.errors import PenstockError
from penstock.web import elements

Draw = Callable[[], None]
"""Builds the elements of a section once its data is loaded."""


def add_deferred(placeholder: str, ask: Callable[[], Awaitable[Draw]]) -> ui.element:
    """Return a section that shows `placeholder` until `ask`, started once the page is up, has loaded it."""
    part = ui.element("div").props("aria-live=polite")
    with part:
        elements.add_html(placeholder, tag="p").classes("quiet")

    async def load() -> None:
        await fill_section(part, ask())

    ui.timer(0.05, load, once=True)
    return part


async def fill_section(part: ui.element, asked: Awaitable[Draw]) -> None:
    """Replace the content of `part` with what `asked` draws, or with its error."""
    try:
        draw = await asked
    except PenstockError as error:
        draw = partial(elements.add_error, error)
    if part.is_deleted:
        return
    part.clear()
    with part:
        draw()


def copy_button(text: str, what: str) -> ui.button:
    """Return a button that copies a long text to the clipboard."""
    button = ui.button("Copy", icon="content_copy").props("flat dense no-caps size=sm")
    button.props["aria-label"] = f"Copy: {what}"
    button.on("click", js_handler=f"() => copyText({json.dumps(text)})")
    return button
