"""The tail of a service's log: read, search and follow it."""

import re
from dataclasses import dataclass
from typing import Literal

from penstock import remedies
from penstock.errors import NotFound, UsageError
from penstock.stack.logs import size_bytes
from penstock.web.effective_settings import Secrets
from penstock.web.host import Host

SEARCHED_BYTES = 2 * 1024 * 1024
"""How much of a log's tail is read and searched."""
MOST_LINES = 2000
_LINE_CHARACTERS = 4000
_NAME = re.compile(r"[a-z0-9-]{1,40}")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"\b(?:(CRITICAL|FATAL|ERROR|error|critical)|(WARN|WARNING|warning)|(DEBUG|TRACE|debug))\b")

Level = Literal["error", "warning", "debug", ""]


@dataclass(frozen=True)
class LogLine:
    """A log line with secrets hidden. `level` is the level named in it; empty for info, or if it names none."""

    text: str
    level: Level


@dataclass(frozen=True)
class Read:
    """Lines of a log, and the byte position up to which it was read."""

    lines: list[LogLine]
    position: int


class Logbook:
    """The log of one service of the local stack. Raises `NotFound` for an unknown service."""

    def __init__(self, host: Host, service: str, secrets: Secrets) -> None:
        if not _NAME.fullmatch(service):
            raise NotFound(f"unknown service {service!r}", hint=remedies.show_status())
        try:
            self.path = host.locate_log(service)
        except UsageError as error:
            raise NotFound(error.message, hint=error.hint) from None
        self._secrets = secrets

    def read_last(self, lines: int, search: str = "") -> Read:
        """Return the last lines within the last 2 MiB that contain `search`, ignoring case."""
        end = size_bytes(self.path)
        start = max(0, end - SEARCHED_BYTES - 1)
        read, position = self._read_lines(start, end)
        if start:
            del read[:1]  # incomplete: it begins before `start`
        return Read(_filter_lines(read, search)[-lines:], position)

    def read_since(self, position: int, search: str = "") -> Read:
        """Return the lines added since `position`, at most `MOST_LINES` from the last 2 MiB.

        A file shorter than `position` was rotated and is read from its start.
        """
        end = size_bytes(self.path)
        if end == position:
            return Read([], position)
        start = 0 if end < position else position
        read, position = self._read_lines(max(start, end - SEARCHED_BYTES), end)
        return Read(_filter_lines(read, search)[-MOST_LINES:], position)

    def _read_lines(self, start: int, end: int) -> tuple[list[LogLine], int]:
        """Return the complete lines between two byte positions, and the position where the last one ends."""
        if not end:
            return [], 0
        with self.path.open("rb") as file:
            file.seek(start)
            content, is_whole, _ = file.read(end - start).rpartition(b"\n")
        texts = content.decode(errors="replace").split("\n") if is_whole else []
        return [self._parse_line(text) for text in texts], start + len(content) + len(is_whole)

    def _parse_line(self, text: str) -> LogLine:
        cleaned = self._secrets.hide(_COLOURS.sub("", text.rstrip("\r")))[:_LINE_CHARACTERS]
        return LogLine(cleaned, level_of(cleaned))


def _filter_lines(lines: list[LogLine], search: str) -> list[LogLine]:
    wanted = search.casefold()
    return [line for line in lines if wanted in line.text.casefold()] if wanted else lines


def level_of(text: str) -> Level:
    """Return the level named in a line's first 200 characters; empty for info and for lines without a level."""
    match = _LEVEL.search(text[:200])
    if match is None:
        return ""
    return "error" if match[1] else "warning" if match[2] else "debug"
