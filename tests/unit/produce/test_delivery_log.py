import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import read
from penstock.produce import delivery_log
from penstock.produce.delivery_log import Acknowledgement, AttemptProgress, DeliveryLog


def written(folder: Path, run_id: str = "r1", count: int = 3) -> Path:
    """Write the log of a finished attempt and return its file."""
    before = set(folder.glob("*"))
    with DeliveryLog(folder, run_id, "t", "id-1") as writer:
        for offset in range(count):
            writer.note(0, offset, b"k%d" % offset)
    (file,) = set(folder.glob("*")) - before
    return file


def test_an_attempt_is_read_as_it_was_written(tmp_path):
    """An attempt is read back with run, topic, topic id and acknowledgements. It is finished after a clean exit."""
    written(tmp_path, "manual__2026-01-01T00:00:00+00:00/../x")
    (attempt,) = delivery_log.list_attempts(tmp_path)
    assert (attempt.run_id, attempt.topic, attempt.topic_id) == ("manual__2026-01-01T00:00:00+00:00/../x", "t", "id-1")
    assert list(attempt.entries) == [
        Acknowledgement(0, 0, "k0"),
        Acknowledgement(0, 1, "k1"),
        Acknowledgement(0, 2, "k2"),
    ]
    assert attempt.finished


def test_attempts_are_in_the_order_of_their_start(tmp_path):
    """Each attempt has its own file, also those of the same run."""
    for run_id in ("r2", "r1", "r1"):
        written(tmp_path, run_id)
    attempts = list(delivery_log.list_attempts(tmp_path))
    assert [attempt.run_id for attempt in attempts] == ["r2", "r1", "r1"]
    assert [attempt.started_at for attempt in attempts] == sorted(attempt.started_at for attempt in attempts)


def test_a_failed_attempt_is_not_finished(tmp_path):
    """A failed attempt is not finished but has its acknowledgements."""

    def fail():
        with DeliveryLog(tmp_path, "r1", "t", "id-1") as writer:
            writer.note(2, 7, b"k")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    (attempt,) = delivery_log.list_attempts(tmp_path)
    assert (attempt.finished, list(attempt.entries)) == (False, [Acknowledgement(2, 7, "k")])


def test_flushed_acknowledgements_survive_a_kill(tmp_path):
    """Flushed acknowledgements survive a kill of the process."""
    writer = DeliveryLog(tmp_path, "r1", "t", "id-1")
    writer.note(0, 1, b"a")
    writer.flush()
    writer.note(0, 2, b"b")
    (attempt,) = delivery_log.list_attempts(tmp_path)
    assert (attempt.finished, list(attempt.entries)) == (False, [Acknowledgement(0, 1, "a")])
    writer.__exit__(KeyboardInterrupt)


keys = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**63 - 1), keys), max_size=6), st.data())
def test_a_truncated_delivery_log_is_read_up_to_its_end(tmp_path_factory, entries, data):
    """A file truncated anywhere yields a prefix of its acknowledgements, or is skipped without its first line."""
    folder = tmp_path_factory.mktemp("journal")
    with DeliveryLog(folder, "r1", "t", "id-1") as writer:
        for partition, offset, key in entries:
            writer.note(partition, offset, key.encode())
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\0\0\0", b'"\xff"', b"\n"])))
    attempts = list(delivery_log.list_attempts(folder))
    assert len(attempts) <= 1
    for attempt in attempts:
        assert list(attempt.entries) == [Acknowledgement(*entry) for entry in entries[: len(list(attempt.entries))]]
        assert not attempt.finished or cut >= len(whole) - 1


def test_a_file_that_is_not_a_delivery_log_is_skipped(tmp_path):
    """Empty files, junk, and files without a header are skipped."""
    for number, content in enumerate([b"", b"junk", b'[0,1,"k"]\n', b"\xff\xfe", b'"\xff"']):
        (tmp_path / f"{number}.journal").write_bytes(content)
    (tmp_path / "notes.txt").write_text("{}")
    assert list(delivery_log.list_attempts(tmp_path)) == []


def test_a_damaged_line_is_skipped(tmp_path):
    """A damaged line, even one that is not text, is skipped. The other lines count."""
    file = written(tmp_path)
    head, first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([head, first, b'[0,9,"\xff"]\n', b"\0" * 9 + b"\n", *rest]))
    (attempt,) = delivery_log.list_attempts(tmp_path)
    assert [entry.offset for entry in attempt.entries] == [0, 1, 2]


def test_without_a_folder_there_are_no_attempts(tmp_path):
    """Without a folder there are no attempts."""
    assert list(delivery_log.list_attempts(tmp_path / "none")) == []
    delivery_log.delete_expired(tmp_path / "none", 0)


def test_only_its_owner_can_read_it(tmp_path):
    """The log is readable only by its owner, because keys may be personal data."""
    folder = tmp_path / "journal"
    with DeliveryLog(folder, "r1", "t", "id-1"):
        (file,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def test_old_delivery_logs_are_deleted(tmp_path):
    """Logs are deleted by their modification time, once their records have left the topic."""
    old, young = written(tmp_path), written(tmp_path)
    moment_s = old.stat().st_mtime - 3600
    os.utime(old, (moment_s, moment_s))
    delivery_log.delete_expired(tmp_path, older_than_s=1800)
    assert list(tmp_path.iterdir()) == [young]


def test_the_delivery_log_is_in_the_data_directory(tmp_path):
    """The log is in the data directory, where `verify` reads it."""
    assert delivery_log.folder_of(read(home=tmp_path)) == tmp_path / "data" / "journal"


def test_the_progress_of_a_run_is_that_of_its_newest_attempt(tmp_path):
    """Progress is that of the newest attempt. A truncated line is ignored. Without a log the progress is unknown."""
    assert delivery_log.read_progress(tmp_path, "r1") is None
    for records in (3, 5):
        with DeliveryLog(tmp_path, "r1", "t", "id") as writer:
            writer.fetched(2)
            writer.fetched(records + 1)
            for offset in range(records):
                writer.note(0, offset, b"k")
            writer.flush()
            assert delivery_log.read_progress(tmp_path, "r1") == AttemptProgress(records + 1, records)
    assert delivery_log.read_progress(tmp_path, "r1") == AttemptProgress(6, 5)
    assert delivery_log.read_progress(tmp_path, "r2") is None
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes() + b'{"fetched":12')
    assert delivery_log.read_progress(tmp_path, "r1") == AttemptProgress(6, 5)
