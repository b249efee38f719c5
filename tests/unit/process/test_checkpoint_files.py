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
    """Hadoop's checksum file: a head, and the sum of each chunk."""
    parts = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    return b"crc\0" + struct.pack(">i", chunk) + b"".join(struct.pack(">I", zlib.crc32(part)) for part in parts)


def test_a_file_is_read_as_it_was_written(files, tmp_path):
    """Bytes come back, in folders that are made, and writing again replaces them."""
    path = str(tmp_path / "a b" / "c")
    for data in (b"old", b"new"):
        files.write(path, data)
        assert files.read(path) == data
    assert files.names(str(tmp_path / "a b")) == ["c"]


def test_what_is_not_there(files, tmp_path):
    """A folder that is not there has no names; a file that is not there is an error."""
    assert files.names(str(tmp_path / "nothing")) == []
    with pytest.raises(FileNotFoundError):
        files.read(str(tmp_path / "nothing"))


def test_a_checksum_goes_where_its_file_goes(files, tmp_path):
    """Moving a file moves `.NAME.crc`, and writing one removes the sum of what was there before."""
    (tmp_path / "7").write_bytes(b"x")
    (tmp_path / ".7.crc").write_bytes(sums(b"x"))
    files.move(str(tmp_path / "7"), str(tmp_path / "torn" / "offsets-7"))
    assert sorted(files.names(str(tmp_path / "torn"))) == [".offsets-7.crc", "offsets-7"]
    assert files.names(str(tmp_path)) == ["torn"]
    files.write(str(tmp_path / "torn" / "offsets-7"), b"other")
    assert files.read(str(tmp_path / "torn" / "offsets-7")) == b"other"


@given(data=st.binary(min_size=1, max_size=1500), at=st.integers(min_value=0), how=st.sampled_from(["flip", "cut"]))
def test_whatever_is_spoilt_is_found(tmp_path_factory, data, at, how):
    """A file with its own sums is read; with one bit turned, or cut anywhere, it is torn."""
    folder = tmp_path_factory.mktemp("files")
    file = folder / "0"
    file.write_bytes(data)
    (folder / ".0.crc").write_bytes(sums(data))
    assert LocalFiles().read(str(file)) == data
    at %= len(data)
    file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if how == "flip" else data[:at])
    with pytest.raises(CorruptFile):
        LocalFiles().read(str(file))


def test_a_checksum_file_that_is_torn_itself_is_passed_over(files, tmp_path):
    """As Hadoop does it when the head is not there."""
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


def test_hadoop_says_no_by_an_answer():
    """A rename that Hadoop did not do is an error, though it raises none."""
    done, refused = FakeHadoop(renames=True), FakeHadoop(renames=False)
    HadoopFiles(done).move("hdfs://n/a", "hdfs://n/torn/a")
    assert done.asked == [("mkdirs", "hdfs://n/torn"), ("rename", "hdfs://n/a", "hdfs://n/torn/a")]
    with pytest.raises(OSError, match="hdfs://n/a cannot be renamed"):
        HadoopFiles(refused).move("hdfs://n/a", "hdfs://n/torn/a")
