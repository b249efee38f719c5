"""The services' logs: their tails, and what follows."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

FOLLOW_EVERY_S = 0.3


def size_bytes(path: Path) -> int:
    """The size of a log; 0 when there is no log yet."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, lines: int = 20, after_bytes: int = 0) -> list[str]:
    """The last lines of a log, of what follows its first bytes; none when there is no log yet."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            file.seek(after_bytes if after_bytes <= size_bytes(path) else 0)
            return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []


def follow(path: Path, lines: int = 20) -> Iterator[str]:
    """The last lines of a log, then each line as it is written, across rotations; never ends."""
    yield from tail(path, lines)
    position = size_bytes(path)
    while True:
        time.sleep(FOLLOW_EVERY_S)
        size = size_bytes(path)
        if size < position:  # rotated
            position = 0
        if size == position:
            continue
        with path.open("rb") as file:
            file.seek(position)
            text, _, _ = file.read().rpartition(b"\n")
        position += len(text) + 1 if text else 0
        yield from text.decode(errors="replace").splitlines()
