"""A streaming query's checkpoint: where the query resumes, which files are corrupt, and what no longer matches Kafka.

Spark writes `offsets/N` when it plans batch N, with the end of that batch, and `commits/N` when the batch is done;
`sources/0/0` holds the start of batch 0, `metadata` the query's id. `penstock.json` is penstock's own.

A location without a scheme, or with `file://`, is a folder of the driver's machine, whatever Hadoop's default is.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from penstock import formats, remedies
from penstock.broker.topics import NO_ID, OffsetRange
from penstock.config import Settings
from penstock.errors import CheckpointRefused, PenstockError, UsageError
from penstock.log import get_logger
from penstock.process.checkpoint_files import CheckpointFiles, CorruptFile, HadoopFiles, LocalFiles

log = get_logger(__name__)

T = TypeVar("T")
Offsets = dict[int, int]
"""Offset by partition."""

ORIGIN = "penstock.json"
_FIRST = "sources/0/0"
_METADATA = "metadata"
CHOICES = f"""\
Nothing was read. Options:
  1. read all records in Kafka again (rows stay the same):
       {remedies.reset_checkpoint()}
  2. continue with new records only (earlier ones are skipped, and `verify` reports them):
       {remedies.reset_checkpoint("latest")}
  3. restore the topic's data, or correct PENSTOCK_SPARK_CHECKPOINT, then
       {remedies.restart("spark-job")}"""


@dataclass(frozen=True)
class QueryPosition:
    """Where a query resumes: its next batch begins at `first`, and was planned up to `end` if that differs.

    `begun` is false if Spark has written nothing yet; then these are the requested start.
    """

    first: Offsets
    end: Offsets
    begun: bool


@dataclass(frozen=True)
class Pending:
    """A batch that is planned and not done: its id, and the offsets per partition that it covers, half open."""

    batch_id: int
    first: Offsets
    end: Offsets


class CheckpointOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `penstock.json`: the topic that the checkpoint is for, where its query is to start, the query's id.

    `start` is None for everything that Kafka holds; `note` says why it starts there if that was not requested.
    """

    topic_id: str
    start: Offsets | None = None
    query_id: str = ""
    note: str = ""


def folder_of(settings: Settings, topic: str) -> str:
    """Return the checkpoint folder of the topic's query: an absolute path, or a URL that only Spark reaches."""
    folder = f"{settings.checkpoint}/{topic}"
    if folder.startswith("file://") or "://" not in folder:
        return str(Path(folder.removeprefix("file://")).absolute())
    return folder


def checkpoint_of(settings: Settings, topic: str, spark: Any = None) -> "Checkpoint":
    """Return the checkpoint of the topic's query. Raises `UsageError` for a URL without a `spark` to reach it."""
    folder = folder_of(settings, topic)
    if "://" not in folder:
        return Checkpoint(LocalFiles(), folder, topic)
    if spark is None:
        raise UsageError(
            f"the checkpoint {folder} is not a local folder: only the Spark job can access it",
            hint=f"{remedies.reset_checkpoint()}: it says what to move and what to write",
        )
    return Checkpoint(HadoopFiles(spark), folder, topic)


