"""Benchmark where penstock's CPU time goes: run the pipeline up to each of its stages."""

import json
import sys
from dataclasses import replace
from functools import partial
from typing import Any

from bench import store
from bench.measure import Contestant, Program, measure_program, track_done_lines
from bench.store import ProgramFactory
from bench.target import Load, Target
from penstock.config import Settings
from penstock.stack.layout import REPOSITORY

NAME = "stages"
WHAT = "where penstock's CPU time goes: the pipeline up to each of its stages"
RECORDS = 400_000
_WARM_UP_SHARE = 0.25
_TIMEOUT_S = 300.0


def spark_stage_factory(stage: str) -> ProgramFactory:
    """Return a factory for the program of a stage in Spark, configured like the job."""

    def make(target: Target, settings: Settings, records: int) -> Program:
        job = store.make_penstock(target, settings)
        return replace(job, command=_build_command(stage, records), progress=track_done_lines)

    return make


def python_stage_factory(stage: str) -> ProgramFactory:
    """Return a factory for the program of a stage in a single Python process."""

    def make(_ground: Target, settings: Settings, records: int) -> Program:
        return Program(
            _build_command(stage, records), track_done_lines, env=settings.environment(), directory=REPOSITORY
        )

    return make


def _build_command(stage: str, records: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "bench.stage_program", json.dumps({"stage": stage, "records": records}))


CONTESTANTS: dict[str, tuple[str, ProgramFactory]] = {
    "parse": ("ingest: parse the API's pages, in Python", python_stage_factory("parse")),
    "drop": ("ingest: ... drop secret fields", python_stage_factory("drop")),
    "check": ("ingest: ... convert to records, check every rule", python_stage_factory("check")),
    "serialize": ("ingest: ... serialize", python_stage_factory("serialize")),
    "read": ("store: read the topic in Spark", spark_stage_factory("read")),
    "hand-over": ("store: ... pass records to Python", spark_stage_factory("hand-over")),
    "decode": ("store: decode, check every rule, in Python only", python_stage_factory("decode")),
    "encode": ("store: ... encode statements and batches", python_stage_factory("encode")),
    "ours": ("store: everything", store.make_penstock),
}
"""Title and program of each stage, by name."""


def build_contestants(target: Target, records: int) -> list[Contestant]:
    """Fill the topic and build a contestant for each stage."""
    load = Load(records)
    target.fill_topic(load)
    return [
        Contestant(name, title, partial(_run_contestant, target, load, make))
        for name, (title, make) in CONTESTANTS.items()
    ]


def _run_contestant(target: Target, load: Load, make: ProgramFactory) -> dict[str, Any]:
    skip = round(load.records * _WARM_UP_SHARE)
    if make is store.make_penstock:
        return store.measure_store(target, load, make, skip=skip).numbers()
    settings = target.create_table(load)
    try:
        program = make(target, settings, load.records)
        return measure_program(program, target.process_finder, load.records, skip=skip, timeout_s=_TIMEOUT_S).numbers()
    finally:
        target.drop_keyspace(settings)
