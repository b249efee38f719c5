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
    (result,) = json.loads(done.stdout)
    output = f"{result}\n{done.stderr[-3000:]}"
    assert result["verdict"] == "passed", output
    assert done.returncode == 0, output
    assert (result["missing"], result["doubled"]) == (0, 0), output
    assert result["sent"] >= 500 - result["rejected"], output
    assert result["sent"] == result["stored"] + result["rejected"] or name == "hostile-source", output
    assert (result["rejected"] > 0) == (name in REJECTS), output
    assert 0 < result["recovered_s"] <= 120, output
