"""What a machine needs for Docker Compose, and what to type: `doctor --compose`."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.compose import environment
from penstock.stack import ports
from penstock.stack.doctor import Check

LEAST_COMPOSE = (2, 24)
"""Older ones do not wait for conditions as the files name them, or were not tried."""
LEAST_MEMORY_MIB = 8192
"""What the containers may take together, by their limits."""
_TIMEOUT_S = 20
_DEFAULTS = {one.name: one.default for one in environment.VARIABLES if one.name.endswith("_PORT")}


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    text: str


Run = Callable[..., Answer]


def run(*command: str) -> Answer:
    """What a command gives; a command that is not there is code 127."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        return Answer(127, f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Answer(124, f"{' '.join(command)}: no answer within {_TIMEOUT_S} s")
    return Answer(done.returncode, done.stdout if done.returncode == 0 else done.stderr.strip() or done.stdout.strip())


def examine(root: Path, run: Run = run) -> list[Check]:
    """Every check, for the Compose files in `root`."""
    engine, compose = _engine(run), _compose(run)
    known = environment.read(root / ".env")
    variables = _environment(root / ".env", known)
    found = [engine, compose, *([_memory(run)] if engine.ok else []), variables, _ports(known, run)]
    return [*found, _files(root, run)] if compose.ok and variables.ok else found  # else it could not tell more


def _engine(run: Run) -> Check:
    hint = "start Docker: systemctl start docker; and be in the group docker, or use sudo"
    if shutil.which("docker") is None:
        return Check("docker", False, "docker is not installed", "https://docs.docker.com/engine/install/")
    answer = run("docker", "version", "--format", "{{.Server.Version}}")
    return Check("docker", answer.code == 0, answer.text.strip().partition("\n")[0], hint)


def _compose(run: Run) -> Check:
    hint = "install the Compose plugin: https://docs.docker.com/compose/install/linux/"
    answer = run("docker", "compose", "version", "--short")
    if answer.code:
        said = answer.text.strip().partition("\n")[0]
        return Check("compose", False, f"there is no `docker compose`: {said}", hint)
    numbers = re.match(r"v?(\d+)\.(\d+)", answer.text.strip())
    if numbers is None:
        return Check("compose", True, f"{answer.text.strip()[:40]!r}, which is no release: not checked")
    is_new = (int(numbers[1]), int(numbers[2])) >= LEAST_COMPOSE
    least = ".".join(map(str, LEAST_COMPOSE))
    return Check("compose", is_new, answer.text.strip() + ("" if is_new else f", {least} or newer is needed"), hint)


def _memory(run: Run) -> Check:
    answer = run("docker", "info", "--format", "{{.MemTotal}}")
    mib = int(answer.text) // 2**20 if answer.text.strip().isdecimal() else 0
    hint = f"give Docker {LEAST_MEMORY_MIB} MiB: in Docker Desktop under Settings, Resources"
    return Check(
        "memory", mib >= LEAST_MEMORY_MIB * 0.95, f"Docker has {mib} MiB, {LEAST_MEMORY_MIB} may be taken", hint
    )


def _environment(path: Path, known: dict[str, str]) -> Check:
    if not path.exists():
        return Check(".env", False, f"{path} is not there", "./penstock compose init")
    missing = environment.lacking(known)
    return Check(
        ".env", not missing, f"without {', '.join(missing)}" if missing else "whole", "./penstock compose init"
    )


def _ports(known: dict[str, str], run: Run) -> Check:
    """Whether the ports are free, or those of this very project's containers."""
    listed = run("docker", "compose", "ps", "--format", "json")
    if listed.code == 0 and any(_published(line) for line in listed.text.splitlines()):
        return Check("ports", True, "not checked: containers of the project are up")
    bind = known.get("BIND") or "127.0.0.1"
    wanted = {name: int(known.get(name) or default) for name, default in _DEFAULTS.items()}
    taken = [
        f"{name}={port}, by {ports.holder(port)}" for name, port in wanted.items() if not ports.is_free(port, bind)
    ]
    detail = f"taken: {'; '.join(taken)}" if taken else "free"
    hint = "end what listens there (./penstock down), or give another port in .env"
    return Check("ports", not taken, detail, hint)


def _published(line: str) -> bool:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return False
    return bool(found)


def _files(root: Path, run: Run) -> Check:
    """Whether Compose itself accepts what it would start."""
    answer = run("docker", "compose", "--project-directory", str(root), "config", "--quiet")
    return Check("files", answer.code == 0, answer.text.strip()[:400] or "accepted", "./penstock compose init")
