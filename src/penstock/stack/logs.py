"""Read and follow the services' logs."""

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FOLLOW_EVERY_S = 0.3


def size_bytes(path: Path) -> int:
    """Return the size of a log, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def read_tail(path: Path, lines: int = 20, after_bytes: int = 0) -> list[str]:
    """Return the last lines of a log, skipping its first `after_bytes`. Empty if it does not exist."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            file.seek(after_bytes if after_bytes <= size_bytes(path) else 0)
            return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []


def follow_log(path: Path, lines: int = 20) -> Iterator[str]:
    """Yield the last lines of a log, then new lines as they are written, across rotations. Never ends."""
    while not path.exists():
        time.sleep(FOLLOW_EVERY_S)
    file = path.open("rb")
    try:
        yield from deque(_read_lines(file), maxlen=lines)
        while True:
            was_rotated = _is_rotated(
                file, path
            )  # checked before reading, so that the rest of the old file is not lost
            yield from _read_lines(file)
            if was_rotated:
                file.close()
                file = path.open("rb")
            else:
                time.sleep(FOLLOW_EVERY_S)
    finally:
        file.close()


def _is_rotated(file: BinaryIO, path: Path) -> bool:
    """Return whether the path has a new file or the file was truncated. A missing file is a rotation in progress."""
    try:
        current = path.stat()
    except FileNotFoundError:
        return False
    return not os.path.samestat(current, os.fstat(file.fileno())) or current.st_size < file.tell()


def _read_lines(file: BinaryIO) -> list[str]:
    """Read the complete lines written since the last read. An incomplete line is left for the next read."""
    start, data = file.tell(), file.read()
    complete = data.rpartition(b"\n")[0]
    file.seek(start + len(complete) + 1 if complete else start)
    return complete.decode(errors="replace").splitlines()
