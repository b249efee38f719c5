"""Supervisor of a data directory: supervisord, which keeps the services running after the command has exited."""

import contextlib
import getpass
import hashlib
import http.client
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock import remedies
from penstock.errors import StackError
from penstock.files import hold_lock, write_atomically
from penstock.stack.layout import Layout
from penstock.stack.service import Service, render_template

MARKER = "PENSTOCK_STACK"
SOCKET_PATH_BYTES = 104  # sun_path is 108 bytes with the final NUL; supervisord appends a suffix while it binds
ANSWER_TIMEOUT_S = 20
START_TIMEOUT_S = 20
STEADY_S = 20  # a process that exits sooner is restarted with backoff, at most RETRIES times
RETRIES = 40  # the backoff grows by one second each time; gives up after 15 minutes, e.g. if the disk is full
START_SLACK_S = 5
OPEN_FILES = 65536
_OURS = ("AIRFLOW", "APICURIO", "CLASSPATH", "HADOOP", "JAVA", "JDK_", "KAFKA", "PENSTOCK_", "PYSPARK", "PYTHON")
_FOREIGN = (*_OURS, "QUARKUS", "SPARK", "SUPERVISOR", "VIRTUAL_ENV", "_JAVA")
_ALIVE = {"STARTING", "RUNNING"}


class SupervisorNotRunning(StackError):
    """The supervisor is not running."""


class SupervisorRejected(StackError):
    """The supervisor rejected a request."""


@dataclass(frozen=True)
class Process:
    """State of one service as reported by the supervisor."""

    name: str
    state: str
    pid: int
    started_s: float
    detail: str

    @property
    def alive(self) -> bool:
        """Return whether the service has a process or is about to."""
        return self.state in _ALIVE

    @property
    def occupied(self) -> bool:
        """Return whether the service is running, stopping or about to be restarted."""
        return self.state in {*_ALIVE, "BACKOFF", "STOPPING"}


@dataclass(frozen=True)
class Restarts:
    """Restarts of a service after unexpected exits. `how` and `at_s` (epoch seconds) describe the last exit."""

    count: int = 0
    how: str = ""
    at_s: float = 0.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, with the timeout that supervisor's own transport lacks."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        self._connection = host, connection  # where `close` looks for it
        return connection


