"""Current state of each service."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import psutil

from penstock import remedies
from penstock.config import Settings
from penstock.errors import Unreachable
from penstock.stack import catalog, coordination, orphans
from penstock.stack.environment import StackEnvironment, read_environment
from penstock.stack.service import Service, State, Status
from penstock.stack.supervise import Process, Restarts, Supervisor

_STATES: dict[str, State] = {
    "BACKOFF": "restarting",
    "FATAL": "dead",
    "STOPPING": "stopping",
    "UNSUPERVISED": "unsupervised",
}
_SERVICE = "SUPERVISOR_PROCESS_NAME"  # set by supervisord to the service's name
_UNSUPERVISED = f"running without its supervisor, which has exited: {remedies.start()}"


def read_statuses(settings: Settings, names: Iterable[str] = ()) -> list[Status]:
    """Return the status of the named services, or of all. Probes each running one."""
    environment = coordination.adopt_coordination(read_environment(settings))
    supervisor = Supervisor(environment.layout)
    processes = supervisor.processes() or _find_unsupervised(environment)
    restarts = supervisor.restarts() if processes else {}
    services = catalog.build_services(environment)
    chosen = [services[name] for name in catalog.check_names(services, names) or services]

    def read_status(service: Service) -> Status:
        restart = restarts.get(service.name, Restarts())
        return _build_status(environment.settings, service, processes.get(service.name), restart)

    with ThreadPoolExecutor(len(chosen), thread_name_prefix="probe") as pool:
        return list(pool.map(read_status, chosen))


def _find_unsupervised(environment: StackEnvironment) -> dict[str, Process]:
    """Return the services that outlived their supervisor, each by its root process."""
    processes: dict[str, Process] = {}
    orphaned = orphans.find_orphans(environment.layout.marker)
    ids = {process.pid for process in orphaned}
    for process in orphaned:
        try:
            name = process.environ().get(_SERVICE)
            if name and process.ppid() not in ids:
                processes[name] = Process(name, "UNSUPERVISED", process.pid, process.create_time(), _UNSUPERVISED)
        except psutil.Error:
            continue
    return processes


def _build_status(settings: Settings, service: Service, process: Process | None, restarts: Restarts) -> Status:
    state, detail = _determine_state(settings, service, process)
    pid = process.pid if process and (process.alive or state == "unsupervised") else 0
    ended = f"{restarts.how}, {_format_duration(time.time() - restarts.at_s)} ago"
    last_exit = f"last unexpected exit: {ended}" if restarts.how and state != "stopped" else ""
    return Status(
        name=service.name,
        title=service.title,
        version=service.version,
        state=state,
        detail="; ".join(filter(None, [detail, last_exit, service.note(settings) if service.note else ""])),
        pid=pid,
        ports={name: getattr(settings, name) for name in service.ports},
        uptime_s=round(time.time() - process.started_s, 1) if process and pid else 0.0,
        rss_mib=measure_memory_mib(pid),
        page=service.page,
        restarts=restarts.count,
    )


def _format_duration(seconds: float) -> str:
    """Format a duration in its largest unit."""
    for unit, unit_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _determine_state(settings: Settings, service: Service, process: Process | None) -> tuple[State, str]:
    if process and process.state in _STATES:
        problem = service.problem(settings) if process.state in {"BACKOFF", "FATAL"} else ""
        return _STATES[process.state], "; ".join(filter(None, [process.detail, problem]))
    if process is None or not process.alive:
        return "stopped", ""
    if problem := service.problem(settings):
        return "stuck", problem
    try:
        service.probe(settings, process.started_s)
    except Unreachable as error:
        is_starting = time.time() - process.started_s < settings.ready_timeout_s
        return ("starting" if is_starting else "failing"), error.message
    return "ready", ""


def measure_memory_mib(pid: int) -> int:
    """Return the PSS of a process and its descendants in MiB, 0 if there is no such process."""
    if not pid:
        return 0
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_pss_bytes(process) for process in tree) // 2**20


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
