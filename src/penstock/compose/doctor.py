"""Check the requirements of Docker Compose on this machine: `doctor --compose`.

Standard library only, also for Python 3.9, macOS and Windows: it runs before anything is installed.
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

from penstock import net, remedies
from penstock.compose import environment
from penstock.stack.check import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., "CommandResult"]

MIN_COMPOSE_VERSION = (2, 24)
"""Older versions do not support `configs` with `content`, or are not tested."""
MIN_MEMORY_MIB = 8192
"""Sum of the containers' memory limits."""
X86_64_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
"""The x86-64 level that the schema registry's base image requires, as flags of /proc/cpuinfo."""
_TIMEOUT_S = 20
_PORTS = {variable.name: variable.default for variable in environment.VARIABLES if variable.name.endswith("_PORT")}
_INIT = remedies.init_compose()


@dataclass(frozen=True)
class CommandResult:
    """Result of a command: exit code and output."""

    code: int
    text: str


def run_command(*command: str) -> CommandResult:
    """Run a command. The exit code is 127 if it is not installed and 124 after a timeout."""
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return CommandResult(127, f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return CommandResult(124, f"{' '.join(command)}: no response within {_TIMEOUT_S} s")
    output = process.stdout if process.returncode == 0 else process.stderr.strip() or process.stdout.strip()
    return CommandResult(process.returncode, output)


def run_checks(root: Path, run: Run = run_command) -> list[Check]:
    """Run all checks for the Compose files in `root`."""
    engine, command, variables = _check_engine(run), _find_compose(run), _check_environment(root / ".env")
    compose = _check_compose(command, run)
    values = {**environment.read_env(root / ".env"), **_read_exported()}
    checks = [engine, compose]
    if engine.ok:
        checks.append(_check_memory(run))
    checks += [
        _check_processor(),
        variables,
        _check_user(values),
        _check_dags(root / "dags", values),
        _check_bind(values),
    ]
    checks.append(_check_ports(values, command, run))
    if compose.ok and variables.ok:
        checks.append(_check_files(root, command, run))
    return checks


def _read_exported() -> dict[str, str]:
    """Return the variables set in the shell, which take precedence over those in `.env`."""
    names = (variable.name for variable in environment.VARIABLES)
    return {name: os.environ[name] for name in names if name in os.environ}


def _check_engine(run: Run) -> Check:
    hint = "start Docker: systemctl start docker; and join the group docker, or use sudo"
    if shutil.which("docker") is None:
        return Check("docker", False, "docker is not installed", "https://docs.docker.com/engine/install/")
    result = run("docker", "version", "--format", "{{.Server.Version}}")
    return Check("docker", result.code == 0, result.text.strip().partition("\n")[0], hint)


def _find_compose(run: Run) -> tuple[str, ...]:
    """Return the command of Compose: the plugin, or docker-compose if only that is installed."""
    plugin, program = ("docker", "compose"), ("docker-compose",)
    has_only_program = run(*plugin, "version", "--short").code and not run(*program, "version", "--short").code
    return program if has_only_program else plugin


def _check_compose(command: tuple[str, ...], run: Run) -> Check:
    """Check that Compose is installed and recent enough."""
    hint = "install the Compose plugin: https://docs.docker.com/compose/install/linux/"
    program = run(*command, "version", "--short")
    if program.code:
        output = program.text.strip().partition("\n")[0]
        return Check("compose", False, f"`docker compose` is not available: {output}", hint)
    numbers = re.match(r"v?(\d+)\.(\d+)", program.text.strip())
    if numbers is None:
        return Check("compose", True, f"not checked: {program.text.strip()[:40]!r} is not a release")
    is_new = (int(numbers[1]), int(numbers[2])) >= MIN_COMPOSE_VERSION
    required = ".".join(map(str, MIN_COMPOSE_VERSION))
    return Check(
        "compose", is_new, program.text.strip() + ("" if is_new else f", {required} or newer is required"), hint
    )


def _check_memory(run: Run) -> Check:
    result = run("docker", "info", "--format", "{{.MemTotal}}")
    mib = int(result.text) // 2**20 if result.text.strip().isdecimal() else 0
    hint = f"give Docker {MIN_MEMORY_MIB} MiB: in Docker Desktop under Settings, Resources"
    return Check(
        "memory",
        mib >= MIN_MEMORY_MIB * 0.95,
        f"Docker has {mib} MiB, the containers may use {MIN_MEMORY_MIB}",
        hint,
    )


def _check_processor(path: Path = Path("/proc/cpuinfo")) -> Check:
    """Check for x86-64-v3, without which the schema registry's container crashes at startup."""
    if platform.machine() not in {"x86_64", "AMD64"} or not path.exists():
        return Check("processor", True, f"not checked: {platform.machine()}")
    flags = re.search(r"^flags\s*:(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    missing = sorted(X86_64_V3 - set(flags[1].split())) if flags else []
    detail = f"the schema registry requires x86-64-v3; missing: {', '.join(missing)}" if missing else "x86-64-v3"
    return Check("processor", not missing, detail, "use a machine with a processor of 2013 (Intel Haswell) or later")


def _check_environment(path: Path) -> Check:
    if not path.exists():
        return Check(".env", True, "does not exist: defaults apply, Airflow's password is airflow")
    errors = environment.parse_env(path.read_bytes()).errors
    detail = "; ".join(errors[:3]) if errors else "valid"
    return Check(".env", not errors, detail, f"correct it, or delete it and run: {_INIT}")


def _get_uid(values: dict[str, str]) -> str:
    return values.get("AIRFLOW_UID") or str(environment.DEFAULT_UID)


def _check_user(values: dict[str, str]) -> Check:
    """Check the user id of the containers. The images also reject 0."""
    uid = _get_uid(values)
    if uid.isdecimal() and int(uid):
        return Check("user", True, f"AIRFLOW_UID={uid}")
    reason = "no container runs as root, which Airflow rejects" if uid.strip("0") == "" else "not a user id"
    hint = f"set AIRFLOW_UID={environment.get_own_uid()} in .env"
    return Check("user", False, f"AIRFLOW_UID={uid}: {reason}", hint)


def _check_dags(folder: Path, values: dict[str, str]) -> Check:
    """Check that the containers' user can read the DAGs, which are mounted from the checkout."""
    if platform.system() != "Linux":
        return Check("dags", True, "not checked: Docker Desktop maps file ownership")
    uid = _get_uid(values)
    unreadable = [path.name for path in _list_dags(folder) if not _is_readable(path, uid)]
    detail = f"user {uid} cannot read {', '.join(unreadable[:3])}" if unreadable else f"readable by user {uid}"
    return Check(
        "dags", not unreadable, detail, f"chmod -R a+rX {folder}, or set AIRFLOW_UID={environment.get_own_uid()}"
    )


def _list_dags(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield folder
        yield from sorted(folder.glob("*.py"))


def _is_readable(path: Path, uid: str) -> bool:
    """Return whether a container's user, whose only group on the host is 0, can read a file or list a folder."""
    status = path.stat()
    needed = 0b101 if stat.S_ISDIR(status.st_mode) else 0b100
    shift = 6 if str(status.st_uid) == uid else 3 if status.st_gid == 0 else 0
    return (status.st_mode >> shift) & needed == needed


def _check_bind(values: dict[str, str]) -> Check:
    bind = values.get("BIND") or environment.LOOPBACK
    missing = environment.find_missing_passwords(values)
    if not missing:
        return Check("bind", True, f"BIND={bind}")
    detail = f"BIND={bind} allows access from other machines, but not set, or well known: {' and '.join(missing)}"
    return Check("bind", False, detail, f"{_INIT}, or set BIND={environment.LOOPBACK}")


def _check_ports(values: dict[str, str], command: tuple[str, ...], run: Run) -> Check:
    """Check that each port is valid and free. Not checked while the project's containers are running."""
    wanted = {name: values.get(name) or default for name, default in _PORTS.items()}
    invalid = [f"{name}={port}" for name, port in wanted.items() if not (port.isdecimal() and 0 < int(port) < 65536)]
    if invalid:
        return Check("ports", False, f"invalid port: {', '.join(invalid)}", "set a number from 1 to 65535 in .env")
    containers = run(*command, "ps", "--format", "json")
    if containers.code == 0 and any(_is_container(line) for line in containers.text.splitlines()):
        return Check("ports", True, "not checked: containers of the project are running")
    bind = values.get("BIND") or environment.LOOPBACK
    taken = [
        f"{name}={port}{_describe_holder(port, run)}"
        for name, port in wanted.items()
        if not net.is_port_free(int(port), bind)
    ]
    detail = f"in use: {'; '.join(taken)}" if taken else "free"
    hint = f"stop the process that listens there ({remedies.stop()}, docker ps), or set another port in .env"
    return Check("ports", not taken, detail, hint)


def _describe_holder(port: str, run: Run) -> str:
    """Name the container that publishes the port, or return "" if it is not Docker's."""
    containers = run("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}")
    return (
        f", by the container {containers.text.split()[0]}" if containers.code == 0 and containers.text.strip() else ""
    )


def _is_container(line: str) -> bool:
    try:
        container: Any = json.loads(line)
    except ValueError:
        return False
    return bool(container)


def _check_files(root: Path, command: tuple[str, ...], run: Run) -> Check:
    """Check that Compose accepts the project's files."""
    result = run(*command, "--project-directory", str(root), "config", "--quiet")
    return Check(
        "files", result.code == 0, result.text.strip()[:400] or "accepted", "correct .env according to the message"
    )
