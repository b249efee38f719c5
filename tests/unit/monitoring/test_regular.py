"""Scheduled verifications."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import structlog

from penstock import config
from penstock.errors import CassandraUnreachable, Unreachable
from penstock.monitoring import regular
from penstock.monitoring.regular import ScheduledVerify
from penstock.monitoring.snapshot import Snapshot
from penstock.retry import wait_until

FINE = Snapshot(at_s=1_000_000.0, topic="t", services={"kafka": ""}, topic_records=5)


def ending(code: int) -> tuple[str, ...]:
    return sys.executable, "-c", f"raise SystemExit({code})"


@pytest.fixture
def due(tmp_path):
    """Settings of a data directory that was verified seven hours ago."""
    settings = config.read(home=tmp_path)
    stamp = tmp_path / "data" / "verified"
    stamp.parent.mkdir()
    stamp.touch()
    os.utime(stamp, (time.time() - 7 * 3600,) * 2)
    return settings


def events(regular: ScheduledVerify, now: Snapshot = FINE) -> list[dict]:
    """What is logged until a verification has ended; nothing if none starts."""
    with structlog.testing.capture_logs() as logs:
        regular.round(now)

        def ended() -> None:
            regular.round(replace(now, topic_records=0))
            if regular._process is not None:
                raise Unreachable("under way")

        wait_until(ended, timeout_s=20, what="the verification")
    return [(log["event"], log.get("balanced", log.get("exit_code"))) for log in logs]


@pytest.mark.parametrize(
    ("code", "event"),
    [(0, ("verification_finished", True)), (1, ("verification_finished", False)), (3, ("verification_failed", 3))],
)
def test_a_due_verification_runs_once(due, code, event):
    """Balanced or not, it is not due again before the interval has passed."""
    regular = ScheduledVerify(due, ending(code))
    assert events(regular) == [("verification_started", None), event]
    assert events(regular) == []


@pytest.mark.parametrize(
    "now",
    [replace(FINE, services={"kafka": "away"}), replace(FINE, topic_records=None), replace(FINE, topic_records=0)],
)
def test_no_verification_runs_while_it_is_impossible(due, now):
    """While a service is unavailable, and before the first record."""
    assert events(ScheduledVerify(due, ending(0)), now) == []


def test_scheduled_verification_can_be_disabled(due):
    """0 hours: never."""
    assert events(ScheduledVerify(due.model_copy(update={"watch_verify_hours": 0.0}), ending(0))) == []


def test_the_first_verification_runs_after_the_interval(tmp_path):
    """A stack that has just been set up is not verified at once."""
    assert events(ScheduledVerify(config.read(home=tmp_path), ending(0))) == []


def test_a_running_verification_ends_with_the_watcher(due):
    """However it reacts to the signal."""
    regular = ScheduledVerify(due, (sys.executable, "-c", "import time; time.sleep(600)"))
    regular.round(FINE)
    process = regular._process
    regular.close()
    assert process is not None
    assert process.returncode is not None


def test_the_child_process_verifies_and_names_unavailable_services(tmp_path):
    """Its exit code is the error's, so that the watcher logs a failed verification."""
    env = {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_CASSANDRA_PORT": "1", "PENSTOCK_CASSANDRA_TIMEOUT_S": "1"}
    done = subprocess.run(regular._COMMAND, env=os.environ | env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (CassandraUnreachable.exit_code, "")
    assert done.stderr.startswith("verify: Cassandra at 127.0.0.1:1 did not respond")
