"""The working tree against a revision: the same records stored by both, in turns, and which of them costs more."""

import io
import shutil
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import store
from bench.ground import Ground, Load
from bench.race import Lap, Program
from bench.suite import Say
from penstock.config import Settings
from penstock.errors import WrongUse
from penstock.stack.jars import unpack
from penstock.stack.layout import REPOSITORY

RECORDS, REPEAT = 300_000, 3
_WARM_UP_RECORDS = 100_000
_NOISE = 0.03
"""Ratios closer to 1 than this are no difference."""


@dataclass(frozen=True)
class Verdict:
    """How the working tree's CPU time per record compares: its median divided by the revision's, and each round's."""

    revision: str
    verdict: str
    ratio: float
    rounds: list[float]
    this_cpu_us: float
    that_cpu_us: float
    this_rows_per_s: float
    that_rows_per_s: float


def compare(ground: Ground, revision: str, records: int | None, repeat: int | None, say: Say) -> Verdict:
    """Both trees in turns. Raises `WrongUse` for no revision, `BenchFailed`."""
    load = Load(records or RECORDS)
    laps: dict[str, list[Lap]] = {"this": [], "that": []}
    with tree_of(revision) as that:
        ground.up()
        ground.fill(load)
        store.warm_up(ground, records)
        trees = [("that", that), ("this", REPOSITORY)]
        for number in range(repeat or REPEAT):
            for name, tree in trees:
                found = store.store(ground, load, _job_of(tree), skip=_WARM_UP_RECORDS)
                laps[name].append(found)
                say(f"{number + 1}: {name} tree: {found.cpu_us:.1f} µs, {found.rows_per_s:,.0f} records/s")
            trees.reverse()  # services are warming all the while: neither tree is always the later one
    return judged(revision, laps["this"], laps["that"])


def judged(revision: str, this: Sequence[Lap], that: Sequence[Lap]) -> Verdict:
    """The verdict on the laps of both."""
    rounds = [one.cpu_us / other.cpu_us for one, other in zip(this, that, strict=True)]
    cpu_us = [statistics.median(one.cpu_us for one in laps) for laps in (this, that)]
    rows_per_s = [statistics.median(one.rows_per_s for one in laps) for laps in (this, that)]
    ratio = cpu_us[0] / cpu_us[1]
    return Verdict(revision, _verdict(ratio, rounds), ratio, rounds, *cpu_us, *rows_per_s)


def _verdict(ratio: float, rounds: Sequence[float]) -> str:
    """Faster or slower when every round says so, and the medians by more than noise."""
    if all(one > 1 for one in rounds) and ratio > 1 + _NOISE:
        return "slower"
    if all(one < 1 for one in rounds) and ratio < 1 - _NOISE:
        return "faster"
    return "same"


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """The tree of a git revision, in a folder that is deleted afterwards. Raises `WrongUse` when there is none."""
    command = ["git", "-C", str(REPOSITORY), "archive", "--format=tar", revision]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise WrongUse(f"{revision} is no revision: {done.stderr.decode().strip()}", hint="git log --oneline")
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            unpack(archive, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _job_of(tree: Path) -> store.Make:
    """The job whose code, in each of its processes, is that of a tree."""

    def make(ground: Ground, settings: Settings, records: int) -> Program:
        job = store.ours(ground, settings, records)
        conf = ground.layout.run / f"conf-{tree.name}"
        shutil.copytree(job.env["SPARK_CONF_DIR"], conf, dirs_exist_ok=True)
        with (conf / "spark-defaults.conf").open("a") as file:
            file.write(f"\nspark.executorEnv.PYTHONPATH {tree / 'src'}\n")
        env = {**job.env, "SPARK_CONF_DIR": str(conf), "PYTHONPATH": str(tree / "src")}
        return replace(job, command=(job.command[0], str(tree / "spark_stream.py")), env=env, directory=tree)

    return make
