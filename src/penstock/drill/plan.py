"""Definition of a drill: plain data, run by `frame.hold`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from penstock.drill.target import Ground

Fault = Callable[[Ground], AbstractContextManager[None]]
"""Entering the context causes the fault; leaving it, for whatever reason, ends the fault."""

Parameters = Callable[[Ground], AbstractContextManager[dict[str, Any]]]
"""Parameters of the load's DAG run besides records and rate. What they need exists as long as the block."""


@dataclass(frozen=True)
class LogEvidence:
    """A line that must appear in a log: `log` is a pattern of file names below the logs' folder."""

    log: str
    pattern: str


@contextmanager
def plain(_ground: Ground) -> Iterator[dict[str, Any]]:
    """Yield no further parameters."""
    yield {}


@contextmanager
def nothing(_ground: Ground) -> Iterator[None]:
    """Cause no fault: the load itself is the drill."""
    yield


@dataclass(frozen=True)
class Drill:
    """A fault under load. It lasts `hold_s` seconds; the supervisor restarts killed processes.

    `rejects`: some of the load's records must be dead-lettered; otherwise none may be.
    """

    name: str
    what: str
    fault: Fault = nothing
    hold_s: float = 0.0
    evidence: tuple[LogEvidence, ...] = ()
    parameters: Parameters = plain
    rejects: bool = False
