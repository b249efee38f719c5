"""The benchmarks themselves: every program of every contestant does what it is asked for, on few records."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import endtoend, ingest, latency, stages, store
from tests.conftest import ROOT, Stack, environment_of

RECORDS = 5000


@pytest.fixture(scope="module")
def here() -> Stack:
    """No stack that is up: the bench brings up its own, beside the home that it is told."""
    return Stack(environment_of(ROOT / ".penstock" / "test-bench", 5000))


@pytest.fixture(scope="module")
def found(here: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of five benchmarks, and where its report lies."""
    folder = tmp_path_factory.mktemp("bench")
    names = ("ingest", "store", "endtoend", "latency", "stages")
    files = ("--json", str(folder / "found.json"), "--report", str(folder / "report.md"))
    done = here.cli("bench", *names, "--records", str(RECORDS), "--repeat", "1", *files, timeout_s=1200)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return {"report": folder / "report.md", **json.loads((folder / "found.json").read_text())}


@pytest.mark.timeout(1300)
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ingest", ingest.CONTESTANTS),
        ("store", store.CONTESTANTS),
        ("endtoend", endtoend.CONTESTANTS),
        ("latency", latency.CONTESTANTS),
        ("stages", stages.CONTESTANTS),
    ],
)
def test_every_contestant_does_its_part(found: dict[str, Any], name: str, wanted: dict[str, Any]) -> None:
    """Ours, each peer and each limit ran once; that all its records came was counted by the bench itself."""
    contestants = found["benchmarks"][name]["contestants"]
    assert list(contestants) == list(wanted)
    assert all(len(one["runs"]) == 1 for one in contestants.values())


@pytest.mark.timeout(1300)
def test_latencies_are_of_rows_that_were_read(found: dict[str, Any]) -> None:
    """Each rate has its quantiles, in order, of the records that were looked for."""
    for one in found["benchmarks"]["latency"]["contestants"].values():
        for told in one["median"]["by_rate"].values():
            assert 0 < told["p50"] <= told["p95"] <= told["p99"] <= told["max"]
            assert told["records"] > 0


@pytest.mark.timeout(1300)
def test_the_report_is_written(found: dict[str, Any]) -> None:
    """With a section for each benchmark, and its plots."""
    report: Path = found["report"]
    text = report.read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        f"## {name}" for name in ("ingest", "store", "endtoend", "latency", "stages")
    ]
    assert len(list((report.parent / "images").glob("*.svg"))) == 5


@pytest.mark.timeout(700)
def test_the_tree_is_as_fast_as_itself(here: Stack) -> None:
    """The guard stores the same records with two trees, and says how they compare."""
    done = here.cli("bench", "--quick", "--against", "HEAD", "--records", "120000", "--repeat", "1", timeout_s=600)
    assert done.returncode in (0, 1), done.stderr[-4000:]
    assert "of the CPU time of HEAD (rounds: " in done.stdout
