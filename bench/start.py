"""From nothing to a running stack: the first `demo` of a clean clone, a warm `up` by service, a warm `demo`."""

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

from bench.race import BenchFailed
from penstock.config import load
from penstock.drill.usage import disk_mib
from penstock.stack.layout import REPOSITORY

NAME = "start"
WHAT = "the first demo of a clean clone with empty caches, then a warm up by service, and a warm demo"
_PORT_SHIFT = 13_000
_TIMEOUT_S = 1200
_READY = re.compile(r"^\s*[\d.]+ s\s+(\S+)\s+ready\s+([\d.]+) s", re.MULTILINE)


class Clone:
    """A clean clone of the committed tree, its caches its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "penstock"
        ports = load().ports()
        shifted = {f"PENSTOCK_{name.upper()}": str(port + _PORT_SHIFT) for name, port in ports.items()}
        own = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._env = own | shifted | {"UV_CACHE_DIR": str(folder / "uv"), "PIP_CACHE_DIR": str(folder / "pip")}
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(self._folder)], check=True)  # noqa: S607

    def call(self, *arguments: str) -> tuple[float, str, str]:
        """How many seconds a command took, and what it printed. Raises `BenchFailed` when it failed."""
        began_s = time.monotonic()
        done = subprocess.run(
            ["./penstock", *arguments],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise BenchFailed(f"./penstock {' '.join(arguments)}: exit {done.returncode}\n{done.stderr[-2000:]}")
        return time.monotonic() - began_s, done.stdout, done.stderr

    def first_demo(self) -> dict[str, float]:
        """The first command of a new user; everything is fetched."""
        took_s, _, _ = self.call("demo")
        self.call("down")
        return {"first_demo_s": took_s, "installed_mib": disk_mib([self._folder])}

    def warm(self) -> dict[str, Any]:
        """`up` after `destroy`, which keeps what was fetched, and `demo` after `down`."""
        self.call("destroy", "--yes")
        up_s, _, said = self.call("up")
        _, status, _ = self.call("status", "--json")
        self.call("down")
        demo_s, _, _ = self.call("demo")
        self.call("down")
        return {
            "up_s": up_s,
            "demo_s": demo_s,
            "services_s": {name: float(seconds) for name, seconds in _READY.findall(said)},
            "rss_mib": sum(one["rss_mib"] for one in json.loads(status)),
        }


@contextmanager
def clone() -> Iterator[Clone]:
    """A clone in a folder that is deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    found = Clone(folder)
    try:
        yield found
    finally:
        found.call("down")
        shutil.rmtree(folder, ignore_errors=True)
