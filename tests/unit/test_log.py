import json
import os
import subprocess
import sys

import pytest

from penstock import log


def test_events_are_readable_lines_on_stderr(capsys):
    """An event is one line on stderr with its name and fields. Nothing is written to stdout."""
    log.configure("INFO")
    log.get_logger("x").info("run_finished", produced=5)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert "run_finished" in shown.err
    assert "produced=5" in shown.err


def test_events_can_be_json(capsys):
    """With `json` an event is a JSON object with name, level, time, fields and exception."""
    log.configure("INFO", json=True)
    try:
        int("no good")
    except ValueError:
        log.get_logger("x").exception("query_failed", batch=5)
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["batch"]) == ("query_failed", "error", 5)
    assert event["timestamp"].endswith("Z")
    assert "ValueError: invalid literal" in event["exception"]


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", 3), ("INFO", 2), ("WARNING", 1), ("ERROR", 0)])
def test_events_below_the_level_are_dropped(capsys, level, shown):
    """Only events of at least the level are logged."""
    log.configure(level)
    logger = log.get_logger("x")
    logger.debug("first")
    logger.info("two")
    logger.warning("three")
    assert len(capsys.readouterr().err.splitlines()) == shown


def test_a_process_survives_a_closed_log_pipe():
    """Events that are logged into a pipe without a reader are dropped; the process does its work."""
    program = """
import sys
from penstock import log
log.configure()
for number in range(1000):
    log.get_logger("x").info("still_here", number=number)
print("done", flush=True)
"""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, stdout=subprocess.PIPE, stderr=writing, timeout=60
    )
    os.close(writing)
    assert done.stdout == b"done\n"
