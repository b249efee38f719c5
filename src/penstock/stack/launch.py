"""`up`, `down`, `restart`, `destroy`: which services, in which order, and what must hold before and after."""

import os
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

import psutil

from penstock import pipelines
from penstock.config import Settings
from penstock.errors import StackError, WrongUse
from penstock.stack import catalog, coordination, orphans, ports, site, supervise
from penstock.stack.layout import of
from penstock.stack.report import Report, silent
from penstock.stack.service import Service
from penstock.stack.site import Site
from penstock.stack.start import Cancelled, Starter
from penstock.stack.supervise import Supervisor

STOP_POLL_S = 0.2
STOP_SLACK_S = 15


def up(settings: Settings, names: Iterable[str] = (), report: Report = silent) -> None:
    """Return when the named services, and all that they need, are ready; no name: every service.

    Raises `WrongSettings` for a pipeline that cannot work and `PortTaken` before anything is started, `InstallFailed`,
    `ServiceDied` as soon as one ends before it is ready, `Unreachable` when one takes longer than `ready_timeout_s`.
    What did come up stays up.
    """
    pipelines.of(settings)
    here = site.read(settings)
    with supervise.alone(here.layout, lambda: report("stack", "waiting", "for another command to end")):
        here, supervisor = coordination.settle(here), Supervisor(here.layout)
        everything = catalog.services(here)
        wanted = catalog.closure(everything, names)
        _sweep(here, supervisor, report)
        _settle(supervisor, everything, wanted, report)
        running = {name for name, process in supervisor.processes().items() if process.alive}
        ports.check(here.settings, [service for service in wanted if service.name not in running])
        if not supervisor.pid():
            shutil.rmtree(here.layout.temporary, ignore_errors=True)
        supervisor.configure(everything)
        supervisor.launch(os.environ)
        _start_all(Starter(here, supervisor, report), wanted)


def down(settings: Settings, names: Iterable[str] = (), report: Report = silent) -> None:
    """Return when the named services, and all that need them, have ended; no name: every service and the supervisor.

    What an earlier launcher left behind is ended too, and nothing else is touched. Data stay.
    """
    here = site.read(settings)
    with supervise.alone(here.layout, lambda: report("stack", "waiting", "for another command to end")):
        here, supervisor = coordination.adopt(here), Supervisor(here.layout)
        everything = catalog.services(here)
        _stop_all(supervisor, everything, catalog.dependents(everything, names), report)
        if not any(process.occupied for process in supervisor.processes().values()):
            _end_supervisor(supervisor)
        _sweep(here, supervisor, report)


def restart(settings: Settings, names: Iterable[str] = (), report: Report = silent) -> None:
    """Stop and start the named services, with the settings in force; those that need them stay up meanwhile.

    No name: every service that runs. Raises what `up` does; nothing is stopped for a pipeline that cannot work.
    """
    pipelines.of(settings)
    here = site.read(settings)
    with supervise.alone(here.layout, lambda: report("stack", "waiting", "for another command to end")):
        here, supervisor = coordination.adopt(here), Supervisor(here.layout)
        everything = catalog.services(here)
        running = [name for name, process in supervisor.processes().items() if process.occupied]
        chosen = catalog.known(everything, names) or [name for name in everything if name in running]
        _stop_all(supervisor, everything, chosen, report)
    if chosen:
        up(here.settings, chosen, report)


def destroy(settings: Settings, *, downloads: bool = False, report: Report = silent) -> list[Path]:
    """Stop everything and delete what this home holds: data, logs, jars, secrets; `downloads` as well when asked.

    Gives back what was deleted. Raises `WrongUse` when the home was not made by `up`.
    """
    layout = of(settings)
    if not layout.credentials.exists():
        raise WrongUse(f"{layout.home} holds no local stack", hint="./penstock status")
    down(settings, (), report)
    doomed = [layout.data, layout.logs, Supervisor(layout).socket.parent, layout.run, layout.jars, layout.credentials]
    doomed += [layout.cache] if downloads else []
    deleted = [path for path in dict.fromkeys(doomed) if path.exists()]
    for path in deleted:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return deleted


