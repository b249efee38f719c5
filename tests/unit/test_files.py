"""Atomic writes, locks between processes, and rotated logs."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.files import RotatedLog, hold_lock, open_atomically, write_atomically


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.json"


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def run_python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", f"import os, pathlib, signal, sys\nfrom penstock.files import *\n{code}"]
    return subprocess.Popen([*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> int:
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o700, 0o444])
def test_a_file_has_its_mode_and_its_bytes(path: Path, mode: int) -> None:
    """Also if it replaces a file with another mode; line feeds are unchanged, text is UTF-8."""
    write_atomically(path, b"before", 0o666)
    write_atomically(path, "ü\r\n\n", mode)
    assert path.read_bytes() == b"\xc3\xbc\r\n\n"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_private_and_in_new_folders_by_default(path: Path) -> None:
    """Secrets need no argument."""
    target = path.parent / "new" / "folders" / "secret"
    write_atomically(target, "secret")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_others_cannot_read_a_file_while_it_is_written(path: Path) -> None:
    """The temporary file has the mode of the final one from the start."""
    write_atomically(path, "before")
    with open_atomically(path) as file:
        file.write(b"half")
        file.flush()
        (unfinished,) = set(path.parent.iterdir()) - {path}
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o600
        assert path.read_text() == "before"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_file_unchanged(path: Path, error: BaseException) -> None:
    """No temporary file is left."""

    def fail() -> None:
        with open_atomically(path) as file:
            file.write(b"half")
            raise error

    write_atomically(path, "before")
    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_a_process_killed_during_a_write_leaves_the_file_unchanged(path: Path) -> None:
    """Its temporary file is hidden, has another suffix, and does not disturb the next write."""
    write_atomically(path, "before")
    killed = run_python(
        "with open_atomically(pathlib.Path(sys.argv[1])) as file:\n"
        " file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)",
        path,
    )
    assert finish(killed) == -signal.SIGKILL
    (left,) = set(path.parent.iterdir()) - {path}
    assert left.name.startswith(".file.json.")
    assert list(path.parent.glob("*.json")) == [path]
    assert path.read_text() == "before"
    write_atomically(path, "after")
    assert path.read_text() == "after"


def test_concurrent_writers_never_mix(path: Path) -> None:
    """The file is always one that a single writer wrote completely."""
    contents = [str(number) * 50_000 for number in range(4)]
    write_atomically(path, contents[0])
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write_atomically, path, content) for content in contents * 5]
        while not all(write.done() for write in writes):
            assert path.read_text() in contents
        for write in writes:
            write.result()
    assert list(path.parent.iterdir()) == [path]


def test_file_and_folder_are_on_disk_before_a_write_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it gets its name, then the folder that holds the name."""
    synced: list[tuple[bool, bool]] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
    )
    write_atomically(path, "x")
    assert synced == [(False, False), (True, True)]


