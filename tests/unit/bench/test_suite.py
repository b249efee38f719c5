import json
import statistics
import subprocess

import pytest

from bench import report, suite
from bench.target import Load, create_target
from penstock.config import read
from penstock.errors import UsageError
from penstock.stack.report import discard_report


def run(rows_per_s: float, cpu_us: float) -> dict:
    return {
        "rows_per_s": rows_per_s,
        "cpu_us": cpu_us,
        "records": 1000,
        "seconds": 1.0,
        "cold_s": 2.0,
        "cpu_us_per_row": {"kafka": 1.0, "cassandra": cpu_us - 6, "registry": 0.0, "Java": 2.0, "Python": 3.0},
        "rss_mib": {"kafka": 300, "cassandra": 1000, "registry": 100, "Java": 500, "Python": 200},
        "disk_mib": 5.0,
    }


COMPARED = suite.compare_runs(
    {"ours": [run(300, 50), run(100, 60), run(200, 40)], "other": [run(100, 100), run(90, 110), run(110, 90)]},
    {"ours": "penstock", "other": "the other"},
)


def test_figures_are_aggregated_by_name_at_any_depth():
    """The median is computed for each figure, also in nested dicts."""
    assert suite.aggregate_runs(
        statistics.median, [{"a": 1, "b": {"c": 5}}, {"a": 3, "b": {"c": 1}}, {"a": 2, "b": {"c": 3}}]
    ) == {
        "a": 2,
        "b": {"c": 3},
    }


def test_every_contestant_has_runs_median_spread_and_ratio():
    """Ratios divide penstock's median by the other's."""
    other = COMPARED["other"]
    assert len(other["runs"]) == 3
    assert (other["median"]["rows_per_s"], other["least"]["rows_per_s"], other["most"]["rows_per_s"]) == (100, 90, 110)
    assert other["ours_to_it"]["rows_per_s"] == 2.0
    assert other["ours_to_it"]["cpu_us"] == 0.5
    assert COMPARED["ours"]["ours_to_it"]["cpu_us_per_row"]["Python"] == 1.0


def test_a_figure_of_zero_has_no_ratio():
    """A figure that is zero for the other contestant has no ratio."""
    assert "registry" not in COMPARED["other"]["ours_to_it"]["cpu_us_per_row"]


def test_no_name_selects_all_benchmarks():
    """The order is the report's. The error for an unknown name lists the known ones."""
    assert [benchmark.name for benchmark in suite.select_benchmarks([])] == list(suite.BENCHMARKS)
    assert [benchmark.name for benchmark in suite.select_benchmarks(["start", "store"])] == ["start", "store"]
    with pytest.raises(UsageError, match="unknown benchmark 'sore': expected one of ingest, store"):
        suite.select_benchmarks(["sore"])


def test_a_topics_name_identifies_its_load():
    """Different loads have different topics, so that no topic is reused for another load."""
    loads = [
        Load(1000),
        Load(1001),
        Load(1000, partitions=1),
        Load(1000, note_bytes=5),
        Load(1000, rejected=0.5),
        Load(1000, wire_format="avro"),
        Load(1000, name="x"),
    ]
    assert len({load.topic for load in loads}) == len(loads)


