"""The difference of two texts, line by line. Pure: no I/O."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

_AROUND = 3


@dataclass(frozen=True)
class DiffLine:
    """A line of a diff, with its line numbers in both texts, starting at 1; null where the line is absent.

    `sign` is `-` for a line only in the older text, `+` for a line only in the newer text, a space for a line in both,
    and `@` where lines in both are omitted.
    """

    sign: Literal["-", "+", " ", "@"]
    older: int | None
    newer: int | None
    text: str


def diff_lines(older: str, newer: str, around: int = _AROUND) -> list[DiffLine]:
    """Return the lines that differ, each with `around` lines of context; empty if the texts are equal."""
    before, after = older.splitlines(), newer.splitlines()
    matcher = SequenceMatcher(a=before, b=after, autojunk=False)
    groups = [list(group) for group in matcher.get_grouped_opcodes(around)]
    if before == after:
        return []
    lines: list[DiffLine] = []
    for group in groups:
        if group[0][1] or group[0][3]:
            lines.append(DiffLine("@", None, None, ""))
        for tag, first, end, other, other_end in group:
            lines += (
                _iter_unchanged(before, first, end, other)
                if tag == "equal"
                else _iter_changed(before, after, first, end, other, other_end)
            )
    if groups and groups[-1][-1][2] < len(before):
        lines.append(DiffLine("@", None, None, ""))
    return lines


def _iter_unchanged(before: list[str], first: int, end: int, other: int) -> Iterator[DiffLine]:
    for at in range(first, end):
        yield DiffLine(" ", at + 1, other + at - first + 1, before[at])


def _iter_changed(
    before: list[str], after: list[str], first: int, end: int, other: int, other_end: int
) -> Iterator[DiffLine]:
    for at in range(first, end):
        yield DiffLine("-", at + 1, None, before[at])
    for at in range(other, other_end):
        yield DiffLine("+", None, at + 1, after[at])
