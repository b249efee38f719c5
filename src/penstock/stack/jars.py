"""Jars of the local stack: downloaded and verified according to jars.lock.toml, hard-linked into home/jars."""

import contextlib
import hashlib
import os
import shutil
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from penstock.errors import InstallFailed
from penstock.files import hold_lock, write_atomically
from penstock.stack.layout import Layout

LOCK = Path(__file__).with_name("jars.lock.toml")
STAMP = ".lock"
_CONNECTIONS = 8
_TIMEOUT_S = 60
Fetch = Callable[[Path, "Artifact"], Path]


@dataclass(frozen=True)
class Artifact:
    """A file in a Maven repository. Its text form is group:name:version[:classifier][@packaging]."""

    group: str
    name: str
    version: str
    classifier: str = ""
    packaging: str = "jar"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form of an artifact."""
        coordinate, _, packaging = text.partition("@")
        group, name, version, *classifier = coordinate.split(":")
        return cls(group, name, version, "".join(classifier), packaging or "jar")

    def __str__(self) -> str:
        classifier = f":{self.classifier}" if self.classifier else ""
        packaging = "" if self.packaging == "jar" else f"@{self.packaging}"
        return f"{self.group}:{self.name}:{self.version}{classifier}{packaging}"


@cache
def read_lock(lock: Path = LOCK) -> dict[str, dict[Artifact, str]]:
    """Read the lock: SHA-256 by artifact, by group."""
    with lock.open("rb") as file:
        groups = tomllib.load(file)
    return {group: {Artifact.parse(text): digest for text, digest in table.items()} for group, table in groups.items()}


def group_digest(group: str, lock: Path = LOCK) -> str:
    """Return a digest of a group's entries in the lock. An installed group is stamped with it."""
    lines = "\n".join(f"{artifact} {digest}" for artifact, digest in read_lock(lock)[group].items())
    return hashlib.sha256(lines.encode()).hexdigest()


def fetch_artifact(folder: Path, artifact: Artifact) -> Path:
    """Return the artifact's file from the download directory or the network. An incomplete download is deleted."""
    from jgo.maven import MavenContext

    project = MavenContext(repo_cache=folder, timeout=_TIMEOUT_S).project(artifact.group, artifact.name)
    requested = project.at_version(artifact.version).artifact(artifact.classifier, artifact.packaging)
    was_cached = requested.cached_path.exists()
    try:
        return Path(requested.resolve())
    except BaseException:
        if not was_cached:
            requested.cached_path.unlink(missing_ok=True)
        raise


def is_installed(layout: Layout, group: str, lock: Path = LOCK) -> bool:
    """Return whether the group is installed as locked."""
    stamp = layout.jars / group / STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8") == group_digest(group, lock)


def install_group(
    layout: Layout, group: str, *, lock: Path = LOCK, fetch: Fetch = fetch_artifact, check: Callable[[], object] = bool
) -> None:
    """Install a group's jars into home/jars/<group> unless they are there already. Raises `InstallFailed`.

    `check` is called before each file. An exception from it aborts the installation.
    """
    if is_installed(layout, group, lock):
        return
    cache_folder = repository_folder(layout)
    with _hold_lock(cache_folder):
        files = _fetch_all(cache_folder, read_lock(lock)[group], fetch, check)
        unfinished = layout.jars / f".{group}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for file in files:
            _install_file(file, unfinished)
        write_atomically(unfinished / STAMP, group_digest(group, lock))
        shutil.rmtree(layout.jars / group, ignore_errors=True)
        unfinished.rename(layout.jars / group)


def repository_folder(layout: Layout) -> Path:
    """Return the download directory, laid out like a Maven repository."""
    return layout.cache / "maven"


@contextlib.contextmanager
def _hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a download directory, which several data directories may share."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".installing"
    lock.touch()
    with hold_lock(lock):
        yield


def _fetch_all(folder: Path, digests: dict[Artifact, str], fetch: Fetch, check: Callable[[], object]) -> list[Path]:
    def fetch_one(artifact: Artifact, expected: str) -> Path:
        check()
        return fetch_verified(folder, artifact, expected, fetch)

    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="fetch") as pool:
        tasks = [pool.submit(fetch_one, artifact, expected) for artifact, expected in digests.items()]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def fetch_verified(folder: Path, artifact: Artifact, expected: str, fetch: Fetch) -> Path:
    """Return the artifact's file with the expected SHA-256, downloading at most twice. Raises `InstallFailed`."""
    reason = ""
    for _ in range(2):
        try:
            path = fetch(folder, artifact)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error) or type(error).__name__
            continue
        actual = compute_sha256(path)
        if actual == expected:
            return path
        path.unlink()
        reason = f"SHA-256 mismatch: expected {expected}, got {actual}"
    raise InstallFailed(f"{artifact}: {reason}", hint="check network and disk space, then run the command again")


def compute_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack_archive(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack a trusted archive, rejecting members that lead out of the folder.

    Python before 3.11.4 has neither this filter nor the argument for it. There, archives are unpacked unfiltered.
    """
    archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
    archive.extractall(folder)  # noqa: S202  the filter is an attribute


def _install_file(file: Path, folder: Path) -> None:
    """Hard-link a jar into the folder, or copy it across file systems. Archives are unpacked."""
    if file.name.endswith(".tar.gz"):
        with tarfile.open(file) as archive:
            unpack_archive(archive, folder)
        return
    try:
        (folder / file.name).hardlink_to(file)
    except OSError:
        shutil.copyfile(file, folder / file.name)
