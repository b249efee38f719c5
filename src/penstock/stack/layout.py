"""Where everything of the local stack lives, below `settings.home`."""

import os
from dataclasses import dataclass
from pathlib import Path

from penstock.config import Settings
from penstock.errors import WrongSettings

REPOSITORY = Path(__file__).resolve().parents[3]
NOT_IN_PATHS = ":,;%\n\"'\\"


@dataclass(frozen=True)
class Layout:
    """The folders of one home."""

    home: Path
    cache: Path

    @property
    def data(self) -> Path:
        """What must survive `down` and `up`."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        """One log per service."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """What is rendered at each start: configuration, scripts, sockets."""
        return self.home / "run"

    @property
    def temporary(self) -> Path:
        """Where Java unpacks its native libraries, which a killed one leaves behind."""
        return self.run / "tmp"

    @property
    def jars(self) -> Path:
        """Installed jars, one folder per group."""
        return self.home / "jars"

    @property
    def credentials(self) -> Path:
        """File of the random secrets made once."""
        return self.home / "secrets.json"

    @property
    def marker(self) -> str:
        """What PENSTOCK_STACK says in the environment of each process of this home."""
        return str(self.home.resolve())

    def log(self, service: str) -> Path:
        """The log of a service."""
        return self.logs / f"{service}.log"


def of(settings: Settings) -> Layout:
    """The layout of the home in force. Raises `WrongSettings` for a path that class paths cannot hold."""
    wrong = sorted(set(str(settings.home)) & set(NOT_IN_PATHS))
    if wrong:
        raise WrongSettings(
            f"PENSTOCK_HOME={settings.home} holds {' '.join(map(repr, wrong))}, which Java's class paths cannot",
            hint="PENSTOCK_HOME=/another/folder ./penstock up",
        )
    return Layout(home=settings.home, cache=settings.cache or settings.home / "cache")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Put `text` at `path`, whole or not at all, readable by nobody else before it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)