@pytest.mark.parametrize(("code", "is_error"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_folders_is_accepted(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_error: bool
) -> None:
    """A disk that fails is an error."""

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    if is_error:
        with pytest.raises(OSError, match=os.strerror(code)):
            write_atomically(path, "x")
    else:
        write_atomically(path, "x")
    assert path.read_text() == "x"


def test_windows_which_cannot_open_folders_is_accepted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compose init` writes .env there."""
    really_open = os.open

    def open_file(name: Path, flags: int, mode: int = 0o777) -> int:
        if name.is_dir():
            raise PermissionError(errno.EACCES, "denied", str(name))
        return really_open(name, flags, mode)

    monkeypatch.setattr(os, "open", open_file)
    write_atomically(path, "x")
    assert path.read_text() == "x"


HOLD = "with hold_lock(pathlib.Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"


@pytest.fixture(params=["file", "folder"])
def lock(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path that can be locked."""
    path = tmp_path / "lock"
    path.touch() if request.param == "file" else path.mkdir()
    return path


def is_held(lock: Path) -> bool:
    try:
        with hold_lock(lock, wait=False):
            return False
    except BlockingIOError:
        return True


def test_a_lock_is_held_against_other_processes_until_its_process_dies(lock: Path) -> None:
    """Without waiting this is an error; a waiting process gets the lock then. The lock file stays."""
    holder = run_python(HOLD, lock)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    inode = lock.stat().st_ino
    assert is_held(lock)
    waiting = run_python(HOLD, lock)
    holder.kill()
    assert finish(holder) == -signal.SIGKILL
    assert waiting.communicate(timeout=60)[0] == b"held\n"
    assert waiting.returncode == 0
    assert not is_held(lock)
    assert lock.stat().st_ino == inode


def test_two_processes_that_contend_lose_no_update(tmp_path: Path) -> None:
    """Each reads, adds one, and writes, under the lock."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = (
        "counter = pathlib.Path(sys.argv[1])\n"
        "for _ in range(50):\n"
        " with hold_lock(counter.parent):\n"
        "  write_atomically(counter, str(int(counter.read_text()) + 1))"
    )
    assert [finish(process) for process in [run_python(code, counter) for _ in range(2)]] == [0, 0]
    assert counter.read_text() == "100"


def test_a_lock_ends_with_its_block_although_a_program_started_in_it_runs(lock: Path) -> None:
    """The supervisor is started under the lock of `up` and survives it."""
    with hold_lock(lock):
        assert is_held(lock)
        program = run_python("sys.stdin.read()")
    assert not is_held(lock)
    assert finish(program) == 0


def test_a_lock_creates_no_file(tmp_path: Path) -> None:
    """A folder that was removed in between does not return as a file."""
    with pytest.raises(FileNotFoundError), hold_lock(tmp_path / "gone"):
        pass
    assert list(tmp_path.iterdir()) == []


def read(log: RotatedLog) -> list[bytes]:
    return [line for _, line in log.lines()]


def test_a_log_without_files_has_no_lines(tmp_path: Path) -> None:
    """Reading creates none."""
    assert read(RotatedLog(tmp_path / "no" / "log.jsonl")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_log_is_rotated_before_it_exceeds_its_bound(tmp_path: Path) -> None:
    """It fills up to the last byte; the lines of both files are read in order, each with its file."""
    log = RotatedLog(tmp_path / "log.jsonl", max_bytes=6)
    for number in range(4):
        log.append(b"%d\n" % number)
    assert (tmp_path / "log.1.jsonl").read_bytes() == b"0\n1\n2\n"
    assert log.path.read_bytes() == b"3\n"
    assert read(log) == [b"0", b"1", b"2", b"3"]
    assert [path.name for path, _ in log.lines()] == ["log.1.jsonl"] * 3 + ["log.jsonl"]
    for number in range(4, 7):
        log.append(b"%d\n" % number)
    assert read(log) == [b"3", b"4", b"5", b"6"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_line_above_the_bound_is_written_nevertheless(tmp_path: Path) -> None:
    """An empty file is not rotated."""
    log = RotatedLog(tmp_path / "log.jsonl", max_bytes=2)
    log.append(b"long\n")
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    log.append(b"longer\n")
    assert read(log) == [b"long", b"longer"]


def test_a_new_file_starts_with_what_is_carried_over(tmp_path: Path) -> None:
    """It is requested while both files can still be read."""
    log = RotatedLog(tmp_path / "log.jsonl", max_bytes=6, carry_over=lambda: b"%d kept\n" % len(read(log)))
    for number in range(4):
        log.append(b"%d\n" % number)
    assert log.path.read_bytes() == b"3 kept\n3\n"


def test_an_incomplete_line_affects_no_later_one(tmp_path: Path) -> None:
    """A killed writer leaves one, which becomes a separate line."""
    log = RotatedLog(tmp_path / "log.jsonl")
    log.append(b"a\n")
    with log.path.open("ab") as file:
        file.write(b"tor")
    log.append(b"b\n")
    log.append(b"c\n")
    assert read(log) == [b"a", b"tor", b"b", b"c"]


def test_threads_share_a_log(tmp_path: Path) -> None:
    """No line is lost or mixed while the file is rotated."""
    log = RotatedLog(tmp_path / "log.jsonl", max_bytes=1500)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.append(b"%04d\n" % number), range(500)))
    assert sorted(read(log)) == [b"%04d" % number for number in range(500)]


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Its caller decides what that means."""
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="data"):
        RotatedLog(tmp_path / "data" / "log.jsonl").append(b"a\n")
