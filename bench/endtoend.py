"""Benchmark from the API to a readable row, with all stages running at once: throughput in records per second."""

import uuid
from functools import partial
from typing import Any

from bench import ingest, store
from bench.measure import BenchFailed, Contestant, Mark, Measurement, Running, compute_measurement, group_processes
from bench.meter import Meter
from bench.target import Load, Target
from penstock import pipelines

NAME = "endtoend"
WHAT = "API to readable row: throughput, compared with the tutorial"
RECORDS = 60_000
_WARM_UP = 20_000
_TUTORIAL_SHARE = 0.05
_TIMEOUT_S = 600.0

CONTESTANTS: dict[str, tuple[str, ingest.ProgramFactory, store.ProgramFactory, float]] = {
    "ours": ("penstock", ingest.make_penstock, store.make_penstock, 1.0),
    "tutorial": (
        "the tutorial",
        ingest.plain_factory("ingest_tutorial.py"),
        store.spark35_factory({}, store.WITHOUT_OPTIONAL_HEADER),
        _TUTORIAL_SHARE,
    ),
}
"""Title, ingest program, store program and share of the records, by name."""


def build_contestants(target: Target, api: str, records: int) -> list[Contestant]:
    """Build both contestants."""
    return [
        Contestant(name, title, partial(_run_contestant, target, send, make, api, round(records * share)))
        for name, (title, send, make, share) in CONTESTANTS.items()
    ]


def _run_contestant(
    target: Target, send: ingest.ProgramFactory, make: store.ProgramFactory, api: str, records: int
) -> dict[str, Any]:
    return measure_run(target, send, make, api, records).numbers()


def measure_run(
    target: Target, send: ingest.ProgramFactory, make: store.ProgramFactory, api: str, records: int
) -> Measurement:
    """Measure one run. The job is warmed up before the first user is requested. Raises `BenchFailed`."""
    load = Load(_WARM_UP, name=uuid.uuid4().hex[:8])
    target.fill_topic(load)
    settings = target.create_table(load)
    try:
        with Running(make(target, settings, 0)) as job:
            steps, done = job.steps(_TIMEOUT_S), 0
            while done < _WARM_UP:
                done += next(steps)
            with (
                Running(send(target, settings, api, records)) as sender,
                Meter(group_processes([job, sender], target.process_finder)) as meter,
            ):
                first = Mark.now(done, meter)
                while done < _WARM_UP + records:
                    done += next(steps)
                last = Mark.now(done, meter)
        if (rows := target.count_rows(settings)) < _WARM_UP + min(records, ingest.API_USERS):
            raise BenchFailed(f"too few rows in {pipelines.of(settings).table}: {rows}")
        return compute_measurement(first, last, last.at_s - first.at_s, meter)
    finally:
        target.drop_keyspace(settings)
        target.delete_topics(load)
