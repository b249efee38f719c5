"""Compares the CPU cost of the working tree with that of a revision: both store the same records, in turns."""

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import store
from bench.ground import Ground, Load
from bench.race import Lap, Program
from bench.suite import Say
from bench.trees import tree_of
from penstock.config import Settings
from penstock.stack.layout import REPOSITORY

RECORDS, REPEAT = 300_000, 3
_WARM_UP_RECORDS = 100_000
_NOISE = 0.03
"""Ratios closer to 1 than this count as equal."""


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


def compare(ground: Ground, revision: str, records: int | None, repeat: int | None, say: Say) -> Verdict:
    """Measure both trees in turns. Raises `UsageError` for an unknown revision, and `BenchFailed`."""
    load = Load(records or RECORDS)
    laps: dict[str, list[Lap]] = {"this": [], "that": []}
    with tree_of(revision) as that:
        ground.up()
        ground.fill(load)
        store.warm_up(ground, records)
        trees = [("that", that), ("this", REPOSITORY)]
        for number in range(repeat or REPEAT):
            for name, tree in trees:
                lap = store.store(ground, load, _job_of(tree), skip=_WARM_UP_RECORDS)
                laps[name].append(lap)
                say(f"{number + 1}: {name} tree: {lap.cpu_us:.1f} µs, {lap.rows_per_s:,.0f} records/s")
            trees.reverse()  # services keep warming up: neither tree may always run second
    return judged(revision, laps["this"], laps["that"])


def judged(revision: str, this: Sequence[Lap], that: Sequence[Lap]) -> Verdict:
    """Compare the laps of both trees."""
    rounds = [this_lap.cpu_us / that_lap.cpu_us for this_lap, that_lap in zip(this, that, strict=True)]
    cpu_us = [statistics.median(lap.cpu_us for lap in laps) for laps in (this, that)]
    rows_per_s = [statistics.median(lap.rows_per_s for lap in laps) for laps in (this, that)]
    ratio = cpu_us[0] / cpu_us[1]
    return Verdict(revision, _verdict(ratio, rounds), ratio, rounds, *cpu_us, *rows_per_s)


def _verdict(ratio: float, rounds: Sequence[float]) -> str:
    """Return `faster` or `slower` if all rounds agree and the medians differ by more than noise, else `same`."""
    if all(round_ratio > 1 for round_ratio in rounds) and ratio > 1 + _NOISE:
        return "slower"
    if all(round_ratio < 1 for round_ratio in rounds) and ratio < 1 - _NOISE:
        return "faster"
    return "same"


def _job_of(tree: Path) -> store.Make:
    """Return what makes the job with the code of a tree in all its processes."""

    def make(ground: Ground, settings: Settings, records: int) -> Program:
        job = store.ours(ground, settings, records)
        conf = ground.layout.run / f"conf-{tree.name}"
        shutil.copytree(job.env["SPARK_CONF_DIR"], conf, dirs_exist_ok=True)
        with (conf / "spark-defaults.conf").open("a") as file:
            file.write(f"\nspark.executorEnv.PYTHONPATH {tree / 'src'}\n")
        env = {**job.env, "SPARK_CONF_DIR": str(conf), "PYTHONPATH": str(tree / "src")}
        return replace(job, command=(job.command[0], str(tree / "spark_stream.py")), env=env, directory=tree)

    return make
