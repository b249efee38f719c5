"""Check out revisions of the repository to compare them with the working tree."""

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import UsageError
from penstock.stack.jars import unpack_archive
from penstock.stack.layout import REPOSITORY


@contextmanager
def check_out_tree(revision: str) -> Iterator[Path]:
    """Check out a git revision to a temporary folder. Deleted on exit. Raises `UsageError` for an unknown revision."""
    command = ["git", "-C", str(REPOSITORY), "archive", "--format=tar", revision]
    process = subprocess.run(command, capture_output=True, check=False)
    if process.returncode:
        raise UsageError(f"unknown revision {revision!r}: {process.stderr.decode().strip()}", hint="git log --oneline")
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(process.stdout)) as archive:
            unpack_archive(archive, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
