"""Progress reports of the stack."""

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
]


class Report(Protocol):
    """Receives each step of each service. Called from several threads."""

    def __call__(self, service: str, stage: Stage, detail: str = "") -> None:
        """Report a step of a service."""


def discard_report(service: str, stage: Stage, detail: str = "") -> None:
    """Discard progress reports."""
