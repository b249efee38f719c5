"""Benchmark CPU time and memory of `verify`, compared with the last revision that kept all ids in Python objects."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import store
from bench.measure import BenchFailed, Contestant, measure_program
from bench.target import Load, Target
from bench.trees import check_out_tree
from penstock.config import Settings
from penstock.stack.layout import REPOSITORY

NAME = "verify"
WHAT = "verification of the whole topic, compared with the last revision that kept all ids in Python objects"
RECORDS = 200_000
BEFORE = "01f13c7"
_TIMEOUT_S = 3600.0


@contextmanager
def build_contestants(target: Target, records: int) -> Iterator[list[Contestant]]:
    """Store records once and build a contestant for each tree, which verifies them."""
    load = Load(records)
    target.fill_topic(load)
    settings = target.create_table(load)
    try:
        measure_program(
            store.make_penstock(target, settings, records), target.process_finder, records, timeout_s=_TIMEOUT_S
        )
        with check_out_tree(BEFORE) as before:
            _add_metadata(before)
            yield [
                Contestant("ours", "penstock", partial(_run_verification, settings, REPOSITORY, records)),
                Contestant("before", f"penstock {BEFORE}", partial(_run_verification, settings, before, records)),
            ]
    finally:
        target.drop_keyspace(settings)


def _add_metadata(tree: Path) -> None:
    """Add package metadata, because the tree's code looks up its version under an older distribution name."""
    folder = tree / "src" / "penstock-0.0.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock\nVersion: 0.0.0\n")


def _run_verification(settings: Settings, tree: Path, records: int) -> dict[str, Any]:
    """Run `verify` with the code of a tree. Raises `BenchFailed` unless it finds each record stored."""
    env = {**os.environ, **settings.environment(), "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, "-m", "penstock.cli", "verify", "--json"]
    with subprocess.Popen(command, env=env, cwd=tree, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        receipt = json.loads(process.stdout.read() or "{}")
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if receipt.get("stored") != records:
        raise BenchFailed(f"{tree}: verify found {receipt.get('stored')} of {records} records stored")
    return {
        "rows_per_s": records / max(0.1, receipt["seconds"]),
        "cpu_us": (used.ru_utime + used.ru_stime) / records * 1_000_000,
        "rss_mib": used.ru_maxrss / 1024,
    }
