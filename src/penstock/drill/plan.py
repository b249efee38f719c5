"""Definition of a drill: plain data, run by `runner.run_drill`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from penstock.drill.target import Target

Fault = Callable[[Target], AbstractContextManager[None]]
"""Entering the context causes the fault; leaving it, for whatever reason, ends the fault."""

Parameters = Callable[[Target], AbstractContextManager[dict[str, Any]]]
"""Parameters of the load's DAG run besides records and rate. What they need exists as long as the block."""


@dataclass(frozen=True)
class LogEvidence:
    """A line that must appear in a log: `log` is a pattern of file names below the logs' folder."""

    log: str
    pattern: str


@contextmanager
def no_parameters(_target: Target) -> Iterator[dict[str, Any]]:
    """Yield no further parameters."""
    yield {}


@contextmanager
def no_fault(_target: Target) -> Iterator[None]:
    """Cause no fault: the load itself is the drill."""
    yield


@dataclass(frozen=True)
class Drill:
    """A fault under load. It lasts `hold_s` seconds; the supervisor restarts killed processes.

    `rejects`: some of the load's records must be dead-lettered; otherwise none may be.
    """

    name: str
    what: str
    fault: Fault = no_fault
    hold_s: float = 0.0
    evidence: tuple[LogEvidence, ...] = ()
    parameters: Parameters = no_parameters
    rejects: bool = False
