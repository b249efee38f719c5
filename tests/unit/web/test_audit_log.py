"""The audit log."""

import json

import pytest

from penstock.config import read
from penstock.errors import UsageError
from penstock.web.audit_log import AuditLog
from penstock.web.page_layout import run_audited


def test_an_action_is_an_entry(tmp_path):
    """Each entry has user, action, subject and outcome; the newest is first."""
    audit_log = AuditLog(read(home=tmp_path))
    assert audit_log.read_newest() == []
    audit_log.record("ab@127.0.0.1", "delete topic", "t", "done")
    audit_log.record("ab@127.0.0.1", "trigger run", "r", "failed: no")
    assert [(entry.action, entry.outcome) for entry in audit_log.read_newest()] == [
        ("trigger run", "failed: no"),
        ("delete topic", "done"),
    ]
    line = json.loads(audit_log.path.read_text().splitlines()[0])
    assert set(line) == {"at", "who", "action", "subject", "outcome", "format", "penstock"}


def test_the_file_is_rotated(tmp_path):
    """It does not grow without bound; the rotated entries are still read."""
    audit_log = AuditLog(read(home=tmp_path), max_bytes=400)
    for number in range(6):
        audit_log.record("who", "act", str(number), "done")
    assert audit_log.path.stat().st_size <= 400
    assert [entry.subject for entry in audit_log.read_newest(4)] == ["5", "4", "3", "2"]


def test_a_corrupt_line_is_skipped(tmp_path):
    """So is one that is not an entry."""
    audit_log = AuditLog(read(home=tmp_path))
    audit_log.record("who", "act", "1", "done")
    with audit_log.path.open("ab") as file:
        file.write(b'{"at": "x"}\n{"at"')
    assert [entry.subject for entry in audit_log.read_newest()] == ["1"]


def test_a_full_disk_is_logged(tmp_path):
    """The action succeeded: that it could not be recorded is an error in the log, not one of the action."""
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    AuditLog(read(home=home)).record("who", "act", "1", "done")


@pytest.mark.parametrize("error", [UsageError("no", hint="x"), OSError("disk"), KeyboardInterrupt()])
def test_a_failed_action_is_recorded(tmp_path, error):
    """Whether the error was expected or not, and it is raised."""

    def fail():
        raise error

    audit_log = AuditLog(read(home=tmp_path))
    assert run_audited(audit_log, "ab", "count", "t", lambda: 7) == 7
    with pytest.raises(type(error)):
        run_audited(audit_log, "ab", "delete topic", "t", fail)
    failed, done = audit_log.read_newest()
    assert (done.action, done.outcome) == ("count", "done")
    assert (failed.action, failed.outcome.partition(":")[0]) == ("delete topic", "failed")
