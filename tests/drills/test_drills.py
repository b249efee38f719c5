"""Drills on the stack that the tests share, as a user runs them: those whose fault no other test causes."""

import json

import pytest

from tests.conftest import Stack

NAMES = (
    "kill-kafka",
    "kill-cassandra",
    "cassandra-frozen",
    "hostile-source",
    "add-partitions",
    "redrive-order",
    "stuck-transform",
)
REJECTS = {"hostile-source", "redrive-order"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_the_drill_passes(stack: Stack, name: str) -> None:
    """Nothing is missing or duplicated, the stream resumes in time, and a log names the fault."""
    done = stack.cli("drill", name, "--records", "500", "--json", timeout_s=800)
    (found,) = json.loads(done.stdout)
    said = f"{found}\n{done.stderr[-3000:]}"
    assert found["verdict"] == "passed", said
    assert done.returncode == 0, said
    assert (found["missing"], found["doubled"]) == (0, 0), said
    assert found["sent"] >= 500 - found["rejected"], said
    assert found["sent"] == found["stored"] + found["rejected"] or name == "hostile-source", said
    assert (found["rejected"] > 0) == (name in REJECTS), said
    assert 0 < found["recovered_s"] <= 120, said
