"""Files that survive crashes: atomic writes, rotated logs, and locks between processes.

Standard library only, also for Python 3.9, macOS and Windows: `compose init` runs before anything is installed.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOG_MAX_BYTES = 5 * 1024 * 1024


def write_atomically(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Write a file as `open_atomically` does, and create missing folders. Text is encoded as UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_atomically(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Open a temporary file, which replaces `path` when the block ends without an exception.

    The file is whole or unchanged, also after a power failure. Other users cannot read it at any time, unless `mode`
    and the umask allow it. A killed process leaves `.NAME.RANDOM` in the folder, which nothing reads.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Sync the folder's entries to disk, unless the system cannot open folders or sync them."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # always on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems
            raise
    finally:
        os.close(descriptor)


@contextmanager
def hold_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the exclusive lock of an existing file or folder until the block, or the process, ends.

    The lock file stays, and programs started within the block do not inherit the lock. Raises `BlockingIOError` if
    the lock is held elsewhere and `wait` is false. Not for Windows.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks files open for writing only
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


class RotatedLog:
    """A file of lines, and its one predecessor `NAME.1.SUFFIX`: together at most twice `max_bytes`.

    Threads may share it. Other processes may read it. A new file starts with the lines that `carry_over` returns.
    """

    def __init__(self, path: Path, max_bytes: int = LOG_MAX_BYTES, carry_over: Callable[[], bytes] = bytes) -> None:
        self.path = path
        self._predecessor = path.with_name(f"{path.stem}.1{path.suffix}")
        self._max_bytes, self._carry_over = max_bytes, carry_over
        self._lock = threading.Lock()

    def append(self, lines: bytes) -> None:
        """Append complete lines, after an incomplete one if a writer was killed. Raises `OSError`."""
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size_bytes = self.path.stat().st_size if self.path.exists() else 0
            if size_bytes and size_bytes + len(lines) > self._max_bytes:
                lines = self._carry_over() + lines
                self.path.replace(self._predecessor)
            elif size_bytes and not self._ends_with_line():
                lines = b"\n" + lines
            with self.path.open("ab") as file:
                file.write(lines)

    def _ends_with_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def lines(self) -> Iterator[tuple[Path, bytes]]:
        """Yield the lines, oldest first, each with the file that it is in. A file that does not exist has none."""
        for path in (self._predecessor, self.path):
            try:
                lines = path.read_bytes().splitlines()
            except FileNotFoundError:
                continue
            yield from ((path, line) for line in lines)
