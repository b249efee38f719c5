"""What is wrong with this machine or the local stack, and what to type."""

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from penstock import pipelines
from penstock.config import PREFIX, REAL_API_URL, Settings
from penstock.errors import InstallFailed, PenstockError, PortTaken, WrongSettings
from penstock.stack import catalog, coordination, jars, orphans, ports, probes, site, status
from penstock.stack.check import Check
from penstock.stack.layout import REPOSITORY
from penstock.stack.service import Service, Status
from penstock.stack.site import Site
from penstock.stack.supervise import Supervisor

FREE_DISK_GIB = 5
OPEN_FILES = 4096
_REMOTE = {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3", "virtiofs"}
_VOLATILE = {"ramfs", "tmpfs"}


def examine(settings: Settings) -> list[Check]:
    """Every check: those of the machine and of the pipeline, then one for each service."""
    try:
        here = coordination.adopt(site.read(settings))
    except InstallFailed as error:
        return [Check("java", False, error.message, error.hint), pipeline(settings)]
    wanted = catalog.closure(catalog.services(here), ())
    running = {name for name, process in Supervisor(here.layout).processes().items() if process.alive}
    idle = [service for service in wanted if service.name not in running]
    checks: list[Callable[[], Check]] = [
        lambda: _java(here),
        lambda: memory(idle, psutil.virtual_memory().available // 2**20),
        lambda: disk(here.layout.home),
        lambda: file_system(here.layout.home, _mounts()),
        lambda: open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        lambda: clock(time.time(), jars.LOCK.stat().st_mtime),
        lambda: requirements(Path(sys.prefix), REPOSITORY),
        lambda: _jars(here, wanted),
        lambda: _ports(here, idle),
        lambda: _orphans(here),
        lambda: _source(settings),
        lambda: pipeline(settings),
    ]
    return [check() for check in checks] + [_service(each) for each in status.read(settings)]


def _java(here: Site) -> Check:
    java, newer = here.java, here.java21
    detail = f"{java.major} from {java.origin}"
    return Check("java", True, detail if newer == java else f"{detail}; {newer.major} from {newer.origin} where needed")


def memory(idle: Iterable[Service], available_mib: int) -> Check:
    """Whether the services that do not run yet would fit."""
    need_mib = sum(service.memory_mib for service in idle)
    detail = f"{available_mib} MiB available, {need_mib} MiB needed by what does not run yet"
    hint = f"end other programs, or lower {PREFIX}CASSANDRA_HEAP_MIB and {PREFIX}SPARK_EXECUTOR_MEMORY_MIB"
    return Check("memory", available_mib >= need_mib, detail, hint)


def disk(home: Path) -> Check:
    """Whether there is room for data and logs."""
    free_gib = shutil.disk_usage(_existing(home)).free / 2**30
    detail = f"{free_gib:.0f} GiB free in {home}"
    return Check("disk", free_gib >= FREE_DISK_GIB, detail, f"free {FREE_DISK_GIB} GiB, or set {PREFIX}HOME")


def file_system(home: Path, mounts: dict[str, str]) -> Check:
    """Whether the home's file system keeps data, and locks and maps files as databases want it."""
    folders = [str(folder) for folder in (home, *home.parents)]
    kind = next((mounts[folder] for folder in folders if folder in mounts), "unknown")
    return Check(
        "file system",
        kind not in _REMOTE | _VOLATILE,
        f"{home} is on {kind}" + (", which a reboot empties" if kind in _VOLATILE else ""),
        f"set {PREFIX}HOME to a folder on a local disk",
    )


def open_files(limit: int) -> Check:
    """Whether enough files may be open."""
    enough = limit == resource.RLIM_INFINITY or limit >= OPEN_FILES
    return Check("open files", enough, f"at most {limit}", f"ulimit -n {OPEN_FILES}")


def clock(now_s: float, known_past_s: float) -> Check:
    """Whether the clock is past a moment that is over for certain."""
    detail = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    return Check("clock", now_s >= known_past_s, detail, "set the clock: it is earlier than the files of the project")


def requirements(environment: Path, repository: Path) -> Check:
    """Whether the Python environment is the locked one, by the stamp that ./penstock leaves there."""
    stamp = environment / ".penstock-lock"
    if not stamp.exists():
        return Check("requirements", True, "not installed by ./penstock: not checked")
    text = b"".join((repository / name).read_bytes() for name in ("requirements.txt", "pyproject.toml"))
    sums = subprocess.run(["cksum"], input=text, capture_output=True, check=True, timeout=10)  # noqa: S607
    same = stamp.read_text(encoding="utf-8").strip() == sums.stdout.decode().strip()
    return Check("requirements", same, "as locked" if same else "older than requirements.txt", "./penstock --version")


def _jars(here: Site, services: Iterable[Service]) -> Check:
    groups = {group for service in services for group in service.jars}
    missing = sorted(group for group in groups if not jars.is_installed(here.layout, group))
    started = here.layout.jars.exists()
    detail = f"not as locked: {', '.join(missing)}" if missing else "as locked"
    return Check("jars", not (missing and started), detail if started else "not installed yet", "./penstock up")


def _ports(here: Site, idle: Iterable[Service]) -> Check:
    if _left(here):
        return Check("ports", True, "not checked while processes are left behind")
    try:
        ports.check(here.settings, idle)
    except PortTaken as error:
        return Check("ports", False, error.message.replace("\n", "; "), error.hint)
    return Check("ports", True, "free, or ours")


def _orphans(here: Site) -> Check:
    left = _left(here)
    ids = ", ".join(str(process.pid) for process in left)
    return Check("left behind", not left, f"processes {ids}" if left else "nothing", "./penstock down")


def _left(here: Site) -> list[psutil.Process]:
    return orphans.find(here.layout.marker, Supervisor(here.layout).pid())


def _source(settings: Settings) -> Check:
    if "source_url" not in settings.model_fields_set:
        return Check("source", True, f"the stand-in; {PREFIX}SOURCE_URL={REAL_API_URL} for the real API")
    try:
        probes.answers(settings.source_url)
    except PenstockError as error:
        return Check("source", True, f"note: {error.message}")
    return Check("source", True, settings.source_url)


def pipeline(settings: Settings) -> Check:
    """Whether the pipeline's file can be loaded, and nothing in it would be refused later."""
    try:
        found = pipelines.of(settings)
    except WrongSettings as error:
        return Check("pipeline", False, "; ".join(line.strip() for line in error.message.splitlines()), error.hint)
    return Check("pipeline", True, f"{settings.pipeline}: topic {found.topic}, table {found.table}")


def _service(found: Status) -> Check:
    detail = f"{found.state}: {found.detail}" if found.detail else found.state
    return Check(found.name, found.state in {"ready", "starting", "stopped"}, detail, f"./penstock logs {found.name}")


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _mounts() -> dict[str, str]:
    return {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
