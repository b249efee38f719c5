import struct
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.process.checkpoint_files import CheckpointFiles, CorruptFile, HadoopFiles, LocalFiles


@pytest.fixture
def files() -> CheckpointFiles:
    return LocalFiles()


def sums(data: bytes, chunk: int = 512) -> bytes:
    """Hadoop's checksum file: a header, and the checksum of each chunk."""
    parts = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    return b"crc\0" + struct.pack(">i", chunk) + b"".join(struct.pack(">I", zlib.crc32(part)) for part in parts)


def test_a_file_is_read_as_it_was_written(files, tmp_path):
    """Bytes are unchanged, missing folders are created, and writing again replaces the file."""
    path = str(tmp_path / "a b" / "c")
    for data in (b"old", b"new"):
        files.write(path, data)
        assert files.read(path) == data
    assert files.names(str(tmp_path / "a b")) == ["c"]


def test_missing_files_and_folders(files, tmp_path):
    """A missing folder has no names; a missing file is an error."""
    assert files.names(str(tmp_path / "nothing")) == []
    with pytest.raises(FileNotFoundError):
        files.read(str(tmp_path / "nothing"))


def test_a_checksum_moves_with_its_file(files, tmp_path):
    """Moving a file moves `.NAME.crc`, and writing one removes the old checksum."""
    (tmp_path / "7").write_bytes(b"x")
    (tmp_path / ".7.crc").write_bytes(sums(b"x"))
    files.move(str(tmp_path / "7"), str(tmp_path / "torn" / "offsets-7"))
    assert sorted(files.names(str(tmp_path / "torn"))) == [".offsets-7.crc", "offsets-7"]
    assert files.names(str(tmp_path)) == ["torn"]
    files.write(str(tmp_path / "torn" / "offsets-7"), b"other")
    assert files.read(str(tmp_path / "torn" / "offsets-7")) == b"other"


@given(data=st.binary(min_size=1, max_size=1500), at=st.integers(min_value=0), how=st.sampled_from(["flip", "cut"]))
def test_any_corruption_is_found(tmp_path_factory, data, at, how):
    """A file with its own checksums is read; with one bit flipped, or truncated anywhere, it is corrupt."""
    folder = tmp_path_factory.mktemp("files")
    file = folder / "0"
    file.write_bytes(data)
    (folder / ".0.crc").write_bytes(sums(data))
    assert LocalFiles().read(str(file)) == data
    at %= len(data)
    file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if how == "flip" else data[:at])
    with pytest.raises(CorruptFile):
        LocalFiles().read(str(file))


def test_a_corrupt_checksum_file_is_ignored(files, tmp_path):
    """As Hadoop does if the header is missing."""
    (tmp_path / "0").write_bytes(b"data")
    (tmp_path / ".0.crc").write_bytes(b"")
    assert files.read(str(tmp_path / "0")) == b"data"


class FakeHadoop:
    """A JVM whose file system renames as `renames` says."""

    def __init__(self, renames: bool) -> None:
        self.asked: list[tuple] = []
        self._jsc = SimpleNamespace(hadoopConfiguration=lambda: "conf")
        self._jvm = SimpleNamespace(
            org=SimpleNamespace(apache=SimpleNamespace(hadoop=SimpleNamespace(fs=SimpleNamespace(Path=self._path))))
        )
        self._renames = renames

    def _path(self, text: str):
        return SimpleNamespace(text=text, getFileSystem=lambda _conf: self)

    def mkdirs(self, path) -> bool:
        self.asked.append(("mkdirs", path.text))
        return True

    def rename(self, source, target) -> bool:
        self.asked.append(("rename", source.text, target.text))
        return self._renames


def test_a_failed_hadoop_rename_is_an_error():
    """Hadoop returns false and raises nothing."""
    done, refused = FakeHadoop(renames=True), FakeHadoop(renames=False)
    HadoopFiles(done).move("hdfs://n/a", "hdfs://n/torn/a")
    assert done.asked == [("mkdirs", "hdfs://n/torn"), ("rename", "hdfs://n/a", "hdfs://n/torn/a")]
    with pytest.raises(OSError, match="hdfs://n/a cannot be renamed"):
        HadoopFiles(refused).move("hdfs://n/a", "hdfs://n/torn/a")