class Supervisor:
    """Client of a data directory's supervisord, which may not be running."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._config = layout.run / "supervisord.conf"
        self.socket = socket_path(layout.run)

    def pid(self) -> int:
        """Return the process id of supervisord, 0 if it is not running."""
        try:
            return int(self._call_supervisor("getPID"))
        except SupervisorNotRunning:
            return 0

    def processes(self) -> dict[str, Process]:
        """Return the state of each configured service. Empty if the supervisor is not running."""
        try:
            answers = self._call_supervisor("getAllProcessInfo")
        except SupervisorNotRunning:
            return {}
        return {answer["name"]: _parse_process(answer) for answer in answers}

    def restarts(self) -> dict[str, Restarts]:
        """Return the restarts since the supervisor's start, as far back as its log reaches."""
        log = self._layout.log("supervisor")
        return count_restarts(line for path in (log.with_name(f"{log.name}.1"), log) for line in _read_lines(path))

    def launch(self, environment: Mapping[str, str]) -> None:
        """Start supervisord unless it is running. Raises `StackError` if it does not start."""
        if self.pid():
            return
        for folder in (self.socket.parent, self._layout.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                raise StackError(f"{folder} belongs to another user", hint=remedies.start_elsewhere())
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]
        env = {**filter_environment(environment), MARKER: self._layout.marker}
        result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.pid():
            if result.returncode or time.monotonic() > deadline:
                output = (result.stderr or result.stdout).strip()
                raise StackError(f"the supervisor did not start: {output}", hint=f"read {self._layout.logs}")
            time.sleep(0.05)

    def configure(self, services: Mapping[str, Service]) -> None:
        """Write the configuration for services started from now on."""
        programs = [_render_program(self._layout, service) for service in services.values()]
        write_atomically(self._config, _render_head(self._layout, self.socket) + "\n".join(programs))

    def start(self, name: str) -> None:
        """Start a stopped service with its last written configuration."""
        self._reload_config(name)
        self._call_supervisor("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Request a service to stop, without waiting. `processes` shows when it has exited.

        Request it again until then: a service that has just exited by itself cannot be stopped, and may be restarted.
        """
        with contextlib.suppress(SupervisorRejected):  # it has exited already, or is stopping
            self._call_supervisor("stopProcess", name, False)

    def shutdown(self) -> None:
        """Request supervisord to exit."""
        with contextlib.suppress(SupervisorNotRunning):
            self._call_supervisor("shutdown")

    def _reload_config(self, name: str) -> None:
        added, changed, _ = self._call_supervisor("reloadConfig")[0]
        if name in changed:
            self._call_supervisor("removeProcessGroup", name)
        if name in added or name in changed:
            self._call_supervisor("addProcessGroup", name)

    def _call_supervisor(self, method: str, *arguments: Any) -> Any:
        """Call the supervisor. A slow one is not taken for a missing one, whose services would be ended as orphans."""
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self.socket)) as server:
                return getattr(server.supervisor, method)(*arguments)
        except (ConnectionError, FileNotFoundError):
            raise SupervisorNotRunning from None
        except xmlrpc.client.Fault as fault:
            raise SupervisorRejected(f"{method} {' '.join(map(str, arguments))}: {fault.faultString}") from None
        except TimeoutError:
            raise StackError(
                f"no answer from the supervisor within {ANSWER_TIMEOUT_S} s", hint=remedies.start()
            ) from None


def _parse_process(answer: dict[str, Any]) -> Process:
    return Process(answer["name"], answer["statename"], answer["pid"], float(answer["start"]), answer["spawnerr"])


_EVENT = re.compile(
    r"(?P<time>\S+ \S+),\d+ \w+ "
    r"(?:(?P<up>supervisord started with pid)|spawned: '(?P<spawned>[^']+)'|stopped: (?P<stopped>\S+)"
    r"|exited: (?P<exited>\S+) \((?P<how>.+); (?:not )?expected\)$)"
)


def count_restarts(lines: Iterable[str]) -> dict[str, Restarts]:
    """Count restarts by service from lines of supervisord's log.

    A start counts as a restart if it follows an exit within the longest backoff.
    """
    restarts: dict[str, Restarts] = {}
    ended_s: dict[str, float] = {}
    for event in filter(None, map(_EVENT.match, lines)):
        at_s = time.mktime(time.strptime(event["time"], "%Y-%m-%d %H:%M:%S"))
        if event["up"]:
            restarts, ended_s = {}, {}
        elif name := event["exited"]:
            restarts[name] = Restarts(restarts.get(name, Restarts()).count, _describe_exit(event["how"]), at_s)
            ended_s[name] = at_s
        elif name := event["stopped"]:
            ended_s.pop(name, None)
        elif at_s - ended_s.pop(event["spawned"], 0.0) <= RETRIES + START_SLACK_S:
            restarts[event["spawned"]] = replace(restarts[event["spawned"]], count=restarts[event["spawned"]].count + 1)
    return restarts


def _describe_exit(text: str) -> str:
    """Describe how a process exited, from supervisord's text: `terminated by SIGKILL`, `exit status 1`."""
    number = getattr(signal, text.removeprefix("terminated by ").split(" ")[0], None)
    return f"killed by signal {number:d}" if number else text


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def socket_path(folder: Path) -> Path:
    """Return the path of the supervisor's socket: in the folder, or in a temporary one if that is too long."""
    path = folder / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES - len(".2147483647"):
        return path
    key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if len(os.fsencode(base)) > 40:
        base = Path("/tmp")  # noqa: S108 - the folder below it is private
    return base / f"penstock-{os.getuid()}-{key}" / "supervisor.sock"


def filter_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that services inherit, without variables that would override the settings."""
    return {name: value for name, value in environment.items() if not name.startswith(_FOREIGN)}


def _render_head(layout: Layout, socket_file: Path) -> str:
    return render_template(
        "supervisord.conf",
        socket=escape_value(socket_file),
        log=escape_value(layout.log("supervisor")),
        pid_file=escape_value(layout.run / "supervisord.pid"),
        folder=escape_value(layout.run),
        open_files=min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        user=f"user={getpass.getuser()}" if os.getuid() == 0 else "",
    )


def _render_program(layout: Layout, service: Service) -> str:
    return render_template(
        "supervisord-program.conf",
        name=service.name,
        command=escape_value(shlex.quote(str(script_path(layout, service.name)))),
        log=escape_value(layout.log(service.name)),
        stop_wait_s=service.stop_wait_s,
        steady_s=STEADY_S,
        retries=RETRIES,
    )


def script_path(layout: Layout, name: str) -> Path:
    """Return the path of the script that execs the service."""
    return layout.run / "services" / name


def escape_value(value: object) -> str:
    """Escape a value for supervisord's configuration, where % starts an expansion."""
    return str(value).replace("%", "%%")


@contextlib.contextmanager
def hold_stack_lock(layout: Layout, waiting: Any) -> Iterator[None]:
    """Hold the data directory's lock during `up`, `down` or `restart`. Calls `waiting` if another command holds it."""
    layout.run.mkdir(parents=True, exist_ok=True)
    lock = layout.run / ".changing"
    lock.touch()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(lock, wait=False))
        except BlockingIOError:
            waiting()
            stack.enter_context(hold_lock(lock))
        yield
