"""API to readable row, with all stages running at once: throughput in records per second."""

import uuid
from functools import partial
from typing import Any

from bench import ingest, store
from bench.ground import Ground, Load
from bench.meter import Meter
from bench.race import BenchFailed, Contestant, Lap, Mark, Running, between, kinds_of
from penstock import pipelines

NAME = "endtoend"
WHAT = "API to readable row: throughput, compared with the tutorial"
RECORDS = 60_000
_WARM_UP = 20_000
_TUTORIAL_SHARE = 0.05
_TIMEOUT_S = 600.0

CONTESTANTS: dict[str, tuple[str, ingest.Make, store.Make, float]] = {
    "ours": ("penstock", ingest.ours, store.ours, 1.0),
    "tutorial": ("the tutorial", ingest.plain("ingest_tutorial.py"), store.spark35({}, store.EITHER), _TUTORIAL_SHARE),
}
"""Title, ingest program, store program and share of the records, by name."""


def contestants(ground: Ground, api: str, records: int) -> list[Contestant]:
    """Return both contestants."""
    return [
        Contestant(name, title, partial(_run_lap, ground, send, make, api, round(records * share)))
        for name, (title, send, make, share) in CONTESTANTS.items()
    ]


def _run_lap(ground: Ground, send: ingest.Make, make: store.Make, api: str, records: int) -> dict[str, Any]:
    return come_through(ground, send, make, api, records).numbers()


def come_through(ground: Ground, send: ingest.Make, make: store.Make, api: str, records: int) -> Lap:
    """Measure one run. The job is up and warm before the first user is requested. Raises `BenchFailed`."""
    load = Load(_WARM_UP, name=uuid.uuid4().hex[:8])
    ground.fill(load)
    settings = ground.fresh_table(load)
    try:
        with Running(make(ground, settings, 0)) as job:
            steps, done = job.steps(_TIMEOUT_S), 0
            while done < _WARM_UP:
                done += next(steps)
            with (
                Running(send(ground, settings, api, records)) as sender,
                Meter(kinds_of([job, sender], ground.find)) as meter,
            ):
                first = Mark.now(done, meter)
                while done < _WARM_UP + records:
                    done += next(steps)
                last = Mark.now(done, meter)
        if (rows := ground.rows(settings)) < _WARM_UP + min(records, ingest.API_USERS):
            raise BenchFailed(f"too few rows of {pipelines.of(settings).table}: {rows}")
        return between(first, last, last.at_s - first.at_s, meter)
    finally:
        ground.drop(settings)
        ground.forget(load)
