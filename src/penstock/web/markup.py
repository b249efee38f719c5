"""HTML that is safe to send: whatever is put into it is escaped, unless it is HTML already.

The type of HTML is `markupsafe.Markup`. A page builds it with `html` and `join` alone, never with f-strings.
"""

from collections.abc import Iterable
from html import escape

from markupsafe import Markup

NOTHING = Markup("")


def html(template: str, /, *values: object, **named: object) -> Markup:
    """Return HTML: the template, a literal, with these values in the fields of `str.format`. Text is escaped."""
    escaped = {name: escape_value(value) for name, value in named.items()}
    return Markup(template.format(*map(escape_value, values), **escaped))  # noqa: S704 - every value is escaped


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Join parts into HTML. Text is escaped; the separator is HTML."""
    return Markup(separator.join(str(escape_value(part)) for part in parts))  # noqa: S704 - every part is escaped


def escape_value(value: object) -> object:
    """Return HTML and numbers as they are, which format specifications need, and anything else as escaped text."""
    return value if isinstance(value, Markup | int | float) else escape(str(value))
