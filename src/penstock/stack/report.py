"""How the stack tells what it is doing."""

from typing import Literal, Protocol

Stage = Literal[
    "waiting",
    "installing",
    "preparing",
    "starting",
    "ready",
    "unchanged",
    "outdated",
    "failed",
    "stopping",
    "stopped",
    "swept",
]


class Report(Protocol):
    """Told each step of each service, from several threads."""

    def __call__(self, service: str, stage: Stage, detail: str = "") -> None:
        """Take note."""


def silent(service: str, stage: Stage, detail: str = "") -> None:
    """Tells nobody."""
