"""The answers that one run was given, kept on disk from before they are sent until all of them are acknowledged.

A task that is killed or fails in between finds them at its next attempt, and sends the same records again and no
others, even from an API that never answers the same way twice.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class Landing:
    """The landed answers of one run, below `folder`."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder = folder / hashlib.sha256(run_id.encode()).hexdigest()[:24]

    def answers(self) -> Iterator[tuple[list[Any], int]]:
        """The answers that were kept and when, in ms since the epoch, in the order they were kept in."""
        for file in self._files():
            kept_ms = file.stat().st_mtime_ns // 1_000_000
            yield msgspec.json.decode(file.read_bytes(), type=list[Any]), kept_ms

    def keep(self, answer: list[Any]) -> None:
        """Put an answer on disk: whole and synced when this returns, or not at all. Only its owner can read it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / f"{len(self._files()):06}.json"
        unfinished = file.with_suffix(".unfinished")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(msgspec.json.encode(answer))
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(file)

    def clear(self) -> None:
        """Forget the answers: every record in them was acknowledged."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))
