"""The services' logs: their tails, and what follows."""

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
    """Yield the last lines of a log, then each line as it is written, across rotations; never end."""
    while not path.exists():
        time.sleep(FOLLOW_EVERY_S)
    file = path.open("rb")
    try:
        yield from deque(_read_lines(file), maxlen=lines)
        while True:
            was_rotated = _is_rotated(file, path)  # asked first: what is read afterwards ends the older file
            yield from _read_lines(file)
            if was_rotated:
                file.close()
                file = path.open("rb")
            else:
                time.sleep(FOLLOW_EVERY_S)
    finally:
        file.close()


def _is_rotated(file: BinaryIO, path: Path) -> bool:
    """Return whether the path names another file by now, or the file was cut. A path without a file is between both."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return not os.path.samestat(now, os.fstat(file.fileno())) or now.st_size < file.tell()


def _read_lines(file: BinaryIO) -> list[str]:
    """Read the whole lines that were written meanwhile; a line that is not finished waits for its end."""
    start, data = file.tell(), file.read()
    whole = data.rpartition(b"\n")[0]
    file.seek(start + len(whole) + 1 if whole else start)
    return whole.decode(errors="replace").splitlines()
