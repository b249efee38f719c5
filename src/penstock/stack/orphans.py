"""Orphaned processes of a killed launcher or supervisor: found by their marker, ended by process id."""

import contextlib
import os
from collections.abc import Callable, Iterable

import psutil

from penstock.stack.supervise import MARKER

TERMINATE_S = 20
SURVIVORS_S = 5


def find_orphans(marker: str, supervisor_pid: int = 0) -> list[psutil.Process]:
    """Return this user's processes with the marker, except those of the running supervisor and of this command."""
    excluded = _own_and_ancestor_pids()
    return [
        process
        for process in find_marked(marker)
        if process.pid not in excluded and not _descends_from(process, supervisor_pid)
    ]


def find_marked(marker: str) -> list[psutil.Process]:
    """Return this user's processes whose environment contains exactly this marker."""
    return [process for process in psutil.process_iter() if _has_marker(process, marker)]


def end_orphans(marker: str, supervisor_pid: int = 0) -> list[int]:
    """End the orphans and return their process ids."""
    processes = find_orphans(marker, supervisor_pid)
    end_processes(processes)
    return [process.pid for process in processes]


def end_processes(processes: Iterable[psutil.Process]) -> None:
    """End the processes: SIGTERM to the parents, which stop their children, then to the rest, then SIGKILL."""
    alive = list(processes)
    ids = {process.pid for process in alive}
    parents = [process for process in alive if _get_parent_pid(process) not in ids]
    alive = _send_signal(psutil.Process.terminate, parents, alive, TERMINATE_S)
    alive = _send_signal(psutil.Process.terminate, alive, alive, SURVIVORS_S)
    _send_signal(psutil.Process.kill, alive, alive, SURVIVORS_S)


def _send_signal(
    signal: Callable[[psutil.Process], None], targets: list[psutil.Process], alive: list[psutil.Process], timeout_s: int
) -> list[psutil.Process]:
    """Send the signal to the targets and return the processes that are alive after the timeout."""
    for process in targets:
        with contextlib.suppress(psutil.NoSuchProcess):
            signal(process)
    return psutil.wait_procs(alive, timeout=timeout_s)[1]


def _get_parent_pid(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0


def _has_marker(process: psutil.Process, marker: str) -> bool:
    try:
        return process.uids().real == os.getuid() and process.environ().get(MARKER) == marker
    except (psutil.Error, OSError):
        return False


def _descends_from(process: psutil.Process, root_pid: int) -> bool:
    """Return whether a process is the root or a descendant, checked live because new processes may appear."""
    try:
        return bool(root_pid) and root_pid in {process.pid, *(parent.pid for parent in process.parents())}
    except psutil.NoSuchProcess:
        return True


def _own_and_ancestor_pids() -> set[int]:
    current = psutil.Process()
    return {current.pid, *(parent.pid for parent in current.parents())}
