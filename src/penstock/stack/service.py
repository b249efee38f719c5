"""What a service of the local stack is, and how it does, as plain data."""

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
"""Returns when the service is ready, else raises `Unreachable`; told the epoch second at which its process started."""


@dataclass(frozen=True)
class Step:
    """A command that runs once before the first start, until `done` exists."""

    name: str
    command: tuple[str, ...]
    done: Path


@dataclass(frozen=True)
class ConfigFile:
    """A file that is written before each start."""

    path: Path
    text: str
    mode: int = 0o600


@dataclass(frozen=True)
class Service:
    """One process that the supervisor keeps, and all there is to know about it."""

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
    """A command that runs before each start, those by the supervisor too."""
    after: Callable[[Settings], None] | None = None
    directory: Path = Path("/")
    stop_wait_s: int = 20
    memory_mib: int = 0
    page: str = ""
    hint: str = ""

    def script(self, command: tuple[str, ...] | None = None) -> str:
        """A shell script that becomes the service, so that neither secrets nor quoting pass through a command line."""
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
        """A digest that changes when a restart would bring another command, environment or configuration."""
        parts = [self.version, self.script(), *(f"{file.path}\n{file.text}" for file in self.files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


State = Literal["ready", "starting", "failing", "restarting", "dead", "stopping", "stopped", "unsupervised"]


@dataclass(frozen=True)
class Status:
    """One service: `state` is what a probe says, `rss_mib` counts its children and shared pages once.

    `restarts` counts how often it was started again, since the supervisor came up, because it had ended by itself.
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


def render(name: str, /, **values: object) -> str:
    """The text of a file in stack/files with each $name replaced. Raises `KeyError` for a name without a value."""
    template = resources.files("penstock.stack").joinpath("files", name).read_text(encoding="utf-8")
    written = _in_properties if name.endswith(".properties") else str
    return Template(template).substitute({key: written(value) for key, value in values.items()})


def _in_properties(value: object) -> str:
    r"""Return a value as a file of java.util.Properties writes it, which is read as ISO 8859-1: \uXXXX for the rest."""
    units = str(value).encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
