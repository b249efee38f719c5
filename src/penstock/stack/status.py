"""What each service is doing now."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import psutil

from penstock.config import Settings
from penstock.errors import Unreachable
from penstock.stack import catalog, coordination, site
from penstock.stack.service import Service
from penstock.stack.supervise import Process, Supervisor

State = Literal["ready", "starting", "failing", "restarting", "dead", "stopping", "stopped"]
_STATES: dict[str, State] = {"BACKOFF": "restarting", "FATAL": "dead", "STOPPING": "stopping"}


@dataclass(frozen=True)
class Status:
    """One service: `state` is what a probe says, `rss_mib` counts its children and shared pages once."""

    name: str
    title: str
    version: str
    state: State
    detail: str
    pid: int
    ports: dict[str, int]
    uptime_s: float
    rss_mib: int
    page: str


def read(settings: Settings, names: Iterable[str] = ()) -> list[Status]:
    """The state of the named services, or of all; asks each that runs whether it is ready."""
    here = coordination.adopt(site.read(settings))
    processes = Supervisor(here.layout).processes()
    everything = catalog.services(here)
    chosen = [everything[name] for name in catalog.known(everything, names) or everything]

    def one(service: Service) -> Status:
        return _status(here.settings, service, processes.get(service.name))

    with ThreadPoolExecutor(len(chosen), thread_name_prefix="probe") as pool:
        return list(pool.map(one, chosen))


def _status(settings: Settings, service: Service, process: Process | None) -> Status:
    state, detail = _state(settings, service, process)
    pid = process.pid if process and process.alive else 0
    return Status(
        name=service.name,
        title=service.title,
        version=service.version,
        state=state,
        detail=detail,
        pid=pid,
        ports={name: getattr(settings, name) for name in service.ports},
        uptime_s=round(time.time() - process.started_s, 1) if process and pid else 0.0,
        rss_mib=memory_mib(pid),
        page=service.page,
    )


def _state(settings: Settings, service: Service, process: Process | None) -> tuple[State, str]:
    if process is None or not (process.occupied or process.state == "FATAL"):
        return "stopped", ""
    if process.state in _STATES:
        return _STATES[process.state], process.detail
    try:
        service.probe(settings, process.started_s)
    except Unreachable as error:
        young = time.time() - process.started_s < settings.ready_timeout_s
        return ("starting" if young else "failing"), error.message
    return "ready", ""


def memory_mib(pid: int) -> int:
    """Memory of a process and its descendants in MiB, a page shared by several counted in parts; 0 for none."""
    if not pid:
        return 0
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_part_bytes(process) for process in tree) // 2**20


def _part_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
