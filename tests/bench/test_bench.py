"""Run the benchmarks on few records: every program of every contestant works."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import endtoend, ingest, latency, stages, store, type_costs
from tests.conftest import ROOT, Stack, environment_of

RECORDS = 5000


@pytest.fixture(scope="module")
def here() -> Stack:
    """A stack that is not started: the benchmarks start their own, next to its data directory."""
    return Stack(environment_of(ROOT / ".penstock" / "test-bench", 5000))


@pytest.fixture(scope="module")
def results(here: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of one run of six benchmarks, and the path of their report."""
    folder = tmp_path_factory.mktemp("bench")
    names = ("ingest", "store", "endtoend", "latency", "stages", "types")
    files = ("--json", str(folder / "results.json"), "--report", str(folder / "report.md"))
    done = here.cli("bench", *names, "--records", str(RECORDS), "--repeat", "1", *files, timeout_s=1200)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return {"report": folder / "report.md", **json.loads((folder / "results.json").read_text())}


@pytest.mark.timeout(1300)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ingest", ingest.CONTESTANTS),
        ("store", store.CONTESTANTS),
        ("endtoend", endtoend.CONTESTANTS),
        ("latency", latency.CONTESTANTS),
        ("stages", stages.CONTESTANTS),
        ("types", type_costs.SAMPLES),
    ],
)
def test_every_contestant_completes(results: dict[str, Any], name: str, expected: dict[str, Any]) -> None:
    """penstock, each peer and each limit ran once. The benchmark itself counts that all records arrived."""
    contestants = results["benchmarks"][name]["contestants"]
    assert list(contestants) == list(expected)
    assert all(len(contestant["runs"]) == 1 for contestant in contestants.values())


@pytest.mark.timeout(1300)
def test_latencies_are_of_rows_that_were_read(results: dict[str, Any]) -> None:
    """Each rate has ordered percentiles of the sampled records."""
    for contestant in results["benchmarks"]["latency"]["contestants"].values():
        for latency_ms in contestant["median"]["by_rate"].values():
            assert 0 < latency_ms["p50"] <= latency_ms["p95"] <= latency_ms["p99"] <= latency_ms["max"]
            assert latency_ms["records"] > 0


@pytest.mark.timeout(1300)
def test_the_report_is_written(results: dict[str, Any]) -> None:
    """The report has a section for each benchmark, and a plot for each but that of the types."""
    report: Path = results["report"]
    text = report.read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        f"## {name}" for name in ("ingest", "store", "endtoend", "latency", "stages", "types")
    ]
    assert len(list((report.parent / "images").glob("*.svg"))) == 5


@pytest.mark.timeout(700)
def test_the_tree_is_as_fast_as_itself(here: Stack) -> None:
    """--quick stores the same records with two trees and prints the comparison."""
    done = here.cli("bench", "--quick", "--against", "HEAD", "--records", "120000", "--repeat", "1", timeout_s=600)
    assert done.returncode in (0, 1), done.stderr[-4000:]
    assert "of the CPU time of HEAD (rounds: " in done.stdout
