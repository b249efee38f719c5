"""Measure CPU time and memory of processes by kind: a service, or a program's Java or other processes."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Self

import psutil

_SAMPLE_S = 1.0

Roots = Mapping[str, Callable[[], list[psutil.Process]]]
"""Functions that list the processes of each kind. Called for each sample, since some processes start later."""


def list_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; empty if there is no such process."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def filter_java(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the Java processes."""
    return [process for process in processes if _read_name(process) == "java"]


def filter_others(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that are not Java."""
    return [process for process in processes if _read_name(process) != "java"]


def _read_name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


class Meter:
    """Measures processes: memory once a second inside the `with` block, CPU time on request."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._stopped = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="meter", daemon=True)
        self.rss_mib: dict[str, int] = dict.fromkeys(roots, 0)
        """Peak memory of each kind, as PSS."""

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time of each kind so far: of its processes and of their terminated children."""
        return {kind: sum(map(_cpu_s, find())) for kind, find in self._roots.items()}

    def _sample(self) -> None:
        while not self._stopped.wait(_SAMPLE_S):
            for kind, find in self._roots.items():
                self.rss_mib[kind] = max(self.rss_mib[kind], sum(map(_pss_bytes, find())) // 2**20)

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._sampler.join()


def _cpu_s(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:4])
    except psutil.Error:
        return 0.0


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