def test_benchmarks_use_only_this_machine(monkeypatch, tmp_path):
    """Benchmarks run on a separate local stack with its own folders and ports, whatever cluster is configured."""
    monkeypatch.setenv("PENSTOCK_KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("PENSTOCK_CASSANDRA_HOSTS", "cassandra")
    monkeypatch.setenv("PENSTOCK_REGISTRY_URL", "https://registry")
    usual = read(home=tmp_path)
    own = create_target(usual, discard_report).settings
    assert (own.kafka_bootstrap, own.cassandra_hosts) == (f"127.0.0.1:{own.kafka_port}", "127.0.0.1")
    assert own.registry_url == f"http://127.0.0.1:{own.registry_port}/apis/ccompat/v7"
    assert own.home == tmp_path / "bench"
    assert own.cache == tmp_path / "cache"
    assert not set(own.ports().values()) & set(usual.ports().values())


LATENCIES = {
    rate: {"records": 500, "p50": 100.0, "p95": 200.0, "p99": 300.0, "max": 400.0} for rate in ("10", "100", "1000")
}
METADATA = {"command": "./penstock bench store --repeat 3", "date": "2026-11-27", "commit": "0a1b2c3"}
LIMITED = COMPARED | suite.compare_runs(
    {"limit-read": [run(900, 10)], "limit-write": [run(400, 40)]}, {"limit-read": "reading", "limit-write": "writing"}
)
HUGE = suite.compare_runs({"ours": [run(1, 2000)]}, {"ours": "40 KB"})["ours"]
START = {"first_demo_s": 90.0, "installed_mib": 3000.0, "up_s": 40.0, "demo_s": 60.0, "rss_mib": 4000}


def test_a_report_has_the_tables_and_the_plots(tmp_path):
    """Each benchmark has a section with figures, their spread and a plot."""
    paced = {
        "ours": [{"idle_cores": 0.04, "by_rate": LATENCIES}],
        "tutorial": [{"idle_cores": 0.5, "by_rate": LATENCIES}],
    }
    results = {
        "machine": suite.describe_machine(),
        "benchmarks": {
            "store": {"what": "stores", **METADATA, "contestants": LIMITED},
            "growth": {"what": "grows", **METADATA, "contestants": {"records-1": COMPARED["ours"], "size-40kb": HUGE}},
            "latency": {
                "what": "waits",
                **METADATA,
                "contestants": suite.compare_runs(paced, {"ours": "penstock", "tutorial": "t"}),
            },
            "stages": {"what": "goes", **METADATA, "contestants": {"decode": COMPARED["ours"]}},
            "start": {
                "what": "starts",
                **METADATA,
                "contestants": suite.compare_runs(
                    {"ours": [START | {"services_s": {"kafka": 5.0}}]}, {"ours": "penstock"}
                ),
            },
        },
    }
    report.write_report(json.loads(json.dumps(results)), tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| the other | 100 (90.0 to 110) | 100 (90.0 to 110) | 2.00 | 0.50 |" in text
    assert "| penstock | 1000 | 100 (100 to 100) |" in text
    assert "| penstock | 4.0% |" in text
    assert "| `up` of everything, warm | 40.0 (40.0 to 40.0) s |" in text
    assert "| kafka | 5.0 (5.0 to 5.0) |" in text
    assert "Stores (`./penstock bench store --repeat 3`, 2026-11-27, 0a1b2c3)." in text
    assert "add up to 50.0 µs per record. penstock takes 1.00 times that" in text
    assert "| penstock | 1.0 | 44.0 | 0.0 | 2.0 | 3.0 | 50.0 (40.0 to 60.0) |" in text
    assert "| 40 KB | 1.0 (1.0 to 1.0) | 2,000 (2,000 to 2,000) |" in text
    assert "40 KB" not in (tmp_path / "images" / "bench-growth.svg").read_text()
    for name in ("store", "growth", "latency", "stages"):
        assert f"images/bench-{name}.svg" in text
        assert (tmp_path / "images" / f"bench-{name}.svg").read_text().startswith("<?xml")


def test_results_name_the_measured_commit(tmp_path, monkeypatch):
    """Local changes are marked, except those of the report. A tree outside git has no commit."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert suite.describe_commit(tmp_path) == "no commit"
    (tmp_path / "docs").mkdir()
    code, page = tmp_path / "code.py", tmp_path / "docs" / "benchmarks.md"
    code.write_text("1")
    page.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    page.write_text("2")
    assert suite.describe_commit(tmp_path) == git("rev-parse", "--short", "HEAD")
    code.write_text("2")
    assert suite.describe_commit(tmp_path) == git("rev-parse", "--short", "HEAD") + "+"
    monkeypatch.setenv("PATH", "")
    assert suite.describe_commit(tmp_path) == "no commit"


def test_results_are_added_to_an_existing_file(tmp_path):
    """Other benchmarks in the file are kept. Results of another machine are rejected, as they are not comparable."""
    file = tmp_path / "new" / "results.json"
    assert (
        suite.load_results(file) == suite.load_results(None) == {"machine": suite.describe_machine(), "benchmarks": {}}
    )
    file.write_text(json.dumps({"machine": suite.describe_machine(), "benchmarks": {"store": {"what": "stores"}}}))
    assert suite.load_results(file)["benchmarks"] == {"store": {"what": "stores"}}
    file.write_text(json.dumps({"machine": suite.describe_machine() | {"cores": 1000}, "benchmarks": {}}))
    with pytest.raises(UsageError, match="another machine"):
        suite.load_results(file)


@pytest.mark.parametrize("text", ["# penstock", "[]", "{}", '{"machine": null}'])
def test_a_file_with_other_content_is_not_overwritten(tmp_path, text):
    """The error is raised before anything is measured, and the file is unchanged."""
    file = tmp_path / "notes.md"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"notes\.md"):
        suite.load_results(file)
    assert file.read_text() == text
