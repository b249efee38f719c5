"""What a machine needs for Docker Compose, and what to type: `doctor --compose`.

The standard library alone, on Python 3.9, macOS and Windows too: it runs before anything is installed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import net
from penstock.compose import environment
from penstock.stack.check import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., "Answer"]

LEAST_COMPOSE = (2, 24)
"""Older ones do not write `configs` with `content`, or were not tried."""
LEAST_MEMORY_MIB = 8192
"""What the containers may take together, by their limits."""
X86_64_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
"""The level of x86-64 that the schema registry's base image is compiled for, as /proc/cpuinfo names its parts."""
_TIMEOUT_S = 20
_PORTS = {variable.name: variable.default for variable in environment.VARIABLES if variable.name.endswith("_PORT")}
_INIT = "./penstock compose init"


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    text: str


def run(*command: str) -> Answer:
    """Run a command; one that is not installed is code 127, one that hangs code 124."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return Answer(127, f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Answer(124, f"{' '.join(command)}: no answer within {_TIMEOUT_S} s")
    return Answer(done.returncode, done.stdout if done.returncode == 0 else done.stderr.strip() or done.stdout.strip())


def examine(root: Path, run: Run = run) -> list[Check]:
    """Return every check for the Compose files in `root`."""
    engine, compose, variables = _engine(run), _compose(run), _environment(root / ".env")
    known = {**environment.read(root / ".env"), **_exported()}
    checks = [engine, compose]
    if engine.ok:
        checks.append(_memory(run))
    checks += [_processor(), variables, _user(known), _dags(root / "dags", known), _bind(known), _ports(known, run)]
    if compose.ok and variables.ok:
        checks.append(_files(root, run))
    return checks


def _exported() -> dict[str, str]:
    """Return the variables that the shell sets: they win over those in `.env`."""
    names = (variable.name for variable in environment.VARIABLES)
    return {name: os.environ[name] for name in names if name in os.environ}


def _engine(run: Run) -> Check:
    hint = "start Docker: systemctl start docker; and be in the group docker, or use sudo"
    if shutil.which("docker") is None:
        return Check("docker", False, "docker is not installed", "https://docs.docker.com/engine/install/")
    answer = run("docker", "version", "--format", "{{.Server.Version}}")
    return Check("docker", answer.code == 0, answer.text.strip().partition("\n")[0], hint)


def _compose(run: Run) -> Check:
    """Check the plugin, else the program of that name."""
    hint = "install the Compose plugin: https://docs.docker.com/compose/install/linux/"
    plugin = run("docker", "compose", "version", "--short")
    program = plugin if plugin.code == 0 else run("docker-compose", "version", "--short")
    if program.code:
        said = plugin.text.strip().partition("\n")[0]
        return Check("compose", False, f"there is no `docker compose`: {said}", hint)
    numbers = re.match(r"v?(\d+)\.(\d+)", program.text.strip())
    if numbers is None:
        return Check("compose", True, f"{program.text.strip()[:40]!r}, which is no release: not checked")
    is_new = (int(numbers[1]), int(numbers[2])) >= LEAST_COMPOSE
    least = ".".join(map(str, LEAST_COMPOSE))
    return Check("compose", is_new, program.text.strip() + ("" if is_new else f", {least} or newer is needed"), hint)


def _memory(run: Run) -> Check:
    answer = run("docker", "info", "--format", "{{.MemTotal}}")
    mib = int(answer.text) // 2**20 if answer.text.strip().isdecimal() else 0
    hint = f"give Docker {LEAST_MEMORY_MIB} MiB: in Docker Desktop under Settings, Resources"
    return Check(
        "memory", mib >= LEAST_MEMORY_MIB * 0.95, f"Docker has {mib} MiB, {LEAST_MEMORY_MIB} may be taken", hint
    )


def _processor(path: Path = Path("/proc/cpuinfo")) -> Check:
    """Check for x86-64-v3, without which the schema registry's container ends at its first instruction."""
    if platform.machine() not in {"x86_64", "AMD64"} or not path.exists():
        return Check("processor", True, f"{platform.machine()}: not checked")
    flags = re.search(r"^flags\s*:(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    missing = sorted(X86_64_V3 - set(flags[1].split())) if flags else []
    detail = f"x86-64-v3 is needed by the schema registry; without {', '.join(missing)}" if missing else "x86-64-v3"
    return Check("processor", not missing, detail, "a machine with a processor of 2013 (Intel Haswell) or later")


def _environment(path: Path) -> Check:
    if not path.exists():
        return Check(".env", True, "does not exist: the defaults hold, Airflow's password is airflow")
    faults = environment.parse(path.read_bytes()).faults
    detail = "; ".join(faults[:3]) if faults else "can be read"
    return Check(".env", not faults, detail, f"correct it, or delete it and type: {_INIT}")


def _uid(known: dict[str, str]) -> str:
    return known.get("AIRFLOW_UID") or str(environment.DEFAULT_UID)


def _user(known: dict[str, str]) -> Check:
    """Check the user id of the containers, which the images refuse too when it is 0."""
    uid = _uid(known)
    if uid.isdecimal() and int(uid):
        return Check("user", True, f"AIRFLOW_UID={uid}")
    reason = (
        "no container runs as root, and Airflow refuses to" if uid.strip("0") == "" else "it is no number of a user"
    )
    hint = f"AIRFLOW_UID={environment.own_uid()} in .env"
    return Check("user", False, f"AIRFLOW_UID={uid}: {reason}", hint)


def _dags(folder: Path, known: dict[str, str]) -> Check:
    """Check that the containers' user can read the DAGs, which are mounted from the checkout."""
    if platform.system() != "Linux":
        return Check("dags", True, "Docker Desktop shows files as the container's own")
    uid = _uid(known)
    unreadable = [path.name for path in _visited(folder) if not _is_readable(path, uid)]
    detail = f"the user {uid} cannot read {', '.join(unreadable[:3])}" if unreadable else f"readable for the user {uid}"
    return Check("dags", not unreadable, detail, f"chmod -R a+rX {folder}, or AIRFLOW_UID={environment.own_uid()}")


def _visited(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield folder
        yield from sorted(folder.glob("*.py"))


def _is_readable(path: Path, uid: str) -> bool:
    """Return whether a container's user, who is in no group of the host's but 0, can read a file or list a folder."""
    status = path.stat()
    needed = 0b101 if stat.S_ISDIR(status.st_mode) else 0b100
    who = 6 if str(status.st_uid) == uid else 3 if status.st_gid == 0 else 0
    return (status.st_mode >> who) & needed == needed


def _bind(known: dict[str, str]) -> Check:
    bind = known.get("BIND") or environment.LOOPBACK
    missing = [name for name in ("AIRFLOW_PASSWORD", "CONTROL_PASSWORD") if not known.get(name)]
    if net.is_loopback(bind) or not missing:
        return Check("bind", True, f"BIND={bind}")
    detail = f"BIND={bind} lets other machines in, without {' and '.join(missing)}"
    return Check("bind", False, detail, f"{_INIT}, or BIND={environment.LOOPBACK}")


def _ports(known: dict[str, str], run: Run) -> Check:
    """Check that each port is a number and free, unless this very project's containers are up."""
    wanted = {name: known.get(name) or default for name, default in _PORTS.items()}
    wrong = [f"{name}={port}" for name, port in wanted.items() if not (port.isdecimal() and 0 < int(port) < 65536)]
    if wrong:
        return Check("ports", False, f"not a port: {', '.join(wrong)}", "a number from 1 to 65535 in .env")
    listed = run("docker", "compose", "ps", "--format", "json")
    if listed.code == 0 and any(_is_container(line) for line in listed.text.splitlines()):
        return Check("ports", True, "not checked: containers of the project are up")
    bind = known.get("BIND") or environment.LOOPBACK
    taken = [
        f"{name}={port}{_holder(port, run)}" for name, port in wanted.items() if not net.is_port_free(int(port), bind)
    ]
    detail = f"taken: {'; '.join(taken)}" if taken else "free"
    hint = "end what listens there (./penstock down, docker ps), or set another port in .env"
    return Check("ports", not taken, detail, hint)


def _holder(port: str, run: Run) -> str:
    """Return which container publishes the port; empty when it is none of Docker's."""
    answer = run("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}")
    return f", by the container {answer.text.split()[0]}" if answer.code == 0 and answer.text.strip() else ""


def _is_container(line: str) -> bool:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return False
    return bool(found)


def _files(root: Path, run: Run) -> Check:
    """Check that Compose itself accepts what it would start."""
    answer = run("docker", "compose", "--project-directory", str(root), "config", "--quiet")
    return Check("files", answer.code == 0, answer.text.strip()[:400] or "accepted", "correct .env as it says")
