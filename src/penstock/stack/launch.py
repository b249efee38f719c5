"""`up`, `down`, `restart`, `destroy`: select services, order them by dependency, check preconditions."""

import os
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from penstock import pipelines, remedies
from penstock.config import Settings
from penstock.errors import StackError, UsageError
from penstock.stack import catalog, coordination, orphans, ports, supervise
from penstock.stack.environment import StackEnvironment, read_environment
from penstock.stack.layout import resolve_layout
from penstock.stack.report import Report, discard_report
from penstock.stack.service import Service
from penstock.stack.start import Cancelled, Starter
from penstock.stack.supervise import Supervisor

STOP_POLL_S = 0.2
STOP_SLACK_S = 15


def start_services(settings: Settings, names: Iterable[str] = (), report: Report = discard_report) -> None:
    """Start the named services and their dependencies and wait until all are ready. Without names: all services.

    Raises `WrongSettings` for an invalid pipeline and `PortTaken` before anything is started, `InstallFailed`,
    `ServiceDied` as soon as a service exits before it is ready, `Unreachable` if one is not ready within
    `ready_timeout_s`. Services that did start keep running.
    """
    pipelines.of(settings)
    environment = read_environment(settings)
    with _hold_lock(environment, report):
        environment, supervisor = coordination.record_coordination(environment), Supervisor(environment.layout)
        services = catalog.build_services(environment)
        wanted = catalog.resolve_dependencies(services, names)
        _end_orphans(environment, supervisor, report)
        _stop_in_transition(supervisor, services, wanted, report)
        running = {name for name, process in supervisor.processes().items() if process.alive}
        ports.check_ports(environment.settings, [service for service in wanted if service.name not in running])
        if not supervisor.pid():
            shutil.rmtree(environment.layout.temporary, ignore_errors=True)
        supervisor.configure(services)
        supervisor.launch(os.environ)
        _start_all(Starter(environment, supervisor, report), wanted)


def stop_services(settings: Settings, names: Iterable[str] = (), report: Report = discard_report) -> None:
    """Stop the named services and their dependents and wait until they have exited.

    Without names: all services and the supervisor. Orphaned processes of an earlier start are ended too. Data is
        kept.
    """
    environment = read_environment(settings)
    with _hold_lock(environment, report):
        environment, supervisor = coordination.adopt_coordination(environment), Supervisor(environment.layout)
        services = catalog.build_services(environment)
        _stop_all(supervisor, services, catalog.find_dependents(services, names), report)
        if not any(process.occupied for process in supervisor.processes().values()):
            _end_supervisor(supervisor)
        _end_orphans(environment, supervisor, report)


def restart_services(settings: Settings, names: Iterable[str] = (), report: Report = discard_report) -> None:
    """Stop and start the named services with the effective settings. Their dependents keep running.

    Without names: all running services. Raises the errors of `start_services`. An invalid pipeline stops nothing.
    """
    pipelines.of(settings)
    environment = read_environment(settings)
    with _hold_lock(environment, report):
        environment, supervisor = coordination.adopt_coordination(environment), Supervisor(environment.layout)
        services = catalog.build_services(environment)
        running = [name for name, process in supervisor.processes().items() if process.occupied]
        chosen = catalog.check_names(services, names) or [name for name in services if name in running]
        _stop_all(supervisor, services, chosen, report)
    if chosen:
        start_services(environment.settings, chosen, report)


def destroy_stack(settings: Settings, *, downloads: bool = False, report: Report = discard_report) -> list[Path]:
    """Stop all services and delete data, logs, jars and secrets, with `downloads` also the downloaded files.

    Returns the deleted paths. Raises `UsageError` if the data directory was not created by `up`.
    """
    layout = resolve_layout(settings)
    if not layout.credentials.exists():
        raise UsageError(f"no local stack in {layout.home}", hint=remedies.show_status())
    stop_services(settings, (), report)
    paths = [layout.data, layout.logs, Supervisor(layout).socket.parent, layout.run, layout.jars, layout.credentials]
    paths += [layout.cache] if downloads else []
    deleted = [path for path in dict.fromkeys(paths) if path.exists()]
    for path in deleted:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return deleted


def log_path(settings: Settings, name: str) -> Path:
    """Return the log file of a service or of the supervisor. Raises `UsageError` for an unknown name."""
    layout = resolve_layout(settings)
    if not layout.log(name).exists() and name != "supervisor":
        catalog.check_names(catalog.build_services(read_environment(settings)), [name])
    return layout.log(name)


def _end_orphans(environment: StackEnvironment, supervisor: Supervisor, report: Report) -> None:
    ended = orphans.end_orphans(environment.layout.marker, supervisor.pid())
    if ended:
        report("stack", "stopped", f"{len(ended)} orphaned processes of an earlier start")


def _stop_in_transition(
    supervisor: Supervisor, services: Mapping[str, Service], wanted: Iterable[Service], report: Report
) -> None:
    """Stop services in transition: crash-looping, or still stopping after an interrupted `down`."""
    processes = supervisor.processes()
    in_transition = [
        service.name for service in wanted if service.name in processes and processes[service.name].occupied
    ]
    _stop_all(supervisor, services, [name for name in in_transition if not processes[name].alive], report)


def _start_all(starter: Starter, wanted: list[Service]) -> None:
    """Start each service in its own thread, which first waits for its dependencies."""
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
    """Stop the failed services, which the supervisor would otherwise keep restarting, and raise the first error."""
    errors = {name: error for task, name in tasks.items() if (error := task.exception())}
    causes = {name: error for name, error in errors.items() if not isinstance(error, Cancelled)}
    for name in causes:
        starter.report(name, "failed")
        starter.supervisor.stop(name)
    for error in causes.values():
        raise error


def _stop_all(supervisor: Supervisor, services: Mapping[str, Service], names: Iterable[str], report: Report) -> None:
    """Stop the services in parallel, each after its dependents."""
    remaining = {name for name in names if _is_occupied(supervisor, name)}
    stopping_since: dict[str, float] = {}
    while remaining:
        for name in sorted(remaining - stopping_since.keys()):
            if not any(name in services[other].needs for other in remaining):
                report(name, "stopping")
                supervisor.stop(name)
                stopping_since[name] = time.monotonic()
        time.sleep(STOP_POLL_S)
        for name in [name for name in stopping_since if name in remaining and not _is_occupied(supervisor, name)]:
            remaining.remove(name)
            report(name, "stopped", f"{time.monotonic() - stopping_since[name]:.1f} s")
        for name in remaining & stopping_since.keys():
            supervisor.stop(name)  # again: one that had just exited may have been restarted
        _check_stopping(services, {name: stopping_since[name] for name in remaining & stopping_since.keys()})


def _check_stopping(services: Mapping[str, Service], stopping_since: Mapping[str, float]) -> None:
    for name, since in stopping_since.items():
        if time.monotonic() - since > services[name].stop_wait_s + STOP_SLACK_S:
            raise StackError(f"{name} did not stop", hint=remedies.show_logs(name))


def _is_occupied(supervisor: Supervisor, name: str) -> bool:
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


def _hold_lock(environment: StackEnvironment, report: Report) -> AbstractContextManager[None]:
    """Keep other commands from changing the stack; wait for one that is doing so."""
    return supervise.hold_stack_lock(
        environment.layout, lambda: report("stack", "waiting", "for another command to finish")
    )