class Checkpoint:
    """The checkpoint of one query on one topic. Only the holder of its lease may change it."""

    def __init__(self, files: CheckpointFiles, folder: str, topic: str) -> None:
        self._files = files
        self.folder = folder
        self.topic = topic

    @property
    def url(self) -> str:
        """Return the folder as it is passed to Spark."""
        return self.folder if "://" in self.folder else f"file://{self.folder}"

    def read_position(self) -> QueryPosition | None:
        """Return where the query resumes; None if it starts with everything that Kafka holds.

        Corrupt files at the end of the logs are ignored. Raises `CheckpointRefused` if the batch before the newest is
        missing or corrupt.
        """
        with self._translate_errors():
            planned = self._find_newest("offsets", self._parse_end_offsets)
            if planned is None:
                start = self.origin().start
                return None if start is None else QueryPosition(start, start, begun=False)
            end = self._read_file(f"offsets/{planned}", self._parse_end_offsets)
            done = self._find_newest("commits", _check_commit)
            before = self._read_start_offsets(planned)
            return QueryPosition(end if done is not None and done >= planned else before, end, begun=True)

    def read_beginning(self) -> Offsets:
        """Return where the query's first batch began; a partition that is not listed began at 0."""
        with self._translate_errors():
            try:
                return self._read_file(_FIRST, self._parse_first_offsets)
            except (FileNotFoundError, CorruptFile):
                return self.origin().start or {}

    def pending(self) -> Pending | None:
        """Return the batch that is planned and not done; None if there is none. Raises like `read_position`."""
        with self._translate_errors():
            planned = self._find_newest("offsets", self._parse_end_offsets)
            done = self._find_newest("commits", _check_commit)
            if planned is None or (done is not None and done >= planned):
                return None
            return Pending(
                planned,
                self._read_start_offsets(planned),
                self._read_file(f"offsets/{planned}", self._parse_end_offsets),
            )

    def _read_start_offsets(self, batch: int) -> Offsets:
        """Return the start offsets of a batch; for the first, {} if unknown."""
        name, parse = (
            (f"offsets/{batch - 1}", self._parse_end_offsets) if batch else (_FIRST, self._parse_first_offsets)
        )
        try:
            return self._read_file(name, parse)
        except (FileNotFoundError, CorruptFile) as error:
            if not batch:
                return self.origin().start or {}
            raise CheckpointRefused(
                f"the checkpoint {self.folder} cannot be read: {name}, which is not the newest, is missing or corrupt"
                f" ({error})\n{CHOICES}",
                hint=remedies.reset_checkpoint(),
            ) from error

    def origin(self) -> CheckpointOrigin:
        """Return the content of `penstock.json`; empty if it is missing or corrupt. Raises `FormatTooNew`."""
        with self._translate_errors():
            try:
                return self._read_file(ORIGIN, self._parse_origin)
            except (FileNotFoundError, CorruptFile):
                return CheckpointOrigin(topic_id="")

    def store_topic_id(self, topic_id: str) -> None:
        """Store the topic's id in `penstock.json`, and the query's id once there is one."""
        with self._translate_errors():
            known = self.origin()
            try:
                query_id = self._read_file(_METADATA, _query_id)
            except (FileNotFoundError, CorruptFile):
                query_id = known.query_id
            now = msgspec.structs.replace(known, topic_id=topic_id, query_id=query_id)
            if now != known:
                self._files.write(self._resolve_path(ORIGIN), encode_origin(now))

    def begin_at(self, origin: CheckpointOrigin) -> str | None:
        """Move the existing checkpoint away, and return its new name; None if there was none.

        The next query starts as `origin` says. If killed in between, there is no checkpoint, and the next query starts
        with everything that Kafka holds.
        """
        with self._translate_errors():
            kept = self._set_aside()
            self._files.write(self._resolve_path(ORIGIN), encode_origin(origin))
            return kept

    def _set_aside(self) -> str | None:
        if not self._files.names(self.folder):
            return None
        kept = f"{self.folder}.before-{_format_now()}"
        self._files.move(self.folder, kept)
        return kept

    def repair(self) -> list[str]:
        """Move corrupt single files and log ends, and unplanned commits, into `torn/`; return what was moved.

        Nothing is lost: a batch that was only planned is planned again, and a batch without a valid commit is processed
        again and ends in the same rows.
        """
        with self._translate_errors():
            corrupt = [name for name, parse in self._list_parsers().items() if self._is_corrupt(name, parse)]
            corrupt += [f"offsets/{batch}" for batch in self._find_corrupt_end("offsets", self._parse_end_offsets)]
            planned = self._find_newest("offsets", self._parse_end_offsets)
            corrupt += [f"commits/{batch}" for batch in self._find_corrupt_end("commits", _check_commit)]
            unplanned = [batch for batch in self._list_batches("commits") if planned is None or batch > planned]
            corrupt += [name for name in (f"commits/{batch}" for batch in unplanned) if name not in corrupt]
            if corrupt:
                self._move_aside(corrupt)
            self._renew_metadata()
            return corrupt

    def count_repairs(self) -> int:
        """Return how many files were ever moved away as corrupt."""
        with self._translate_errors():
            return sum(not name.endswith(".crc") for name in self._files.names(self._resolve_path("torn")))

    def _list_parsers(self) -> dict[str, Callable[[bytes], Any]]:
        return {_METADATA: _query_id, _FIRST: self._parse_first_offsets, ORIGIN: self._parse_origin}

    def _move_aside(self, corrupt: list[str]) -> None:
        for name in corrupt:
            self._files.move(
                self._resolve_path(name), self._resolve_path(f"torn/{name.replace('/', '-')}.{_format_now()}")
            )
        log.warning("checkpoint_repaired", folder=self.folder, corrupt=corrupt, kept_in=self._resolve_path("torn"))

    def _renew_metadata(self) -> None:
        """Write `metadata` if it is missing: without it, Spark takes the offsets for another query's and fails."""
        if self._list_batches("offsets") and _METADATA not in self._files.names(self.folder):
            query_id = self.origin().query_id or str(uuid.uuid4())
            self._files.write(self._resolve_path(_METADATA), json.dumps({"id": query_id}).encode())
            log.warning("checkpoint_metadata_renewed", folder=self.folder, query_id=query_id)

    def _find_newest(self, kind: str, parse: Callable[[bytes], Any]) -> int | None:
        corrupt = self._find_corrupt_end(kind, parse)
        return max((batch for batch in self._list_batches(kind) if batch not in corrupt), default=None)

    def _find_corrupt_end(self, kind: str, parse: Callable[[bytes], Any]) -> list[int]:
        """Return the corrupt batches after the last intact one."""
        newest_first = sorted(self._list_batches(kind), reverse=True)
        return list(takewhile(lambda batch: self._is_corrupt(f"{kind}/{batch}", parse), newest_first))

    def _list_batches(self, kind: str) -> list[int]:
        return [int(name) for name in self._files.names(self._resolve_path(kind)) if name.isdecimal()]

    def _is_corrupt(self, name: str, parse: Callable[[bytes], Any]) -> bool:
        try:
            self._read_file(name, parse)
        except FileNotFoundError:
            return False
        except CorruptFile:
            return True
        return False

    def _read_file(self, name: str, parse: Callable[[bytes], T]) -> T:
        """Return the parsed content of a file. Raises `FileNotFoundError`, and `CorruptFile` if it is corrupt."""
        try:
            return parse(self._files.read(self._resolve_path(name)))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CorruptFile(str(error)) from error

    def _resolve_path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate an `OSError` into a `PenstockError`."""
        try:
            yield
        except OSError as error:
            raise PenstockError(
                f"the checkpoint {self.folder} cannot be read or changed: {error}",
                hint=f"look at {self.folder}, or set PENSTOCK_SPARK_CHECKPOINT",
            ) from error

    def _parse_origin(self, data: bytes) -> CheckpointOrigin:
        formats.check_marked(formats.CHECKPOINT, data, self._resolve_path(ORIGIN))
        return msgspec.json.decode(data, type=CheckpointOrigin)

    def _parse_end_offsets(self, data: bytes) -> Offsets:
        """Return the end offsets of a planned batch, in the third line; the second is Spark's own."""
        return self._parse_offsets(data, 2)

    def _parse_first_offsets(self, data: bytes) -> Offsets:
        """Return the start offsets of the source's first batch. Spark puts a zero byte before them."""
        return self._parse_offsets(data.removeprefix(b"\0"), 1)

    def _parse_offsets(self, data: bytes, at: int) -> Offsets:
        lines = data.decode().splitlines()
        _check_version(lines[0], "v1")
        topics = json.loads(lines[at])
        if not topics or not isinstance(topics, dict):
            raise CorruptFile("no topic")
        if self.topic not in topics:
            raise CheckpointRefused(
                f"the checkpoint {self.folder} belongs to the topic {', '.join(topics)}, not to {self.topic}"
            )
        return {int(partition): int(offset) for partition, offset in topics[self.topic].items()}


