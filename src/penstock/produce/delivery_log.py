"""The producer's delivery log: the offsets that Kafka acknowledged to each attempt of a run, on the producer's disk.

Receipts compare it with Kafka. One file per attempt, with JSON lines: a header, partition, offset and key of each
acknowledgement, the number of records fetched so far after each API response, and a final line once everything is sent.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from penstock import formats
from penstock.config import Settings
from penstock.log import get_logger

log = get_logger(__name__)


class Acknowledgement(msgspec.Struct, frozen=True, array_like=True):
    """An acknowledgement."""

    partition: int
    offset: int
    key: str


@dataclass(frozen=True)
class Attempt:
    """One attempt of a run: its delivery log up to its size when it was listed."""

    run_id: str
    topic: str
    topic_id: str
    started_at: str
    file: Path
    size_bytes: int

    @property
    def entries(self) -> Iterator[Acknowledgement]:
        """Read the acknowledgements from the file."""
        return (Acknowledgement(*line) for line in self._iter_lines() if isinstance(line, list))

    @property
    def finished(self) -> bool:
        """Return whether the attempt sent all of its records."""
        *_, last = self._iter_lines()
        return isinstance(last, dict) and "finished_at" in last

    def _iter_lines(self) -> Iterator[Any]:
        left = self.size_bytes
        with self.file.open("rb") as file:
            while left > 0 and (line := file.readline(left)):
                left -= len(line)
                if (decoded := _decode_line(line)) is not None:
                    yield decoded


def folder_of(settings: Settings) -> Path:
    """Return the folder of the delivery log."""
    return settings.home / "data" / "journal"


class DeliveryLog:
    """Writes the delivery log of one attempt. Leaving the block without an exception marks the attempt complete.

    Lines are passed to the operating system at every `flush` and synced to disk at the end. The log of a killed attempt
    may lack records that Kafka has, never the reverse.
    """

    def __init__(self, folder: Path, run_id: str, topic: str, topic_id: str) -> None:
        now = datetime.now(UTC)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{now:%Y%m%dT%H%M%S.%f}Z{_build_suffix(run_id)}"
        header = {"run": run_id, "topic": topic, "topic_id": topic_id, "started_at": now.isoformat()}
        self._file = os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._file.write(formats.encode_marked(formats.DELIVERY_LOG, header) + b"\n")
        self._file.flush()
        self._encode = msgspec.json.Encoder().encode

    def note(self, partition: int, offset: int, key: bytes) -> None:
        """Append an acknowledgement."""
        self._file.write(self._encode((partition, offset, key.decode())) + b"\n")

    def fetched(self, records: int) -> None:
        """Append the number of records fetched from the API so far."""
        self._file.write(msgspec.json.encode({"fetched": records}) + b"\n")
        self._file.flush()

    def flush(self) -> None:
        """Flush written lines to the operating system."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.write(msgspec.json.encode({"finished_at": datetime.now(UTC).isoformat()}) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _build_suffix(run_id: str) -> str:
    return f"-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}.journal"


@dataclass(frozen=True)
class AttemptProgress:
    """Progress of the newest attempt of a run: records fetched from the API and acknowledged by Kafka."""

    fetched: int
    acknowledged: int


def read_progress(folder: Path, run_id: str) -> AttemptProgress | None:
    """Return the progress of a run, or None if it has no delivery log here. Raises `FormatTooNew`."""
    files = sorted(folder.glob(f"*{_build_suffix(run_id)}"))
    if not files:
        return None
    fetched = acknowledged = 0
    with files[-1].open("rb") as file:
        _check_format(file.readline(), files[-1])
        for line in file:
            if line.startswith(b"["):
                acknowledged += 1
            elif line.startswith(b'{"fetched":') and line.endswith(b"}\n"):
                fetched = int(line[len(b'{"fetched":') : -2])
    return AttemptProgress(fetched, acknowledged)


def list_attempts(folder: Path) -> Iterator[Attempt]:
    """Yield the attempts in the delivery log by start time, without reading them. Raises `FormatTooNew`."""
    for file in sorted(folder.glob("*.journal")):
        attempt = _read_attempt(file)
        if attempt is not None:
            yield attempt


def _read_attempt(path: Path) -> Attempt | None:
    with path.open("rb") as file:
        written = file.readline()
        size_bytes = os.fstat(file.fileno()).st_size
    _check_format(written, path)
    header = _decode_line(written)
    if not isinstance(header, dict):
        log.warning("delivery_log_unreadable", file=path.name)
        return None
    return Attempt(header["run"], header["topic"], header["topic_id"], header["started_at"], path, size_bytes)


def _check_format(header: bytes, file: Path) -> None:
    with suppress(ValueError):  # truncated, or not ours
        formats.check_marked(formats.DELIVERY_LOG, header, str(file))


def _decode_line(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except ValueError:  # a msgspec.DecodeError, or a UnicodeDecodeError
        return None


def delete_expired(folder: Path, older_than_s: float) -> None:
    """Delete the logs of attempts that were last written more than `older_than_s` seconds ago."""
    for file in folder.glob("*.journal"):
        if file.stat().st_mtime < time.time() - older_than_s:
            file.unlink(missing_ok=True)
