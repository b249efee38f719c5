"""The end of a service's log: what stands there, what is found there, and what is added to it."""

import re
from dataclasses import dataclass
from typing import Literal

from penstock.control.host import Host
from penstock.control.in_force import Secrets
from penstock.errors import NotThere, WrongUse
from penstock.stack.logs import size_bytes

SEARCHED_BYTES = 2 * 1024 * 1024
"""So much of a log's end is looked at."""
MOST_LINES = 2000
_LINE_CHARACTERS = 4000
_NAME = re.compile(r"[a-z0-9-]{1,40}")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"\b(?:(CRITICAL|FATAL|ERROR|error|critical)|(WARN|WARNING|warning)|(DEBUG|TRACE|debug))\b")

Level = Literal["error", "warning", "debug", ""]


@dataclass(frozen=True)
class Line:
    """A line of a log, its secrets hidden, and the level that it names."""

    text: str
    level: Level


@dataclass(frozen=True)
class Read:
    """Lines of a log, and the position up to which it was read."""

    lines: list[Line]
    position: int


class Logbook:
    """The log of one service of the local stack. Raises `NotThere` for a service that there is none of."""

    def __init__(self, host: Host, service: str, secrets: Secrets) -> None:
        if not _NAME.fullmatch(service):
            raise NotThere(f"no service is called {service!r}", hint="./penstock status")
        try:
            self.path = host.log_of(service)
        except WrongUse as error:
            raise NotThere(error.message, hint=error.hint) from None
        self._secrets = secrets

    def last(self, lines: int, search: str = "") -> Read:
        """The last lines that hold `search`, whatever its case, in the last 2 MiB."""
        end = size_bytes(self.path)
        start = max(0, end - SEARCHED_BYTES - 1)
        found, position = self._lines(start, end)
        if start:
            del found[:1]  # its beginning lies before
        return Read(_with(found, search)[-lines:], position)

    def since(self, position: int, search: str = "") -> Read:
        """The lines that were added; those of a new file when the log was rotated."""
        end = size_bytes(self.path)
        if end == position:
            return Read([], position)
        start = 0 if end < position else position
        found, position = self._lines(max(start, end - SEARCHED_BYTES), end)
        return Read(_with(found, search)[-MOST_LINES:], position)

    def _lines(self, start: int, end: int) -> tuple[list[Line], int]:
        """The whole lines between two positions, and where the last of them ends."""
        if not end:
            return [], 0
        with self.path.open("rb") as file:
            file.seek(start)
            held, is_whole, _ = file.read(end - start).rpartition(b"\n")
        texts = held.decode(errors="replace").split("\n") if is_whole else []
        return [self._line(text) for text in texts], start + len(held) + len(is_whole)

    def _line(self, text: str) -> Line:
        shown = self._secrets.hide(_COLOURS.sub("", text.rstrip("\r")))[:_LINE_CHARACTERS]
        return Line(shown, level_of(shown))


def _with(lines: list[Line], search: str) -> list[Line]:
    wanted = search.casefold()
    return [line for line in lines if wanted in line.text.casefold()] if wanted else lines


def level_of(text: str) -> Level:
    """The level that a line names near its beginning; empty for information, and for lines that name none."""
    found = _LEVEL.search(text[:200])
    if found is None:
        return ""
    return "error" if found[1] else "warning" if found[2] else "debug"
