"""File operations for data that must survive a power failure."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Sync the folder's entries to disk, so that the names of new files survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
