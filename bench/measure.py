"""Run contestants, which are programs that print their progress, and measure them from outside until they finish."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.meter import Meter, filter_java, filter_others, list_tree
from penstock.errors import PenstockError

_STOP_S = 30.0
_TAIL_LINES = 40
_AT_ONCE_S = 0.02
_ALMOST = 0.999
"""Tolerance, because a micro-batch can be smaller than requested by about one record per partition."""
_END = -1

FindProcesses = Callable[[str], Callable[[], list[psutil.Process]]]
"""Returns, for the name of a service, a function that lists its processes."""
SHARED = ("kafka", "cassandra", "registry")
"""Services that every contestant uses."""

Progress = Callable[[str], int]
"""Returns the number of records processed since the last line, according to a line of the program's output."""


@dataclass(frozen=True)
class Program:
    """A program to run. Its progress is read from stdout and stderr."""

    command: Sequence[str]
    progress: Callable[[], Progress]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: Path | None = None
    services: tuple[str, ...] = ()
    """Services of the stack that only this program uses."""


@dataclass(frozen=True)
class Measurement:
    """One run of one contestant, measured from its first reported records to the last.

    A program that reports all records at once is measured from its start. `cold_s` is the time from program start to
    the last record. CPU time is in µs per record and memory in MiB, both by kind of process. `disk_mib` is the size of
    the keyspace on disk.
    """

    records: int
    seconds: float
    cold_s: float
    cpu_us_per_row: dict[str, float]
    rss_mib: dict[str, int]
    disk_mib: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Return the records per second."""
        return self.records / self.seconds

    @property
    def cpu_us(self) -> float:
        """Return the CPU time of all processes, in µs per record."""
        return sum(self.cpu_us_per_row.values())

    def numbers(self) -> dict[str, Any]:
        """Return all figures by name."""
        return {"rows_per_s": self.rows_per_s, "cpu_us": self.cpu_us, **asdict(self)}


@dataclass(frozen=True)
class Contestant:
    """A participant: a name for JSON, a title for reports, and a function that returns the figures of one run."""

    name: str
    title: str
    run: Callable[[], dict[str, Any]]


class BenchFailed(PenstockError):
    """A contestant did not process the requested records."""


def track_done_lines() -> Progress:
    """Return the progress of a program that prints `{"done": TOTAL}` lines."""
    previous = 0

    def count_new(line: str) -> int:
        nonlocal previous
        if not line.startswith('{"done"'):
            return 0
        done = int(json.loads(line)["done"])
        new, previous = done - previous, done
        return new

    return count_new


class Running:
    """A running program; a context manager that stops it on exit."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._steps: queue.Queue[int] = queue.Queue()
        self._tail: list[str] = []
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(
            program.command,
            env={**os.environ, **program.env},
            cwd=program.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._reader.start()

    @property
    def services(self) -> tuple[str, ...]:
        """Return the services that only this program uses."""
        return self._program.services

    def processes(self) -> list[psutil.Process]:
        """Return the program and its descendants."""
        return list_tree(self._process.pid)

    def _read(self) -> None:
        """Read the program's output: queue its progress, and keep the last lines for error messages."""
        assert self._process.stdout is not None
        count_new = self._program.progress()
        with self._process.stdout as out:
            for line in out:
                self._tail = [*self._tail[-_TAIL_LINES:], line]
                if step := count_new(line):
                    self._steps.put(step)
        self._steps.put(_END)

    def steps(self, timeout_s: float) -> Iterator[int]:
        """Yield the number of newly processed records at each report. Lines printed together count as one report.

        Raises `BenchFailed` on timeout or if the program ends.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                step = self._steps.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise self._failed("timed out") from None
            if step == _END:
                raise self._failed("exited before it had processed all records")
            time.sleep(_AT_ONCE_S)
            yield step + self._drain()

    def _drain(self) -> int:
        """Drain the queue and return the number of records in it."""
        records = 0
        while not self._steps.empty():
            step = self._steps.get()
            if step == _END:
                self._steps.put(_END)
                break
            records += step
        return records

    def _failed(self, reason: str) -> BenchFailed:
        return BenchFailed(f"{' '.join(self._program.command[:3])} {reason}\n{''.join(self._tail)}")

    def stop(self) -> None:
        """Terminate the program, then kill the rest of its process group."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_STOP_S)
        self._reader.join(_STOP_S)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def measure_program(
    program: Program, find: FindProcesses, records: int, *, timeout_s: float, skip: int = 0
) -> Measurement:
    """Run a program until it has processed `records`, and return the measurement.

    Measured from the first report of about `skip` records or more, or from program start if that is also the last one.
    Raises `BenchFailed`.
    """
    with Running(program) as running, Meter(group_processes([running], find)) as meter:
        return _measure(running, meter, records, skip, timeout_s)


def _measure(running: Running, meter: Meter, records: int, skip: int, timeout_s: float) -> Measurement:
    start, done, first = Mark.now(0, meter), 0, None
    for step in running.steps(timeout_s):
        done += step
        if done >= records:
            break
        if first is None and done >= skip * _ALMOST:
            first = Mark.now(done, meter)
    last = Mark.now(done, meter)
    return compute_measurement(first or start, last, last.at_s - running.started_s, meter)


class Mark(NamedTuple):
    """Progress of a program at one moment, and the CPU time of each kind of process up to then."""

    done: int
    at_s: float
    cpu_s: dict[str, float]

    @classmethod
    def now(cls, done: int, meter: Meter) -> "Mark":
        """Record the current progress and CPU time."""
        return cls(done, time.monotonic(), meter.cpu_s())


def compute_measurement(first: Mark, last: Mark, cold_s: float, meter: Meter) -> Measurement:
    """Compute the measurement between two marks."""
    records = last.done - first.done
    return Measurement(
        records=records,
        seconds=last.at_s - first.at_s,
        cold_s=cold_s,
        cpu_us_per_row={kind: (spent_s - first.cpu_s[kind]) * 1e6 / records for kind, spent_s in last.cpu_s.items()},
        rss_mib=dict(meter.rss_mib),
    )


def group_processes(running: Sequence["Running"], find: FindProcesses) -> dict[str, Callable[[], list[psutil.Process]]]:
    """Return functions that list the processes to measure: shared services, and the programs' own, Java and others."""
    own = [program.processes for program in running] + [find(name) for program in running for name in program.services]
    return {
        **{service: find(service) for service in SHARED},
        "Java": lambda: [process for find_own in own for process in filter_java(find_own())],
        "Python": lambda: [process for find_own in own for process in filter_others(find_own())],
    }
