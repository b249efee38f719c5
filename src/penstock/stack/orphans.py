"""Processes that a killed launcher or supervisor left behind: found by their mark, ended by their id."""

import contextlib
import os
from collections.abc import Callable, Iterable

import psutil

from penstock.stack.supervise import MARKER

TERMINATE_S = 20
LEFT_S = 5


def find(marker: str, supervisor_pid: int = 0) -> list[psutil.Process]:
    """This user's processes that carry the mark and belong neither to the live supervisor nor to this command."""
    spared = _lineage()
    return [p for p in marked(marker) if p.pid not in spared and not _belongs(p, supervisor_pid)]


def marked(marker: str) -> list[psutil.Process]:
    """This user's processes whose environment carries exactly this mark."""
    return [process for process in psutil.process_iter() if _carries(process, marker)]


def sweep(marker: str, supervisor_pid: int = 0) -> list[int]:
    """End the orphans, first politely; gives back the ids of those found."""
    found = find(marker, supervisor_pid)
    end(found)
    return [process.pid for process in found]


def end(processes: Iterable[psutil.Process]) -> None:
    """End the processes: parents are asked first and take their children along; then who is left, then none is."""
    alive = list(processes)
    ids = {process.pid for process in alive}
    parents = [process for process in alive if _parent(process) not in ids]
    alive = _signal(psutil.Process.terminate, parents, alive, TERMINATE_S)
    alive = _signal(psutil.Process.terminate, alive, alive, LEFT_S)
    _signal(psutil.Process.kill, alive, alive, LEFT_S)


def _signal(
    signal: Callable[[psutil.Process], None], chosen: list[psutil.Process], alive: list[psutil.Process], patience_s: int
) -> list[psutil.Process]:
    """Signal the chosen ones and give back who lives after that long."""
    for process in chosen:
        with contextlib.suppress(psutil.NoSuchProcess):
            signal(process)
    return psutil.wait_procs(alive, timeout=patience_s)[1]


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0


def _carries(process: psutil.Process, marker: str) -> bool:
    try:
        return process.uids().real == os.getuid() and process.environ().get(MARKER) == marker
    except (psutil.Error, OSError):
        return False


def _belongs(process: psutil.Process, root_pid: int) -> bool:
    """Whether it is the root or descends from it; asked of each process, as new ones may appear meanwhile."""
    try:
        return bool(root_pid) and root_pid in {process.pid, *(parent.pid for parent in process.parents())}
    except psutil.NoSuchProcess:
        return True


def _lineage() -> set[int]:
    me = psutil.Process()
    return {me.pid, *(parent.pid for parent in me.parents())}
