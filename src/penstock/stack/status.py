"""What each service is doing now."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import psutil

from penstock.config import Settings
from penstock.errors import Unreachable
from penstock.stack import catalog, coordination, orphans, site
from penstock.stack.service import Service, State, Status
from penstock.stack.site import Site
from penstock.stack.supervise import Process, Restarts, Supervisor

_STATES: dict[str, State] = {
    "BACKOFF": "restarting",
    "FATAL": "dead",
    "STOPPING": "stopping",
    "UNSUPERVISED": "unsupervised",
}
_SERVICE = "SUPERVISOR_PROCESS_NAME"  # where supervisord tells a process which service it is
_UNSUPERVISED = "runs without its supervisor, which is gone: ./penstock up"


def read(settings: Settings, names: Iterable[str] = ()) -> list[Status]:
    """The state of the named services, or of all; asks each that runs whether it is ready."""
    here = coordination.adopt(site.read(settings))
    supervisor = Supervisor(here.layout)
    processes = supervisor.processes() or _unsupervised(here)
    restarts = supervisor.restarts() if processes else {}
    everything = catalog.services(here)
    chosen = [everything[name] for name in catalog.known(everything, names) or everything]

    def one(service: Service) -> Status:
        ends = restarts.get(service.name, Restarts())
        return _status(here.settings, service, processes.get(service.name), ends)

    with ThreadPoolExecutor(len(chosen), thread_name_prefix="probe") as pool:
        return list(pool.map(one, chosen))


def _unsupervised(here: Site) -> dict[str, Process]:
    """The services that go on after their supervisor was killed, each by its first process."""
    found: dict[str, Process] = {}
    left = orphans.find(here.layout.marker)
    ids = {process.pid for process in left}
    for process in left:
        try:
            name = process.environ().get(_SERVICE)
            if name and process.ppid() not in ids:
                found[name] = Process(name, "UNSUPERVISED", process.pid, process.create_time(), _UNSUPERVISED)
        except psutil.Error:
            continue
    return found


def _status(settings: Settings, service: Service, process: Process | None, ends: Restarts) -> Status:
    state, detail = _state(settings, service, process)
    pid = process.pid if process and (process.alive or state == "unsupervised") else 0
    last = f"{ends.how}, {_ago(time.time() - ends.at_s)} ago" if ends.how and state != "stopped" else ""
    return Status(
        name=service.name,
        title=service.title,
        version=service.version,
        state=state,
        detail="; ".join(filter(None, [detail, last])),
        pid=pid,
        ports={name: getattr(settings, name) for name in service.ports},
        uptime_s=round(time.time() - process.started_s, 1) if process and pid else 0.0,
        rss_mib=memory_mib(pid),
        page=service.page,
        restarts=ends.count,
    )


def _ago(seconds: float) -> str:
    """A time span in its largest unit."""
    for unit, unit_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _state(settings: Settings, service: Service, process: Process | None) -> tuple[State, str]:
    if process and process.state in _STATES:
        return _STATES[process.state], process.detail
    if process is None or not process.alive:
        return "stopped", ""
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
