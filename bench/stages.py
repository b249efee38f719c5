"""Where penstock's CPU time goes: the pipeline up to each of its stages, one more each time."""

import json
import sys
from dataclasses import replace
from functools import partial
from typing import Any

from bench import store
from bench.ground import Ground, Load
from bench.race import Contestant, Program, lap, own_lines
from bench.store import Make
from penstock.config import Settings
from penstock.stack.layout import REPOSITORY

NAME = "stages"
WHAT = "where penstock's CPU time goes: the pipeline up to each of its stages, one more each time"
RECORDS = 400_000
_WARM_UP_SHARE = 0.25
_TIMEOUT_S = 300.0


def of_job(stage: str) -> Make:
    """Return what makes the program of a stage within Spark, set up as the job is."""

    def make(ground: Ground, settings: Settings, records: int) -> Program:
        job = store.ours(ground, settings)
        return replace(job, command=_build_command(stage, records), progress=own_lines)

    return make


def alone(stage: str) -> Make:
    """Return what makes the program of a stage in a single Python process."""

    def make(_ground: Ground, settings: Settings, records: int) -> Program:
        return Program(_build_command(stage, records), own_lines, env=settings.environment(), directory=REPOSITORY)

    return make


def _build_command(stage: str, records: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "bench.staging", json.dumps({"stage": stage, "records": records}))


CONTESTANTS: dict[str, tuple[str, Make]] = {
    "parse": ("ingest: Python parses the API's pages", alone("parse")),
    "drop": ("ingest: ... and takes out what is secret", alone("drop")),
    "check": ("ingest: ... and makes records of them, every rule checked", alone("check")),
    "serialize": ("ingest: ... and makes bytes of those", alone("serialize")),
    "read": ("store: Spark reads the topic", of_job("read")),
    "hand-over": ("store: ... and hands the records to Python", of_job("hand-over")),
    "decode": ("store: Python, no Spark, decodes records, every rule checked", alone("decode")),
    "encode": ("store: ... and makes statements and batches of them", alone("encode")),
    "ours": ("store: all of it", store.ours),
}
"""Title and program of each stage, by name."""


def contestants(ground: Ground, records: int) -> list[Contestant]:
    """Fill the topic and return each stage as a contestant."""
    load = Load(records)
    ground.fill(load)
    return [
        Contestant(name, title, partial(_run_lap, ground, load, make)) for name, (title, make) in CONTESTANTS.items()
    ]


def _run_lap(ground: Ground, load: Load, make: Make) -> dict[str, Any]:
    skip = round(load.records * _WARM_UP_SHARE)
    if make is store.ours:
        return store.store(ground, load, make, skip=skip).numbers()
    settings = ground.fresh_table(load)
    try:
        program = make(ground, settings, load.records)
        return lap(program, ground.find, load.records, skip=skip, timeout_s=_TIMEOUT_S).numbers()
    finally:
        ground.drop(settings)
