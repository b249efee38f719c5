"""What a drill is: plain data, carried out by `frame.hold`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from penstock.drill.ground import Ground

Fault = Callable[[Ground], AbstractContextManager[None]]
"""Entering it does the damage; leaving it, for whatever reason, takes it away again."""

Parameters = Callable[[Ground], AbstractContextManager[dict[str, Any]]]
"""What the load's DAG run is given beside records and rate; what it needs lives as long as the block."""


@dataclass(frozen=True)
class Evidence:
    """A line that must appear in a log: `log` is a pattern of file names below the logs' folder."""

    log: str
    pattern: str


@contextmanager
def plain(_ground: Ground) -> Iterator[dict[str, Any]]:
    """No further parameters."""
    yield {}


@contextmanager
def nothing(_ground: Ground) -> Iterator[None]:
    """No fault at all: the load itself is the drill."""
    yield


@dataclass(frozen=True)
class Drill:
    """A fault under load. It lasts `hold_s` seconds; what is killed is started again by the supervisor.

    `rejects`: some of the load's records must be set aside, else none may be.
    """

    name: str
    what: str
    fault: Fault = nothing
    hold_s: float = 0.0
    evidence: tuple[Evidence, ...] = ()
    parameters: Parameters = plain
    rejects: bool = False
