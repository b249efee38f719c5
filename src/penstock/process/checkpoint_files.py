"""File systems that can hold a checkpoint: a folder of this machine, or any that Spark's JVM can reach."""

import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from penstock.files import open_atomically

_CHUNK_BYTES = 512


class Torn(ValueError):
    """A file is corrupt: empty, truncated, or its checksum is wrong."""


class CheckpointFiles(Protocol):
    """File system calls that a checkpoint needs. Each may raise `OSError`."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if there is no such folder."""
        ...

    def read(self, path: str) -> bytes:
        """Return the content of a file. Raises `FileNotFoundError`, and `Torn` if its checksum is wrong."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write a file atomically, whole or not at all."""
        ...

    def move(self, source: str, target: str) -> None:
        """Rename a file, with its checksum, or a folder; create the target's folder."""
        ...


class LocalFiles:
    """A folder of this machine, in the layout of Hadoop's local file system: `.NAME.crc` next to each file."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if there is no such folder."""
        return [one.name for one in Path(folder).iterdir()] if Path(folder).is_dir() else []

    def read(self, path: str) -> bytes:
        """Return the content of a file. Raises `FileNotFoundError`, and `Torn` if its checksum is wrong."""
        data, sums = Path(path).read_bytes(), _build_crc_path(Path(path))
        if sums.exists() and not _sums_fit(data, sums.read_bytes()):
            raise Torn("its checksum is wrong")
        return data

    def write(self, path: str, data: bytes) -> None:
        """Write a file atomically, whole or not at all, even if the power fails."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(target, mode=0o666) as file:
            file.write(data)
            _build_crc_path(target).unlink(missing_ok=True)

    def move(self, source: str, target: str) -> None:
        """Rename a file, with its checksum, or a folder; create the target's folder."""
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(source).rename(target)
        if _build_crc_path(Path(source)).exists():
            _build_crc_path(Path(source)).rename(_build_crc_path(Path(target)))


def _build_crc_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.crc")


def _sums_fit(data: bytes, sums: bytes) -> bool:
    """Return whether the data match Hadoop's checksum file. A file with an invalid header is ignored, as by Hadoop."""
    if sums[:4] != b"crc\0" or len(sums) < 8:
        return True
    chunk_bytes = int.from_bytes(sums[4:8], "big") or _CHUNK_BYTES
    chunks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    return sums[8:] == b"".join(zlib.crc32(chunk).to_bytes(4, "big") for chunk in chunks)


class HadoopFiles:
    """Any file system that Spark's JVM can reach: hdfs://, s3a:// and the like."""

    def __init__(self, spark: Any) -> None:
        self._jvm = spark._jvm
        self._spark = spark
        self._conf = spark._jsc.hadoopConfiguration()

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if there is no such folder."""
        try:
            return [str(one.getPath().getName()) for one in self._call_filesystem("listStatus", folder)]
        except FileNotFoundError:
            return []

    def read(self, path: str) -> bytes:
        """Return the content of a file. Raises `FileNotFoundError`, and `Torn` if its checksum is wrong."""
        with _errors_as_ours(path):
            stream = self._call_filesystem("open", path)
            try:
                return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
            finally:
                stream.close()

    def write(self, path: str, data: bytes) -> None:
        """Write a file atomically, whole or not at all."""
        unfinished = f"{path}.{uuid.uuid4().hex}"
        with _errors_as_ours(path):
            stream = self._call_filesystem("create", unfinished)
            stream.write(data)
            stream.close()
            self._replace(unfinished, path)

    def _replace(self, source: str, target: str) -> None:
        """Rename a file over another in one step, as Spark does with its own checkpoint files."""
        fs = self._jvm.org.apache.hadoop.fs
        rename = getattr(fs, "Options$Rename")
        options = self._spark.sparkContext._gateway.new_array(rename, 1)
        options[0] = rename.OVERWRITE
        to = self._build_path(target)
        fs.FileContext.getFileContext(to.toUri(), self._conf).rename(self._build_path(source), to, options)

    def move(self, source: str, target: str) -> None:
        """Rename a file, with its checksum, or a folder; create the target's folder."""
        self._call_filesystem("mkdirs", target.rpartition("/")[0])
        if not self._call_filesystem("rename", source, self._build_path(target)):
            raise OSError(f"{source} cannot be renamed to {target}")

    def _build_path(self, path: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(path)

    def _call_filesystem(self, method: str, path: str, *more: Any) -> Any:
        with _errors_as_ours(path):
            place = self._build_path(path)
            return getattr(place.getFileSystem(self._conf), method)(place, *more)


@contextmanager
def _errors_as_ours(path: str) -> Iterator[None]:
    """Translate the JVM's errors within a `with` block to Python's."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # only installed where Spark is

    try:
        yield
    except Py4JJavaError as error:
        name, said = error.java_exception.getClass().getSimpleName(), error.java_exception.getMessage()
        if name == "FileNotFoundException":
            raise FileNotFoundError(path) from error
        if name in {"ChecksumException", "EOFException"}:
            raise Torn(said) from error
        raise OSError(f"{path}: {name}: {said}") from error
