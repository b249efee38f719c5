"""Run benchmarks: contestants take turns, repeatedly, and the results are plain data."""

import json
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench import endtoend, growth, ingest, latency, stages, start, store, type_costs, verification
from bench.measure import Contestant
from bench.target import Target
from penstock.errors import UsageError
from penstock.stack.layout import REPOSITORY
from penstock.stack.services import cassandra, kafka, registry

Notify = Callable[[str], None]
Figures = dict[str, Any]
"""Figures of one run by name, some in nested dicts."""
OURS = "ours"
REPEAT = 3
_PACKAGES = ("pyspark", "confluent-kafka", "cassandra-driver", "msgspec", "pyarrow", "apache-airflow")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark. `prepare` is a context manager that provides the contestants for a number of records."""

    name: str
    what: str
    prepare: Callable[[Target, int | None], Any]
    uses_stack: bool = True


@contextmanager
def _prepare_store(target: Target, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(target, records)
    yield store.build_contestants(target, records or store.RECORDS)


@contextmanager
def _prepare_ingest(target: Target, records: int | None) -> Iterator[list[Contestant]]:
    with ingest.serve_api() as api:
        ingest.warm_up(target, api, records or ingest.RECORDS)
        yield ingest.build_contestants(target, api, records or ingest.RECORDS)


@contextmanager
def _prepare_endtoend(target: Target, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(target, records)
    with ingest.serve_api() as api:
        yield endtoend.build_contestants(target, api, records or endtoend.RECORDS)


@contextmanager
def _prepare_latency(target: Target, records: int | None) -> Iterator[list[Contestant]]:
    seconds = records / max(latency.RATES) if records else latency.SECONDS
    store.warm_up(target, records)
    yield latency.build_contestants(target, seconds)


@contextmanager
def _prepare_stages(target: Target, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(target, records)
    yield stages.build_contestants(target, records or stages.RECORDS)


@contextmanager
def _prepare_growth(target: Target, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(target, records)
    yield growth.build_contestants(target, (records or growth.RECORDS) / growth.RECORDS)


@contextmanager
def _prepare_verify(target: Target, records: int | None) -> Iterator[list[Contestant]]:
    with verification.build_contestants(target, records or verification.RECORDS) as contestants:
        yield contestants


@contextmanager
def _prepare_types(_target: Target, records: int | None) -> Iterator[list[Contestant]]:
    yield type_costs.build_contestants(records or type_costs.VALUES)


@contextmanager
def _prepare_start(target: Target, _records: int | None) -> Iterator[list[Contestant]]:
    target.stop()
    with start.create_clone() as clone:
        first_demo = clone.time_first_demo()
        yield [Contestant(OURS, "penstock", lambda: first_demo | clone.time_warm_start())]


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(ingest.NAME, ingest.WHAT, _prepare_ingest),
        Benchmark(store.NAME, store.WHAT, _prepare_store),
        Benchmark(latency.NAME, latency.WHAT, _prepare_latency),
        Benchmark(endtoend.NAME, endtoend.WHAT, _prepare_endtoend),
        Benchmark(stages.NAME, stages.WHAT, _prepare_stages),
        Benchmark(growth.NAME, growth.WHAT, _prepare_growth),
        Benchmark(verification.NAME, verification.WHAT, _prepare_verify),
        Benchmark(type_costs.NAME, type_costs.WHAT, _prepare_types, uses_stack=False),
        Benchmark(start.NAME, start.WHAT, _prepare_start),
    )
}


def select_benchmarks(names: Sequence[str]) -> list[Benchmark]:
    """Return the benchmarks with these names, by default all. Raises `UsageError` for an unknown name."""
    for name in names:
        if name not in BENCHMARKS:
            raise UsageError(
                f"unknown benchmark {name!r}: expected one of {', '.join(BENCHMARKS)}", hint="./penstock bench -h"
            )
    return [BENCHMARKS[name] for name in names or BENCHMARKS]


def run_benchmark(
    target: Target, benchmark: Benchmark, records: int | None, repeat: int, notify: Notify
) -> dict[str, Any]:
    """Run the contestants of a benchmark in turns and return runs, medians, and penstock's ratio to each."""
    commit = describe_commit(REPOSITORY)
    if benchmark.uses_stack:
        target.start()
    with benchmark.prepare(target, records) as contestants:
        runs: dict[str, list[Figures]] = {contestant.name: [] for contestant in contestants}
        for number in range(repeat):
            for contestant in contestants:
                run = contestant.run()
                runs[contestant.name].append(run)
                notify(f"{benchmark.name} {number + 1}/{repeat}: {contestant.title}: {_format_run(run)}")
    titles = {contestant.name: contestant.title for contestant in contestants}
    option = f" --records {records}" if records else ""
    return {
        "what": benchmark.what,
        "command": f"./penstock bench {benchmark.name}{option} --repeat {repeat}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit,
        "contestants": compare_runs(runs, titles),
    }


