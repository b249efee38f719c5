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


class Landing:
    """The landed answers of one run, below `folder`."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.folder = folder / hashlib.sha256(run_id.encode()).hexdigest()[:24]

    def answers(self) -> Iterator[tuple[list[Any], int]]:
        """The answers that were kept and when, in ms since the epoch, in the order they were kept in."""
        for file in self._files():
            kept_ms = file.stat().st_mtime_ns // 1_000_000
            yield msgspec.json.decode(file.read_bytes(), type=list[Any]), kept_ms

    def keep(self, answer: list[Any]) -> None:
        """Put an answer on disk: whole and synced when this returns, or not at all. Only its owner can read it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.folder / f"{len(self._files()):06}.json"
        unfinished = file.with_suffix(".unfinished")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(msgspec.json.encode(answer))
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


def _sync(folder: Path) -> None:
    """Have the folder's names on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
