"""The command `penstock drill`."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.drill import table, target
from penstock.drill.backlog import BacklogResult
from penstock.drill.growth import ServiceUsage, UsageGrowth
from penstock.drill.soak import SoakResult
from penstock.drill.verdict import PASSED, Result


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, table.Options]]:
    """Record the drills that are run. kill-cassandra does not pass."""
    asked: list[tuple[str, table.Options]] = []

    def hold(_: Any, name: str, ask: table.Options) -> Result:
        asked.append((name, ask))
        verdict = "missing records: 1" if name == "kill-cassandra" else PASSED
        return Result(name, 10, 10, 0, 0, 0, 1.5, verdict)

    monkeypatch.setattr(table, "run_drill", hold)
    monkeypatch.setattr(target, "open_target", lambda *_: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return asked


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["drill", *arguments])


def test_without_names_the_drills_are_listed(held: list[Any]) -> None:
    """Without names, all drills are listed and none is run."""
    done = run()
    assert done.exit_code == 0
    assert all(name in done.stdout and what in done.stdout for name, what in table.WHAT.items())
    assert {result["name"] for result in json.loads(run("--json").stdout)} == set(table.WHAT)
    assert held == []


def test_json_is_a_list_with_every_key(held: list[Any]) -> None:
    """JSON is a list with one object per drill in the given order. Exit 0 if all passed."""
    done = run("kill-kafka", "kill-driver", "--json", "--records", "50")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert [item["name"] for item in document] == ["kill-kafka", "kill-driver"]
    keys = {"name", "sent", "stored", "rejected", "missing", "doubled", "recovered_s", "verdict"}
    assert all(set(item) == keys and item["verdict"] == PASSED for item in document)
    assert {ask.records for _, ask in held} == {50}


def test_a_failed_drill_fails_the_command(held: list[Any]) -> None:
    """If a drill does not pass, the others still run, and the table shows its verdict."""
    done = run("kill-cassandra", "kill-kafka")
    assert done.exit_code == 1
    assert "missing records: 1" in done.stdout
    assert [name for name, _ in held] == ["kill-cassandra", "kill-kafka"]


def test_all_runs_every_drill_with_a_smaller_backlog(held: list[Any]) -> None:
    """--all runs every drill with a smaller backlog. Alone it is 2,000,000 records, or `--backlog`."""
    run("--all")
    assert [name for name, _ in held] == table.list_of_all()
    assert held[0][1].backlog == table.BACKLOG_OF_ALL
    run("backlog")
    assert held[-1][1].backlog == 2_000_000
    run("backlog", "--backlog", "5000")
    assert held[-1][1].backlog == 5000


def test_the_drill_that_deletes_the_topic_asks(held: list[Any]) -> None:
    """Without an answer nothing is run; with --yes nothing is asked."""
    refused = run("recreate-topic")
    assert refused.exit_code != 0
    assert "Delete the topic" in refused.stderr
    assert held == []
    assert run("recreate-topic", "--yes").exit_code == 0
    assert [name for name, _ in held] == ["recreate-topic"]


def test_an_unknown_name_is_a_usage_error(held: list[Any]) -> None:
    """An unknown name is a usage error, and no drill is run."""
    assert run("kill-everything").exit_code != 0
    assert held == []


def test_a_soak_and_a_backlog_print_more(monkeypatch: pytest.MonkeyPatch, held: list[Any]) -> None:
    """A soak also prints each service at start and end, a backlog the batches and the memory."""
    common = (10, 10, 0, 0, 0, 1.5, PASSED)
    usage = ServiceUsage(321, 45, 6)
    results = {
        "soak": SoakResult("soak", *common, processes=[UsageGrowth("kafka", usage, usage, "steady")]),
        "backlog": BacklogResult("backlog", *common, 7, 4321, 12.5, {"spark-job": 567}),
    }
    monkeypatch.setattr(table, "run_drill", lambda _ground, name, _ask: results[name])
    output = run("soak", "backlog").stdout
    assert "memory_mib at start" in output
    assert "spark-job, peak MiB  567" in output
    assert "4321" in output
    (soak, backlog) = json.loads(run("soak", "backlog", "--json").stdout)
    assert soak["processes"][0]["end"] == {"memory_mib": 321, "handles": 45, "disk_mib": 6}
    assert (backlog["batches"], backlog["memory_mib"]) == (7, {"spark-job": 567})
