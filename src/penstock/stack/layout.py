"""Directory layout of the local stack, below `settings.home`."""

from dataclasses import dataclass
from pathlib import Path

from penstock import remedies
from penstock.config import Settings
from penstock.errors import WrongSettings

REPOSITORY = Path(__file__).resolve().parents[3]
NOT_IN_PATHS = ":,;%\n\"'\\"


@dataclass(frozen=True)
class Layout:
    """Paths of one data directory."""

    home: Path
    cache: Path

    @property
    def data(self) -> Path:
        """Return the folder of data that survives `down` and `up`."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        """Return the folder of logs, one file per service."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Return the folder of files rendered at each start: configuration, scripts, sockets."""
        return self.home / "run"

    @property
    def temporary(self) -> Path:
        """Return the folder into which Java unpacks native libraries. A killed JVM leaves them behind."""
        return self.run / "tmp"

    @property
    def jars(self) -> Path:
        """Return the folder of installed jars, with one subfolder per group."""
        return self.home / "jars"

    @property
    def credentials(self) -> Path:
        """Return the file of the generated secrets."""
        return self.home / "secrets.json"

    @property
    def marker(self) -> str:
        """Return the value of PENSTOCK_STACK in the environment of each process of this stack."""
        return str(self.home.resolve())

    def log(self, service: str) -> Path:
        """Return the log file of a service."""
        return self.logs / f"{service}.log"


def resolve_layout(settings: Settings) -> Layout:
    """Return the layout of PENSTOCK_HOME. Raises `WrongSettings` for characters that class paths cannot contain."""
    forbidden = sorted(set(str(settings.home)) & set(NOT_IN_PATHS))
    if forbidden:
        raise WrongSettings(
            f"PENSTOCK_HOME={settings.home} contains {' '.join(map(repr, forbidden))}, not allowed in Java class paths",
            hint=remedies.start_elsewhere(),
        )
    return Layout(home=settings.home, cache=settings.cache or settings.home / "cache")
