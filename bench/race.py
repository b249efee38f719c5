"""Contestants that take turns: each is a program that tells how far it is, watched from outside until it is done."""

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

from bench.meter import Meter, java_of, others_of, tree
from penstock.errors import PenstockError

_STOP_S = 30.0
_TAIL_LINES = 40
_AT_ONCE_S = 0.02
_ALMOST = 0.999
"""A micro-batch is some records short of what it was asked to be, a partition one."""
_END = -1

Find = Callable[[str], Callable[[], list[psutil.Process]]]
"""What finds the processes of a service by its name."""
SHARED = ("kafka", "cassandra", "registry")
"""The services that every contestant uses."""

Progress = Callable[[str], int]
"""How many records more a line that the program printed tells of."""


@dataclass(frozen=True)
class Program:
    """A program that is run: its lines on stdout and stderr are its progress."""

    command: Sequence[str]
    progress: Callable[[], Progress]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: Path | None = None
    services: tuple[str, ...] = ()
    """Those services of the ground that work for this program alone."""


@dataclass(frozen=True)
class Lap:
    """One run of one contestant, from the first records that it told of to the last; or, from its start to the last,
    when it told of all of them at once.

    `cold_s` is the time from its start to the last record. CPU time is in us per record and memory in MiB, both by the
    kind of process; `disk_mib` is what Cassandra's folder grew by.
    """

    records: int
    seconds: float
    cold_s: float
    cpu_us_per_row: dict[str, float]
    rss_mib: dict[str, int]
    disk_mib: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of all processes, in us per record."""
        return sum(self.cpu_us_per_row.values())

    def numbers(self) -> dict[str, Any]:
        """All of it by name."""
        return {"rows_per_s": self.rows_per_s, "cpu_us": self.cpu_us, **asdict(self)}


@dataclass(frozen=True)
class Contestant:
    """Somebody who takes part: a name for JSON, a title for people, and what gives the numbers of one run by name."""

    name: str
    title: str
    run: Callable[[], dict[str, Any]]


class BenchFailed(PenstockError):
    """A contestant did not do what it was asked for."""


def own_lines() -> Progress:
    """The progress of a program that prints `{"done": so many in all}`."""
    before = 0

    def more(line: str) -> int:
        nonlocal before
        if not line.startswith('{"done"'):
            return 0
        done = int(json.loads(line)["done"])
        more, before = done - before, done
        return more

    return more


class Running:
    """A program while it runs, in a `with` block that ends it."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._steps: queue.Queue[int] = queue.Queue()
        self._tail: list[str] = []
        self.began_s = time.monotonic()
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
        """The services that work for the program alone."""
        return self._program.services

    def processes(self) -> list[psutil.Process]:
        """The program's own processes."""
        return tree(self._process.pid)

    def _read(self) -> None:
        """Sort out what the program prints: steps for who waits for them, the last lines for an error message."""
        assert self._process.stdout is not None
        more = self._program.progress()
        with self._process.stdout as out:
            for line in out:
                self._tail = [*self._tail[-_TAIL_LINES:], line]
                if step := more(line):
                    self._steps.put(step)
        self._steps.put(_END)

    def steps(self, timeout_s: float) -> Iterator[int]:
        """How many records more were done, each time that the program tells; lines at one time are one step.

        Raises `BenchFailed` when the time is over or the program ends.
        """
        ends_s = time.monotonic() + timeout_s
        while True:
            try:
                step = self._steps.get(timeout=max(0.0, ends_s - time.monotonic()))
            except queue.Empty:
                raise self._failed("took too long") from None
            if step == _END:
                raise self._failed("ended before it was done")
            time.sleep(_AT_ONCE_S)
            yield step + self._waiting()

    def _waiting(self) -> int:
        """What else was told by now."""
        found = 0
        while not self._steps.empty():
            step = self._steps.get()
            if step == _END:
                self._steps.put(_END)
                break
            found += step
        return found

    def _failed(self, how: str) -> BenchFailed:
        return BenchFailed(f"{' '.join(self._program.command[:3])} {how}\n{''.join(self._tail)}")

    def stop(self) -> None:
        """End the program, in peace when it does so in time, and what is left of what it started."""
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


def lap(program: Program, find: Find, records: int, *, timeout_s: float, skip: int = 0) -> Lap:
    """Run a program until it has done so many records; measured from about `skip` on, or from what it tells of first.

    One that tells of nothing in between is measured from its start. Raises `BenchFailed`.
    """
    with Running(program) as running, Meter(kinds_of([running], find)) as meter:
        return _measure(running, meter, records, skip, timeout_s)


def _measure(running: Running, meter: Meter, records: int, skip: int, timeout_s: float) -> Lap:
    start, done, first = Mark.now(0, meter), 0, None
    for step in running.steps(timeout_s):
        done += step
        if done >= records:
            break
        if first is None and done >= skip * _ALMOST:
            first = Mark.now(done, meter)
    last = Mark.now(done, meter)
    return between(first or start, last, last.at_s - running.began_s, meter)


class Mark(NamedTuple):
    """How far a program is at a moment, and the CPU time of each kind of process by then."""

    done: int
    at_s: float
    cpu_s: dict[str, float]

    @classmethod
    def now(cls, done: int, meter: Meter) -> "Mark":
        """The mark of this moment."""
        return cls(done, time.monotonic(), meter.cpu_s())


def between(first: Mark, last: Mark, cold_s: float, meter: Meter) -> Lap:
    """The lap from one mark to another."""
    counted = last.done - first.done
    return Lap(
        records=counted,
        seconds=last.at_s - first.at_s,
        cold_s=cold_s,
        cpu_us_per_row={kind: (spent_s - first.cpu_s[kind]) * 1e6 / counted for kind, spent_s in last.cpu_s.items()},
        rss_mib=dict(meter.rss_mib),
    )


def kinds_of(running: Sequence["Running"], find: Find) -> dict[str, Callable[[], list[psutil.Process]]]:
    """What finds the processes to measure: the services that all use, and the programs' own, Java or not."""
    own = [one.processes for one in running] + [find(name) for one in running for name in one.services]
    return {
        **{service: find(service) for service in SHARED},
        "Java": lambda: [process for found in own for process in java_of(found())],
        "Python": lambda: [process for found in own for process in others_of(found())],
    }
