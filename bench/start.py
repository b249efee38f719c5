"""Benchmark startup times: the first `demo` of a clean clone, a warm `up` by service, and a warm `demo`."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measure import BenchFailed
from penstock.config import load
from penstock.drill.service_usage import measure_disk_mib
from penstock.stack.layout import REPOSITORY

NAME = "start"
WHAT = "startup times of the first demo in a clean clone with empty caches, a warm up by service, and a warm demo"
_PORT_SHIFT = 13_000
_TIMEOUT_S = 1200
_READY = re.compile(r"^\s*[\d.]+ s\s+(\S+)\s+ready\s+([\d.]+) s", re.MULTILINE)


class Clone:
    """A clean clone of the committed tree, with its own caches and ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "penstock"
        ports = load().ports()
        shifted = {f"PENSTOCK_{name.upper()}": str(port + _PORT_SHIFT) for name, port in ports.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._env = inherited | shifted | {"UV_CACHE_DIR": str(folder / "uv"), "PIP_CACHE_DIR": str(folder / "pip")}
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(self._folder)], check=True)  # noqa: S607

    def run_command(self, *arguments: str) -> tuple[float, str, str]:
        """Run a `./penstock` command; return its duration in seconds, stdout and stderr. Raises `BenchFailed`."""
        started_s = time.monotonic()
        process = subprocess.run(
            ["./penstock", *arguments],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if process.returncode:
            raise BenchFailed(f"./penstock {' '.join(arguments)}: exit {process.returncode}\n{process.stderr[-2000:]}")
        return time.monotonic() - started_s, process.stdout, process.stderr

    def time_first_demo(self) -> dict[str, float]:
        """Time the first command of a new user, which downloads everything."""
        took_s, _, _ = self.run_command("demo")
        self.run_command("down")
        return {"first_demo_s": took_s, "installed_mib": measure_disk_mib([self._folder])}

    def time_warm_start(self) -> dict[str, Any]:
        """Time `up` after `destroy`, which keeps downloads, and `demo` after `down`."""
        self.run_command("destroy", "--yes")
        up_s, _, output = self.run_command("up")
        _, status, _ = self.run_command("status", "--json")
        self.run_command("down")
        demo_s, _, _ = self.run_command("demo")
        self.run_command("down")
        return {
            "up_s": up_s,
            "demo_s": demo_s,
            "services_s": {name: float(seconds) for name, seconds in _READY.findall(output)},
            "rss_mib": sum(service["rss_mib"] for service in json.loads(status)),
        }


@contextmanager
def create_clone() -> Iterator[Clone]:
    """Create a clone in a temporary folder. Deleted on exit."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    checkout = Clone(folder)
    try:
        yield checkout
    finally:
        checkout.run_command("down")
        shutil.rmtree(folder, ignore_errors=True)
