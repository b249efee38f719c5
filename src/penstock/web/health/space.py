"""Disk and memory: free space on the disk of the data directory, and the size of each of its folders."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

LOW_BYTES = 2 * 1024**3
"""Threshold of free space below which a warning is shown."""
LONGEST_S = 5.0


@dataclass(frozen=True)
class Folder:
    """A folder and the total size of its files. `is_whole` is false if counting took too long."""

    name: str
    size_bytes: int
    is_whole: bool


@dataclass(frozen=True)
class Space:
    """Usage of the data directory's disk and of the machine's memory, and the data directory's folders."""

    path: str
    disk_bytes: int
    free_bytes: int
    memory_bytes: int
    memory_available_bytes: int
    folders: list[Folder]

    @property
    def is_low(self) -> bool:
        """Return whether the disk is nearly full."""
        return self.free_bytes < LOW_BYTES


def measure_space(home: Path, longest_s: float = LONGEST_S) -> Space:
    """Return free space, memory and folder sizes. Counts files for at most `longest_s`."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    disk, memory = psutil.disk_usage(str(existing)), psutil.virtual_memory()
    deadline_s = time.monotonic() + longest_s
    folders = [_measure_folder(home, path, deadline_s) for path in _iter_folders(home)]
    folders.sort(key=lambda folder: -folder.size_bytes)
    return Space(str(home), disk.total, disk.free, memory.total, memory.available, folders)


def _iter_folders(home: Path) -> Iterator[Path]:
    """Yield the folders of the data directory; instead of its `data`, the folders in it."""
    for path in sorted(home.iterdir()) if home.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            yield from sorted(child for child in path.iterdir() if child.is_dir()) if path.name == "data" else [path]


def _measure_folder(home: Path, path: Path, deadline_s: float) -> Folder:
    size_bytes = 0
    for file_bytes in _iter_file_sizes(path):
        size_bytes += file_bytes
        if time.monotonic() > deadline_s:
            return Folder(str(path.relative_to(home)), size_bytes, False)
    return Folder(str(path.relative_to(home)), size_bytes, True)


def _iter_file_sizes(path: Path) -> Iterator[int]:
    """Yield the size of each file on disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                yield (Path(folder) / name).lstat().st_blocks * 512
            except OSError:
                continue  # gone meanwhile
