"""What processes take: processor time and memory, by kind. A kind is a service, or the part of a program."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Self

import psutil

_SAMPLE_S = 1.0

Roots = Mapping[str, Callable[[], list[psutil.Process]]]
"""The processes of each kind; asked again at each look, since some come later than others."""


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it; empty when there is none."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def java_of(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that are Java's."""
    return [one for one in processes if _name(one) == "java"]


def others_of(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that are not Java's."""
    return [one for one in processes if _name(one) != "java"]


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


class Meter:
    """Looks at processes for the length of a `with` block: their memory once a second, their CPU time when asked."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="meter", daemon=True)
        self.rss_mib: dict[str, int] = dict.fromkeys(roots, 0)
        """The most memory that each kind took, a page shared by several counted in parts."""

    def cpu_s(self) -> dict[str, float]:
        """The processor time of each kind so far: of its processes, and of those children of theirs that ended."""
        return {kind: sum(map(_cpu_s, find())) for kind, find in self._roots.items()}

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            for kind, find in self._roots.items():
                self.rss_mib[kind] = max(self.rss_mib[kind], sum(map(_pss_bytes, find())) // 2**20)

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
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
