"""Definition and status of a service, as plain data."""

import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Literal

from penstock.config import Settings

Probe = Callable[[Settings, float], None]
"""Returns if the service is ready, else raises `Unreachable`. The float is its start time in epoch seconds."""


@dataclass(frozen=True)
class Step:
    """A command to run before the first start. Skipped once `done` exists."""

    name: str
    command: tuple[str, ...]
    done: Path


@dataclass(frozen=True)
class ConfigFile:
    """A file written before each start."""

    path: Path
    text: str
    mode: int = 0o600


@dataclass(frozen=True)
class Service:
    """Definition of a supervised process."""

    name: str
    title: str
    version: str
    command: tuple[str, ...]
    probe: Probe
    ports: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    jars: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    files: tuple[ConfigFile, ...] = ()
    prepare: tuple[Step, ...] = ()
    before: tuple[str, ...] = ()
    """A command to run before each start, also by the supervisor."""
    after: Callable[[Settings], None] | None = None
    note: Callable[[Settings], str] | None = None
    """What an operator should know besides its state, or ''."""
    problem: Callable[[Settings], str] = lambda _settings: ""
    """Returns what keeps a running service from its work, or ''."""
    directory: Path = Path("/")
    stop_wait_s: int = 20
    memory_mib: int = 0
    page: str = ""
    hint: str = ""

    def script(self, command: tuple[str, ...] | None = None) -> str:
        """Render a shell script that execs the service, which keeps secrets and quoting out of command lines."""
        exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(self.env.items())]
        return "\n".join(
            [
                "#!/bin/sh",
                f"# Starts {self.name} as the supervisor does. Written by `penstock up`; may hold secrets.",
                *exports,
                f"cd {shlex.quote(str(self.directory))} || exit 1",
                *([f"{shlex.join(self.before)} || exit 1"] if self.before else []),
                f"exec {shlex.join(command or self.command)}",
                "",
            ]
        )

    @property
    def fingerprint(self) -> str:
        """Return a digest that changes if a restart would change the command, environment or configuration."""
        parts = [self.version, self.script(), *(f"{file.path}\n{file.text}" for file in self.files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


State = Literal["ready", "stuck", "starting", "failing", "restarting", "dead", "stopping", "stopped", "unsupervised"]


@dataclass(frozen=True)
class Status:
    """Status of a service. `rss_mib` is the PSS of its process tree, which counts shared pages once.

    `restarts` counts restarts after unexpected exits since the supervisor started.
    """

    name: str
    title: str
    version: str
    state: State
    detail: str
    pid: int
    ports: dict[str, int]
    uptime_s: float
    rss_mib: int
    page: str
    restarts: int = 0


def render_template(name: str, /, **values: object) -> str:
    """Render a template of stack/files, replacing each $name. Raises `KeyError` for a name without a value."""
    template = resources.files("penstock.stack").joinpath("files", name).read_text(encoding="utf-8")
    convert = _escape_property if name.endswith(".properties") else str
    return Template(template).substitute({key: convert(value) for key, value in values.items()})


def _escape_property(value: object) -> str:
    r"""Escape a value for java.util.Properties, which reads ISO 8859-1: other characters become \uXXXX."""
    units = str(value).encode("utf-16-be")
    codes = [int.from_bytes(units[start : start + 2]) for start in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
