"""Diagnose problems of this machine and the local stack, each with the command to run."""

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from penstock import pipelines, remedies
from penstock.config import PREFIX, REAL_API_URL, Settings
from penstock.errors import InstallFailed, PenstockError, PortTaken, WrongSettings
from penstock.stack import catalog, coordination, jars, orphans, ports, probes, status
from penstock.stack.check import Check
from penstock.stack.environment import StackEnvironment, read_environment
from penstock.stack.layout import REPOSITORY
from penstock.stack.service import Service, Status
from penstock.stack.supervise import Supervisor

FREE_DISK_GIB = 5
OPEN_FILES = 4096
_REMOTE = {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3", "virtiofs"}
_VOLATILE = {"ramfs", "tmpfs"}


def run_checks(settings: Settings) -> list[Check]:
    """Run all checks: those of the machine and the pipeline, then one per service."""
    try:
        environment = coordination.adopt_coordination(read_environment(settings))
    except InstallFailed as error:
        return [Check("java", False, error.message, error.hint), check_pipeline(settings)]
    wanted = catalog.resolve_dependencies(catalog.build_services(environment), ())
    running = {name for name, process in Supervisor(environment.layout).processes().items() if process.alive}
    idle = [service for service in wanted if service.name not in running]
    checks: list[Callable[[], Check]] = [
        lambda: _check_java(environment),
        lambda: check_memory(idle, psutil.virtual_memory().available // 2**20),
        lambda: check_disk(environment.layout.home),
        lambda: check_file_system(environment.layout.home, _list_mounts()),
        lambda: check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        lambda: check_clock(time.time(), jars.LOCK.stat().st_mtime),
        lambda: check_requirements(Path(sys.prefix), REPOSITORY),
        lambda: _check_jars(environment, wanted),
        lambda: _check_ports(environment, idle),
        lambda: _check_orphans(environment),
        lambda: _check_source(settings),
        lambda: check_pipeline(settings),
    ]
    return [check() for check in checks] + [_check_service(service) for service in status.read_statuses(settings)]


def _check_java(environment: StackEnvironment) -> Check:
    java, newer = environment.java, environment.java21
    detail = f"{java.major} from {java.origin}"
    return Check(
        "java", True, detail if newer == java else f"{detail}; {newer.major} from {newer.origin} for the registry"
    )


def check_memory(idle: Iterable[Service], available_mib: int) -> Check:
    """Check that the services that are not running would fit into the available memory."""
    need_mib = sum(service.memory_mib for service in idle)
    detail = f"{available_mib} MiB available, {need_mib} MiB needed by services that are not running"
    hint = f"stop other programs, or lower {PREFIX}CASSANDRA_HEAP_MIB and {PREFIX}SPARK_EXECUTOR_MEMORY_MIB"
    return Check("memory", available_mib >= need_mib, detail, hint)


def check_disk(home: Path) -> Check:
    """Check that there is enough disk space for data and logs."""
    free_gib = shutil.disk_usage(_find_existing(home)).free / 2**30
    detail = f"{free_gib:.0f} GiB free in {home}"
    return Check("disk", free_gib >= FREE_DISK_GIB, detail, f"free {FREE_DISK_GIB} GiB, or set {PREFIX}HOME")


def check_file_system(home: Path, mounts: dict[str, str]) -> Check:
    """Check that the file system is persistent and local, since databases lock and memory-map files."""
    folders = [str(folder) for folder in (home, *home.parents)]
    kind = next((mounts[folder] for folder in folders if folder in mounts), "unknown")
    return Check(
        "file system",
        kind not in _REMOTE | _VOLATILE,
        f"{home} is on {kind}" + (", which is lost on reboot" if kind in _VOLATILE else ""),
        f"set {PREFIX}HOME to a directory on a local disk",
    )


def check_open_files(limit: int) -> Check:
    """Check the hard limit of open files."""
    enough = limit == resource.RLIM_INFINITY or limit >= OPEN_FILES
    return Check("open files", enough, f"at most {limit}", f"ulimit -n {OPEN_FILES}")


def check_clock(now_s: float, past_s: float) -> Check:
    """Check that the clock is not behind a time that has certainly passed."""
    detail = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    return Check("clock", now_s >= past_s, detail, "set the clock: it is behind the modification time of project files")


def check_requirements(environment: Path, repository: Path) -> Check:
    """Check that the Python environment matches the lock, by the stamp that the front door writes into it."""
    stamp = environment / ".penstock-lock"
    if not stamp.exists():
        return Check("requirements", True, f"not checked: not installed by {remedies.PROGRAM}")
    text = b"".join((repository / name).read_bytes() for name in ("requirements.txt", "pyproject.toml"))
    cksum = subprocess.run(["cksum"], input=text, capture_output=True, check=True, timeout=10)  # noqa: S607
    matches = stamp.read_text(encoding="utf-8").strip() == cksum.stdout.decode().strip()
    return Check(
        "requirements",
        matches,
        "as locked" if matches else "out of date with requirements.txt",
        remedies.install_packages(),
    )


def _check_jars(environment: StackEnvironment, services: Iterable[Service]) -> Check:
    groups = {group for service in services for group in service.jars}
    missing = sorted(group for group in groups if not jars.is_installed(environment.layout, group))
    was_installed = environment.layout.jars.exists()
    detail = f"not as locked: {', '.join(missing)}" if missing else "as locked"
    return Check(
        "jars", not (missing and was_installed), detail if was_installed else "not installed yet", remedies.start()
    )


def _check_ports(environment: StackEnvironment, idle: Iterable[Service]) -> Check:
    if _find_orphans(environment):
        return Check("ports", True, "not checked: orphaned processes of an earlier start are running")
    try:
        ports.check_ports(environment.settings, idle)
    except PortTaken as error:
        return Check("ports", False, error.message.replace("\n", "; "), error.hint)
    return Check("ports", True, "free, or used by this stack")


def _check_orphans(environment: StackEnvironment) -> Check:
    processes = _find_orphans(environment)
    ids = ", ".join(str(process.pid) for process in processes)
    return Check("orphans", not processes, f"processes {ids}" if processes else "none", remedies.stop())


def _find_orphans(environment: StackEnvironment) -> list[psutil.Process]:
    return orphans.find_orphans(environment.layout.marker, Supervisor(environment.layout).pid())


def _check_source(settings: Settings) -> Check:
    if "source_url" not in settings.model_fields_set:
        return Check("source", True, f"stand-in API; set {PREFIX}SOURCE_URL={REAL_API_URL} to use the real one")
    try:
        probes.probe_url(settings.source_url)
    except PenstockError as error:
        return Check("source", True, f"warning: not reachable: {error.message}")
    return Check("source", True, settings.source_url)


def check_pipeline(settings: Settings) -> Check:
    """Check that the pipeline's file loads and passes all validation."""
    try:
        loaded = pipelines.of(settings)
    except WrongSettings as error:
        return Check("pipeline", False, "; ".join(line.strip() for line in error.message.splitlines()), error.hint)
    return Check("pipeline", True, f"{settings.pipeline}: topic {loaded.topic}, table {loaded.table}")


def _check_service(service: Status) -> Check:
    detail = f"{service.state}: {service.detail}" if service.detail else service.state
    return Check(
        service.name, service.state in {"ready", "starting", "stopped"}, detail, remedies.show_logs(service.name)
    )


def _find_existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _list_mounts() -> dict[str, str]:
    return {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
