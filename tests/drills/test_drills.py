"""The quick drills, on a stack of their own, as a user holds them."""

import json

import pytest

from tests.conftest import Stack

QUICK = (
    "kill-driver",
    "kill-kafka",
    "kill-cassandra",
    "cassandra-frozen",
    "torn-checkpoint",
    "second-job",
    "hostile-source",
    "add-partitions",
    "redrive-order",
    "recreate-topic",
    "stuck-transform",
)
REJECTS = {"hostile-source", "redrive-order", "poison-record"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", QUICK)
def test_the_drill_passes(stack: Stack, name: str) -> None:
    """Nothing is missing, nothing is there twice, the stream goes on in time, and a log names the fault."""
    done = stack.cli("drill", name, "--records", "500", "--yes", "--json", timeout_s=800)
    (found,) = json.loads(done.stdout)
    said = f"{found}\n{done.stderr[-3000:]}"
    assert found["verdict"] == "passed", said
    assert done.returncode == 0, said
    assert (found["missing"], found["doubled"]) == (0, 0), said
    assert found["sent"] >= 500 - found["rejected"], said
    assert found["sent"] == found["stored"] + found["rejected"] or name == "hostile-source", said
    assert (found["rejected"] > 0) == (name in REJECTS), said
    assert 0 < found["recovered_s"] <= 120, said