def load_results(file: Path | None) -> dict[str, Any]:
    """Load the results in a `--json` file, or return empty results if it does not exist. Creates its folder.

    Raises `UsageError` if the file contains something else, or results of another machine or of other versions.
    """
    current = describe_machine()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)  # fail now rather than after all measurements
    if file is None or not file.exists():
        return {"machine": current, "benchmarks": {}}
    try:
        results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        is_comparable = results["machine"] == current and isinstance(results["benchmarks"], dict)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} exists, but does not contain benchmark results", hint="name another file") from error
    if not is_comparable:
        raise UsageError(f"{file} contains results of another machine or of other versions", hint="name another file")
    return results


def compare_runs(runs: Mapping[str, Sequence[Figures]], titles: Mapping[str, str]) -> dict[str, Any]:
    """Return runs, median and spread of each contestant by name, and penstock's median divided by its median."""
    medians = {name: aggregate_runs(statistics.median, contestant_runs) for name, contestant_runs in runs.items()}
    results: dict[str, Any] = {}
    for name, contestant_runs in runs.items():
        results[name] = {
            "title": titles[name],
            "runs": list(contestant_runs),
            "median": medians[name],
            "least": aggregate_runs(min, contestant_runs),
            "most": aggregate_runs(max, contestant_runs),
        }
        if OURS in medians:
            results[name]["ours_to_it"] = _divide(medians[OURS], medians[name])
    return results


def aggregate_runs(function: Callable[[list[float]], float], runs: Sequence[Figures]) -> Figures:
    """Aggregate each figure of the runs with `function`. All runs must have the same names."""
    first = runs[0]
    return {
        name: aggregate_runs(function, [run[name] for run in runs])
        if isinstance(value, dict)
        else function([run[name] for run in runs])
        for name, value in first.items()
    }


def _divide(ours: Figures, theirs: Figures) -> Figures:
    return {
        name: _divide(value, theirs[name]) if isinstance(value, dict) else value / theirs[name]
        for name, value in ours.items()
        if name in theirs and (isinstance(value, dict) or theirs[name])
    }


def _format_run(run: Figures) -> str:
    return ", ".join(f"{name} {value:,.4g}" for name, value in run.items() if not isinstance(value, dict))


def describe_commit(tree: Path) -> str:
    """Return the commit of a tree, or `no commit`. A `+` marks local changes, except in docs/, which has the report."""
    git = ["git", "-C", str(tree)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!docs"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return head.stdout.strip() + ("+" if differs else "")


def describe_machine() -> dict[str, Any]:
    """Describe the machine and the software versions."""
    versions = {name: version(name) for name in _PACKAGES}
    services = {"Kafka": kafka.VERSION, "Cassandra": cassandra.VERSION, "Apicurio Registry": registry.VERSION}
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "processor": _read_processor(),
        "system": platform.system(),
        "versions": {"Python": platform.python_version(), **services, **versions},
    }


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