def _check_commit(data: bytes) -> None:
    lines = data.decode().splitlines()
    _check_version(lines[0], "v1", "v2")
    json.loads(lines[1] if len(lines) > 1 else "{}")


def _check_version(line: str, *known: str) -> None:
    if line in known:
        return
    if line[:1] == "v" and line[1:].isdecimal():
        raise PenstockError(f"the checkpoint has the format {line} of another Spark version, expected {known[-1]}")
    raise CorruptFile(f"no format version in {line!r}")


def _query_id(data: bytes) -> str:
    return str(json.loads(data)["id"])


def encode_origin(origin: CheckpointOrigin) -> bytes:
    """Return the content of `penstock.json`."""
    return formats.encode_marked(formats.CHECKPOINT, origin)


def _format_now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")


def find_misfits(
    position: QueryPosition | None, origin: CheckpointOrigin, ranges: list[OffsetRange], topic_id: str
) -> list[str]:
    """Return why the query must not resume, a line per partition or for the whole topic; empty if everything matches.

    `ranges` is what Kafka holds of the topic, `topic_id` its id.
    """
    if position is None:
        return []
    if origin.topic_id not in {"", NO_ID, topic_id}:
        return [f"it belongs to another topic of this name: id {origin.topic_id}, Kafka has {topic_id} (recreated?)"]
    held = {offset_range.partition: offset_range for offset_range in ranges}
    gone = [
        f"partition {partition}: it no longer exists in Kafka"
        for partition in sorted(position.end.keys() - held.keys())
    ]
    return gone + [line for offset_range in ranges if (line := _describe_mismatch(position, offset_range))]


def _describe_mismatch(position: QueryPosition, offset_range: OffsetRange) -> str:
    """Return why a partition does not match; empty if it does. A partition that was added is read from offset 0."""
    unseen = 0 if position.begun and position.first else offset_range.first
    first = position.first.get(offset_range.partition, unseen)
    end = position.end.get(offset_range.partition, first)
    held = f"Kafka has {offset_range.first} to {offset_range.end}"
    where = f"partition {offset_range.partition}: the checkpoint is at {first}, {held}"
    if first < offset_range.first:
        return f"{where}: {offset_range.first - first} records were deleted before they were read"
    if end > offset_range.end:
        return f"{where}: {end - offset_range.end} records that were read before are missing"
    return ""


def check_fits(checkpoint: Checkpoint, ranges: list[OffsetRange], topic_id: str) -> None:
    """Raise `CheckpointRefused`, with the three choices, unless the query can resume without skipping anything."""
    reasons = find_misfits(checkpoint.read_position(), checkpoint.origin(), ranges, topic_id)
    if reasons:
        lines = "\n  ".join(reasons)
        raise CheckpointRefused(
            f"the checkpoint {checkpoint.folder} does not match the topic {checkpoint.topic}:\n  {lines}\n{CHOICES}",
            hint=remedies.show_checkpoint(),
            misfits=reasons,
        )
