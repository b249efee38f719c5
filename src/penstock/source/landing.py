"""The answers that one run was given, kept on disk from before they are sent until a day has passed.

A task that is killed or fails, though all was acknowledged and only its scheduler does not know it yet, finds them at
its next attempt. It sends the same records again and no others, even from an API that never answers the same way twice.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from penstock.source.entries import Unreadable


class _Page(msgspec.Struct):
    """An answer with entries that are not JSON: null stands in the place of each; an answer without is a list."""

    entries: list[Any]
    unreadable: dict[int, Unreadable]


class Landing:
    """The landed answers of one run, below `folder`."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.folder = folder / hashlib.sha256(run_id.encode()).hexdigest()[:24]
        self._last_read: tuple[int, list[Any]] = (-1, [])

    def answers(self) -> Iterator[tuple[list[Any], int]]:
        """The answers that were kept and when, in ms since the epoch, in the order they were kept in."""
        for file in self._files():
            kept_ms = file.stat().st_mtime_ns // 1_000_000
            yield _read(file), kept_ms

    def entry(self, answer: int, index: int) -> Any:
        """Return an entry of an answer, both counted from 0, as it was kept, whatever became of it in memory."""
        if self._last_read[0] != answer:
            self._last_read = answer, _read(self.folder / _name(answer))
        return self._last_read[1][index]

    def keep(self, answer: list[Any]) -> None:
        """Put an answer on disk: whole and synced when this returns, or not at all. Only its owner can read it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.folder / _name(len(self._files()))
        unfinished = file.with_suffix(".unfinished")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(_encoded(answer))
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(file)
        _sync(self.folder)

    def forget_others(self, older_than_s: float) -> None:
        """Forget the answers of other runs that were kept more than so many seconds ago."""
        latest_s = time.time() - older_than_s
        for folder in self.folder.parent.glob("*/"):
            if folder != self.folder and folder.stat().st_mtime < latest_s:
                shutil.rmtree(folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))


def _name(answer: int) -> str:
    return f"{answer:06}.json"


def _encoded(answer: list[Any]) -> bytes:
    unreadable = {index: entry for index, entry in enumerate(answer) if isinstance(entry, Unreadable)}
    if not unreadable:
        return msgspec.json.encode(answer)
    entries = [None if index in unreadable else entry for index, entry in enumerate(answer)]
    return msgspec.json.encode(_Page(entries, unreadable))


def _read(file: Path) -> list[Any]:
    kept = msgspec.json.decode(file.read_bytes(), type=list[Any] | _Page)
    if isinstance(kept, list):
        return kept
    return [kept.unreadable.get(index, entry) for index, entry in enumerate(kept.entries)]


def _sync(folder: Path) -> None:
    """Have the folder's names on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
