"""Compare the CPU cost of the working tree with that of a revision: both store the same records, in turns."""

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import store
from bench.measure import Measurement, Program
from bench.suite import Notify
from bench.target import Load, Target
from bench.trees import check_out_tree
from penstock.config import Settings
from penstock.stack.layout import REPOSITORY

RECORDS, REPEAT = 300_000, 3
_WARM_UP_RECORDS = 100_000
_NOISE = 0.03
"""Ratios that differ from 1 by less than this count as equal."""


@dataclass(frozen=True)
class Verdict:
    """CPU time per record of the working tree divided by that of the revision: of the medians, and of each round."""

    revision: str
    verdict: str
    ratio: float
    rounds: list[float]
    this_cpu_us: float
    that_cpu_us: float
    this_rows_per_s: float
    that_rows_per_s: float


def compare_revision(target: Target, revision: str, records: int | None, repeat: int | None, notify: Notify) -> Verdict:
    """Measure both trees in turns. Raises `UsageError` for an unknown revision, and `BenchFailed`."""
    load = Load(records or RECORDS)
    measurements: dict[str, list[Measurement]] = {"this": [], "that": []}
    with check_out_tree(revision) as that:
        target.start()
        target.fill_topic(load)
        store.warm_up(target, records)
        trees = [("that", that), ("this", REPOSITORY)]
        for number in range(repeat or REPEAT):
            for name, tree in trees:
                measurement = store.measure_store(target, load, _job_factory(tree), skip=_WARM_UP_RECORDS)
                measurements[name].append(measurement)
                notify(
                    f"{number + 1}: {name} tree: {measurement.cpu_us:.1f} µs, {measurement.rows_per_s:,.0f} records/s"
                )
            trees.reverse()  # services keep warming up: neither tree may always run second
    return compare_measurements(revision, measurements["this"], measurements["that"])


def compare_measurements(revision: str, this: Sequence[Measurement], that: Sequence[Measurement]) -> Verdict:
    """Compare the measurements of both trees."""
    rounds = [this_lap.cpu_us / that_lap.cpu_us for this_lap, that_lap in zip(this, that, strict=True)]
    cpu_us = [statistics.median(measurement.cpu_us for measurement in measurements) for measurements in (this, that)]
    rows_per_s = [
        statistics.median(measurement.rows_per_s for measurement in measurements) for measurements in (this, that)
    ]
    ratio = cpu_us[0] / cpu_us[1]
    return Verdict(revision, _decide_verdict(ratio, rounds), ratio, rounds, *cpu_us, *rows_per_s)


def _decide_verdict(ratio: float, rounds: Sequence[float]) -> str:
    """Return `faster` or `slower` if all rounds agree and the medians differ by more than noise, else `same`."""
    if all(round_ratio > 1 for round_ratio in rounds) and ratio > 1 + _NOISE:
        return "slower"
    if all(round_ratio < 1 for round_ratio in rounds) and ratio < 1 - _NOISE:
        return "faster"
    return "same"


def _job_factory(tree: Path) -> store.ProgramFactory:
    """Return a factory for the job that uses the code of a tree in all its processes."""

    def make(target: Target, settings: Settings, records: int) -> Program:
        job = store.make_penstock(target, settings, records)
        conf = target.layout.run / f"conf-{tree.name}"
        shutil.copytree(job.env["SPARK_CONF_DIR"], conf, dirs_exist_ok=True)
        with (conf / "spark-defaults.conf").open("a") as file:
            file.write(f"\nspark.executorEnv.PYTHONPATH {tree / 'src'}\n")
        env = {**job.env, "SPARK_CONF_DIR": str(conf), "PYTHONPATH": str(tree / "src")}
        return replace(job, command=(job.command[0], str(tree / "spark_stream.py")), env=env, directory=tree)

    return make