def log_of(settings: Settings, name: str) -> Path:
    """The log of a service, or of the supervisor. Raises `WrongUse` for another name."""
    layout = of(settings)
    if not layout.log(name).exists() and name != "supervisor":
        catalog.known(catalog.services(site.read(settings)), [name])
    return layout.log(name)


def _sweep(here: Site, supervisor: Supervisor, report: Report) -> None:
    swept = orphans.sweep(here.layout.marker, supervisor.pid())
    if swept:
        report("stack", "swept", f"{len(swept)} processes that an earlier start left behind")


def _settle(
    supervisor: Supervisor, everything: Mapping[str, Service], wanted: Iterable[Service], report: Report
) -> None:
    """Stop what is neither up nor down: a service that keeps dying, or one that an interrupted `down` asked to stop."""
    known = supervisor.processes()
    between = [each.name for each in wanted if each.name in known and known[each.name].occupied]
    _stop_all(supervisor, everything, [name for name in between if not known[name].alive], report)


def _start_all(starter: Starter, wanted: list[Service]) -> None:
    """Each service in a thread of its own, which first waits for those it needs."""
    ready = {service.name: threading.Event() for service in wanted}

    def bring_up(service: Service) -> None:
        starter.install(service)
        for name in service.needs:
            while not ready[name].wait(0.1):
                starter.check_cancelled()
        starter.bring_up(service)
        ready[service.name].set()

    with ThreadPoolExecutor(len(wanted), thread_name_prefix="up") as pool:
        tasks = {pool.submit(bring_up, service): service.name for service in wanted}
        try:
            _, pending = wait(tasks, return_when=FIRST_EXCEPTION)
        except BaseException:
            starter.cancelled.set()
            raise
        if pending:
            starter.cancelled.set()
    _raise_first(starter, tasks)


def _raise_first(starter: Starter, tasks: Mapping["Future[None]", str]) -> None:
    """Stop the services that failed, else the supervisor would go on trying, and raise what the first one raised."""
    failed = {name: error for task, name in tasks.items() if (error := task.exception())}
    causes = {name: error for name, error in failed.items() if not isinstance(error, Cancelled)}
    for name in causes:
        starter.report(name, "failed")
        starter.supervisor.stop(name)
    for error in causes.values():
        raise error


def _stop_all(supervisor: Supervisor, everything: Mapping[str, Service], names: Iterable[str], report: Report) -> None:
    """Stop the services side by side, each after those that need it."""
    left = {name for name in names if _occupied(supervisor, name)}
    asked: dict[str, float] = {}
    while left:
        for name in sorted(left - asked.keys()):
            if not any(name in everything[other].needs for other in left):
                report(name, "stopping")
                supervisor.stop(name)
                asked[name] = time.monotonic()
        time.sleep(STOP_POLL_S)
        for name in [name for name in asked if name in left and not _occupied(supervisor, name)]:
            left.remove(name)
            report(name, "stopped", f"{time.monotonic() - asked[name]:.1f} s")
        _check_stopping(everything, {name: asked[name] for name in left & asked.keys()})


def _check_stopping(everything: Mapping[str, Service], asked: Mapping[str, float]) -> None:
    for name, since in asked.items():
        if time.monotonic() - since > everything[name].stop_wait_s + STOP_SLACK_S:
            raise StackError(f"{name} does not stop", hint=f"./penstock logs {name}")


def _occupied(supervisor: Supervisor, name: str) -> bool:
    process = supervisor.processes().get(name)
    return bool(process and process.occupied)


def _end_supervisor(supervisor: Supervisor) -> None:
    pid = supervisor.pid()
    if not pid:
        return
    supervisor.shutdown()
    deadline = time.monotonic() + STOP_SLACK_S
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(STOP_POLL_S)
