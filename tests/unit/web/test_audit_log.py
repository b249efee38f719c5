"""The audit log."""

import json

import pytest

from penstock.config import read
from penstock.errors import UsageError
from penstock.web.audit_log import Trail
from penstock.web.page_layout import noted


def test_a_deed_is_a_line(tmp_path):
    """Who did what, to what, and how it ended; the newest is told first."""
    trail = Trail(read(home=tmp_path))
    assert trail.newest() == []
    trail.note("ab@127.0.0.1", "delete topic", "t", "done")
    trail.note("ab@127.0.0.1", "trigger run", "r", "failed: no")
    assert [(one.action, one.outcome) for one in trail.newest()] == [
        ("trigger run", "failed: no"),
        ("delete topic", "done"),
    ]
    line = json.loads(trail.path.read_text().splitlines()[0])
    assert set(line) == {"at", "who", "action", "subject", "outcome", "format", "penstock"}


def test_the_file_is_rotated(tmp_path):
    """It does not grow without end; what was before is still told."""
    trail = Trail(read(home=tmp_path), max_bytes=400)
    for number in range(6):
        trail.note("who", "act", str(number), "done")
    assert trail.path.stat().st_size <= 400
    assert [one.subject for one in trail.newest(4)] == ["5", "4", "3", "2"]


def test_a_torn_line_is_passed_over(tmp_path):
    """So is one that is not ours."""
    trail = Trail(read(home=tmp_path))
    trail.note("who", "act", "1", "done")
    with trail.path.open("ab") as file:
        file.write(b'{"at": "x"}\n{"at"')
    assert [one.subject for one in trail.newest()] == ["1"]


def test_a_full_disk_is_logged(tmp_path):
    """The deed was done; that it was not written down is an error in the log, not one of the deed."""
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    Trail(read(home=home)).note("who", "act", "1", "done")


@pytest.mark.parametrize("error", [UsageError("no", hint="x"), OSError("disk"), KeyboardInterrupt()])
def test_a_deed_that_fails_is_written_down(tmp_path, error):
    """Foreseen or not, and it fails all the same."""

    def deed():
        raise error

    trail = Trail(read(home=tmp_path))
    assert noted(trail, "ab", "count", "t", lambda: 7) == 7
    with pytest.raises(type(error)):
        noted(trail, "ab", "delete topic", "t", deed)
    failed, done = trail.newest()
    assert (done.action, done.outcome) == ("count", "done")
    assert (failed.action, failed.outcome.partition(":")[0]) == ("delete topic", "failed")
