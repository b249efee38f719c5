"""The producer's own journal: which offsets Kafka acknowledged to each attempt of a run, on the disk of who sent them.

It is what a receipt holds against Kafka. One file per attempt: a line of JSON that names it, a line of partition,
offset and key for each acknowledgement, a line of JSON for each answer of the API that tells how many records came so
far, and a last line of JSON once the attempt has sent everything.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from penstock.config import Settings
from penstock.log import get_logger

log = get_logger(__name__)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One acknowledgement."""

    partition: int
    offset: int
    key: str


@dataclass(frozen=True)
class Attempt:
    """What one attempt of a run was told by Kafka; `finished` when it sent everything it had."""

    run_id: str
    topic: str
    topic_id: str
    started_at: str
    finished: bool
    entries: list[Entry] = field(repr=False)


def folder_of(settings: Settings) -> Path:
    """The folder that holds the journal."""
    return settings.home / "data" / "journal"


class Journal:
    """The journal of one attempt, written as it goes; a `with` block that ends in peace finishes it.

    Lines are on their way to the disk at every `flush`, and on it at the end. An attempt that is killed in between may
    lack lines of records that Kafka has, never the other way round.
    """

    def __init__(self, folder: Path, run_id: str, topic: str, topic_id: str) -> None:
        now = datetime.now(UTC)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{now:%Y%m%dT%H%M%S.%f}Z{_suffix(run_id)}"
        head = {"run": run_id, "topic": topic, "topic_id": topic_id, "started_at": now.isoformat()}
        self._file = os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._file.write(msgspec.json.encode(head) + b"\n")
        self._file.flush()
        self._encode = msgspec.json.Encoder().encode

    def note(self, partition: int, offset: int, key: bytes) -> None:
        """Write down one acknowledgement."""
        self._file.write(self._encode((partition, offset, key.decode())) + b"\n")

    def fetched(self, records: int) -> None:
        """Write down how many records the API gave so far."""
        self._file.write(msgspec.json.encode({"fetched": records}) + b"\n")
        self._file.flush()

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.write(msgspec.json.encode({"finished_at": datetime.now(UTC).isoformat()}) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _suffix(run_id: str) -> str:
    return f"-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}.journal"


@dataclass(frozen=True)
class SoFar:
    """How far the newest attempt of a run is: records that the API gave, and that Kafka acknowledged."""

    fetched: int
    acknowledged: int


def progress(folder: Path, run_id: str) -> SoFar | None:
    """How far a run is; None when it left no journal here."""
    files = sorted(folder.glob(f"*{_suffix(run_id)}"))
    if not files:
        return None
    fetched = acknowledged = 0
    with files[-1].open("rb") as file:
        for line in file:
            if line.startswith(b"["):
                acknowledged += 1
            elif line.startswith(b'{"fetched":') and line.endswith(b"}\n"):
                fetched = int(line[len(b'{"fetched":') : -2])
    return SoFar(fetched, acknowledged)


def attempts(folder: Path) -> Iterator[Attempt]:
    """The attempts in the journal, in the order they began in; a torn last line is passed over."""
    for file in sorted(folder.glob("*.journal")):
        found = _attempt(file)
        if found is not None:
            yield found


def _attempt(file: Path) -> Attempt | None:
    lines = [decoded for line in file.read_bytes().splitlines() if (decoded := _line(line)) is not None]
    if not lines or not isinstance(lines[0], dict):
        log.warning("journal_unreadable", file=file.name)
        return None
    head = lines[0]
    entries = [Entry(*line) for line in lines[1:] if isinstance(line, list)]
    finished = isinstance(lines[-1], dict) and "finished_at" in lines[-1]
    return Attempt(head["run"], head["topic"], head["topic_id"], head["started_at"], finished, entries)


def _line(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except ValueError:  # a msgspec.DecodeError, or a UnicodeDecodeError
        return None


def forget(folder: Path, older_than_s: float) -> None:
    """Delete the journals of attempts that were last written to more than so many seconds ago."""
    for file in folder.glob("*.journal"):
        if file.stat().st_mtime < time.time() - older_than_s:
            file.unlink(missing_ok=True)
