"""Which benchmarks run, and how often: the contestants of each take turns, and what came of it is plain data."""

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

from bench import endtoend, growth, ingest, latency, stages, start, store
from bench.ground import Ground
from bench.race import Contestant
from penstock.errors import WrongUse
from penstock.stack.layout import REPOSITORY
from penstock.stack.services import cassandra, kafka, registry

Say = Callable[[str], None]
Run = dict[str, Any]
"""What one lap gave: numbers by name, some of them in dicts of their own."""
OURS = "ours"
REPEAT = 3
_PACKAGES = ("pyspark", "confluent-kafka", "cassandra-driver", "msgspec", "pyarrow", "apache-airflow")


@dataclass(frozen=True)
class Benchmark:
    """One of them: `prepare` gives its contestants, told how many records, for the length of a `with` block."""

    name: str
    what: str
    prepare: Callable[[Ground, int | None], Any]


@contextmanager
def _store(ground: Ground, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(ground, records)
    yield store.contestants(ground, records or store.RECORDS)


@contextmanager
def _ingest(ground: Ground, records: int | None) -> Iterator[list[Contestant]]:
    with ingest.serving() as api:
        ingest.warm_up(ground, api, records or ingest.RECORDS)
        yield ingest.contestants(ground, api, records or ingest.RECORDS)


@contextmanager
def _endtoend(ground: Ground, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(ground, records)
    with ingest.serving() as api:
        yield endtoend.contestants(ground, api, records or endtoend.RECORDS)


@contextmanager
def _latency(ground: Ground, records: int | None) -> Iterator[list[Contestant]]:
    seconds = records / max(latency.RATES) if records else latency.SECONDS
    store.warm_up(ground, records)
    yield latency.contestants(ground, seconds)


@contextmanager
def _stages(ground: Ground, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(ground, records)
    yield stages.contestants(ground, records or stages.RECORDS)


@contextmanager
def _growth(ground: Ground, records: int | None) -> Iterator[list[Contestant]]:
    store.warm_up(ground, records)
    yield growth.contestants(ground, (records or growth.RECORDS) / growth.RECORDS)


@contextmanager
def _start(ground: Ground, _records: int | None) -> Iterator[list[Contestant]]:
    ground.down()
    with start.clone() as found:
        first = found.first_demo()
        yield [Contestant(OURS, "penstock", lambda: first | found.warm())]


BENCHMARKS = {
    one.name: one
    for one in (
        Benchmark(ingest.NAME, ingest.WHAT, _ingest),
        Benchmark(store.NAME, store.WHAT, _store),
        Benchmark(latency.NAME, latency.WHAT, _latency),
        Benchmark(endtoend.NAME, endtoend.WHAT, _endtoend),
        Benchmark(stages.NAME, stages.WHAT, _stages),
        Benchmark(growth.NAME, growth.WHAT, _growth),
        Benchmark(start.NAME, start.WHAT, _start),
    )
}


def known(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names; all when there is none. Raises `WrongUse`."""
    for name in names:
        if name not in BENCHMARKS:
            raise WrongUse(
                f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}", hint="./penstock bench -h"
            )
    return [BENCHMARKS[name] for name in names or BENCHMARKS]


def hold(ground: Ground, benchmark: Benchmark, records: int | None, repeat: int, say: Say) -> dict[str, Any]:
    """The runs of each contestant, which take turns; their medians, and ours against each."""
    measured = commit(REPOSITORY)
    ground.up()
    with benchmark.prepare(ground, records) as contestants:
        runs: dict[str, list[Run]] = {one.name: [] for one in contestants}
        for number in range(repeat):
            for one in contestants:
                found = one.run()
                runs[one.name].append(found)
                say(f"{benchmark.name} {number + 1}/{repeat}: {one.title}: {_brief(found)}")
    titles = {one.name: one.title for one in contestants}
    asked = f" --records {records}" if records else ""
    return {
        "what": benchmark.what,
        "command": f"./penstock bench {benchmark.name}{asked} --repeat {repeat}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": measured,
        "contestants": compared(runs, titles),
    }


def begun(file: Path | None) -> dict[str, Any]:
    """What a file of `--json` holds, to go on with; nothing yet, when there is none. Its folder is made.

    Raises `WrongUse` when it holds something else, or another machine or other versions made it.
    """
    here = machine()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)  # now, and not once all is measured
    if file is None or not file.exists():
        return {"machine": here, "benchmarks": {}}
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        made_here = found["machine"] == here and isinstance(found["benchmarks"], dict)
    except (ValueError, KeyError, TypeError) as error:
        raise WrongUse(f"{file} is there, and holds no figures of a bench", hint="name another file") from error
    if not made_here:
        raise WrongUse(f"{file} was measured on another machine or with other versions", hint="name another file")
    return found


def compared(runs: Mapping[str, Sequence[Run]], titles: Mapping[str, str]) -> dict[str, Any]:
    """Runs, medians and spread of each contestant by name, and our medians divided by its own."""
    medians = {name: merged(statistics.median, some) for name, some in runs.items()}
    found: dict[str, Any] = {}
    for name, some in runs.items():
        found[name] = {
            "title": titles[name],
            "runs": list(some),
            "median": medians[name],
            "least": merged(min, some),
            "most": merged(max, some),
        }
        if OURS in medians:
            found[name]["ours_to_it"] = _ratios(medians[OURS], medians[name])
    return found


def merged(function: Callable[[list[float]], float], runs: Sequence[Run]) -> Run:
    """What the function makes of each number of the runs, which all have the same names."""
    first = runs[0]
    return {
        name: merged(function, [one[name] for one in runs])
        if isinstance(value, dict)
        else function([one[name] for one in runs])
        for name, value in first.items()
    }


def _ratios(ours: Run, theirs: Run) -> Run:
    return {
        name: _ratios(value, theirs[name]) if isinstance(value, dict) else value / theirs[name]
        for name, value in ours.items()
        if name in theirs and (isinstance(value, dict) or theirs[name])
    }


def _brief(run: Run) -> str:
    return ", ".join(f"{name} {value:,.4g}" for name, value in run.items() if not isinstance(value, dict))


def commit(tree: Path) -> str:
    """The commit of a tree, with `+` when files differ from it, those of docs/ (the report) aside; else `no commit`."""
    git = ["git", "-C", str(tree)]
    try:
        named = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!docs"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return named.stdout.strip() + ("+" if differs else "")


def machine() -> dict[str, Any]:
    """Where and with what it ran."""
    versions = {name: version(name) for name in _PACKAGES}
    services = {"Kafka": kafka.VERSION, "Cassandra": cassandra.VERSION, "Apicurio Registry": registry.VERSION}
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "processor": _processor(),
        "system": platform.system(),
        "versions": {"Python": platform.python_version(), **services, **versions},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
