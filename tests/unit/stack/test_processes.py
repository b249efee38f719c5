"""Ports, orphaned processes and memory, read from the machine."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from penstock.errors import PortTaken, Unreachable
from penstock.stack import orphans, ports, probes, status
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service
from penstock.stack.services import watch
from penstock.stack.supervise import MARKER, Process, Restarts

SLEEP = [sys.executable, "-c", "import sys, time; print(flush=True); time.sleep(60)"]


@pytest.fixture
def marker(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture
def spawn() -> Iterator[object]:
    started: list[subprocess.Popen[bytes]] = []

    def spawn_process(mark: str | None) -> subprocess.Popen[bytes]:
        env = {name: value for name, value in os.environ.items() if name != MARKER}
        process = subprocess.Popen(SLEEP, env=env | ({MARKER: mark} if mark else {}), stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield spawn_process
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_only_processes_with_the_marker_are_ended(spawn: object, marker: str) -> None:
    """Only processes with this stack's marker are ended, not those of another stack or without a marker."""
    ours, other, plain = spawn(marker), spawn(marker + "2"), spawn(None)  # type: ignore[operator]
    assert orphans.end_orphans(marker) == [ours.pid]
    assert not psutil.pid_exists(ours.pid)
    assert (other.poll(), plain.poll()) == (None, None)


def test_descendants_of_the_running_supervisor_are_no_orphans(spawn: object, marker: str) -> None:
    """Descendants of the running supervisor are not orphans."""
    child = spawn(marker)  # type: ignore[operator]
    assert orphans.find_orphans(marker, supervisor_pid=os.getpid()) == []
    assert [process.pid for process in orphans.find_orphans(marker)] == [child.pid]


def test_a_command_inside_the_stack_does_not_end_itself(marker: str) -> None:
    """A task of the stack that runs `penstock down` does not end itself or its parent."""
    code = f"from penstock.stack import orphans; import sys; sys.exit(len(orphans.find_orphans({marker!r})))"
    env = os.environ | {MARKER: marker}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False, timeout=30).returncode == 0


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def _service(*names: str) -> Service:
    return Service("registry", "Registry", "1", ("true",), lambda *_: None, ports=names)


def test_a_taken_port_names_holder_and_setting(environment: StackEnvironment, taken: int) -> None:
    """The error names the holder of the port, the service that needs it and the setting to change."""
    settings = environment.settings.model_copy(update={"registry_port": taken})
    with pytest.raises(PortTaken) as caught:
        ports.check_ports(settings, [_service("registry_port")])
    assert f"port {taken}, needed by registry, is in use by {psutil.Process().name()} (process {os.getpid()})" in str(
        caught.value
    )
    assert "PENSTOCK_REGISTRY_PORT" in caught.value.hint


def test_every_taken_port_is_in_the_hint(environment: StackEnvironment, taken: int) -> None:
    """A single error lists all ports in use."""
    settings = environment.settings.model_copy(update={"registry_port": taken, "registry_management_port": taken})
    with pytest.raises(PortTaken) as caught:
        ports.check_ports(settings, [_service("registry_port", "registry_management_port")])
    assert caught.value.hint.endswith(": PENSTOCK_REGISTRY_PORT PENSTOCK_REGISTRY_MANAGEMENT_PORT")


def test_a_free_port_passes(environment: StackEnvironment, taken: int) -> None:
    """A port on which no process listens is free."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        free = server.getsockname()[1]
    ports.check_ports(environment.settings.model_copy(update={"registry_port": free}), [_service("registry_port")])


def test_memory_counts_children(spawn: object) -> None:
    """The memory of a process includes its children's."""
    alone = status.measure_memory_mib(spawn(None).pid)  # type: ignore[operator]
    spawn(None)  # type: ignore[operator]
    assert 0 < alone < status.measure_memory_mib(os.getpid())
    assert status.measure_memory_mib(0) == 0


def _never(*_: object) -> None:
    raise Unreachable("no answer")


@pytest.mark.parametrize(
    ("process", "ready", "state"),
    [
        (None, True, "stopped"),
        (Process("x", "STOPPED", 0, 0, ""), True, "stopped"),
        (Process("x", "EXITED", 0, 0, ""), True, "stopped"),
        (Process("x", "FATAL", 0, 0, "spawn error"), True, "dead"),
        (Process("x", "BACKOFF", 0, 0, ""), True, "restarting"),
        (Process("x", "STOPPING", 1, 0, ""), True, "stopping"),
        (Process("x", "STARTING", 1, 0, ""), True, "ready"),
        (Process("x", "RUNNING", 1, 4e9, ""), False, "starting"),
        (Process("x", "RUNNING", 1, 0, ""), False, "failing"),
        (Process("x", "UNSUPERVISED", 1, 0, "gone"), True, "unsupervised"),
    ],
)
def test_the_state_is_that_of_the_probe(
    environment: StackEnvironment, process: Process | None, ready: bool, state: str
) -> None:
    """A running process is ready if its probe succeeds, and failing if it has not for too long."""
    service = Service("x", "X", "1", ("true",), (lambda *_: None) if ready else _never)
    assert status._determine_state(environment.settings, service, process)[0] == state


@pytest.mark.parametrize(
    ("beat", "fine"), [("2026-11-23T01:00:10+00:00", True), ("2026-11-23T00:59:50+00:00", False), (None, False)]
)
def test_a_heartbeat_of_an_earlier_process_does_not_count(
    environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch, beat: str | None, fine: bool
) -> None:
    """Only heartbeats since the start count, because Airflow calls a scheduler healthy for 30 s after its death."""
    answer = {"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": beat}}
    monkeypatch.setattr(probes, "_get_json", lambda *_: answer)
    started_s = 1795395600.0  # 2026-11-23T01:00:00Z
    if fine:
        probes.probe_airflow_scheduler(environment.settings, started_s)
    else:
        with pytest.raises(Unreachable, match="has sent no heartbeat"):
            probes.probe_airflow_scheduler(environment.settings, started_s)


@pytest.mark.parametrize(
    ("master", "executors", "fine"),
    [
        ("spark://127.0.0.1:7077", ["driver", "0"], True),
        ("spark://127.0.0.1:7077", ["driver"], False),
        ("local[2]", ["driver"], True),
    ],
)
def test_a_job_without_executor_is_not_ready(
    environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch, master: str, executors: list[str], fine: bool
) -> None:
    """A job without executors is not ready. In local mode the driver is the executor."""

    def answer(address: str, _kind: type[Unreachable]) -> list[dict[str, object]]:
        if address.endswith("/executors"):
            return [{"id": name, "isActive": True} for name in executors]
        return [{"id": "app-1"}]

    monkeypatch.setattr(probes, "_get_json", answer)
    monkeypatch.setattr(
        probes, "_fetch_url", lambda *_: httpx2.Response(200, text="<a>Active Streaming Queries (1)</a>")
    )
    settings = environment.settings.model_copy(update={"spark_master": master})
    if fine:
        probes.probe_spark_job(settings, 0.0)
    else:
        with pytest.raises(Unreachable, match="no executor"):
            probes.probe_spark_job(settings, 0.0)


def test_a_job_that_does_not_stream_yet_is_not_ready(
    environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is not ready until it streams, although its page answers as soon as Spark is up."""
    monkeypatch.setattr(
        probes, "_fetch_url", lambda *_: httpx2.Response(200, text="<h3>Streaming Query Statistics</h3>")
    )
    with pytest.raises(Unreachable, match="no active streaming query yet"):
        probes.probe_spark_job(environment.settings, 0.0)


def test_services_that_outlive_their_supervisor_are_unsupervised(
    environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch, spawn_service: Callable[[str], int]
) -> None:
    """Services without their supervisor are found by their root process and shown with the command to run."""
    pid = spawn_service("source")
    monkeypatch.setattr(status, "read_environment", lambda _: environment)
    services = {service.name: service for service in status.read_statuses(environment.settings)}
    assert (services["source"].state, services["source"].pid) == ("unsupervised", pid)
    assert "./penstock up" in services["source"].detail
    assert {service.state for name, service in services.items() if name != "source"} == {"stopped"}


@pytest.fixture
def spawn_service(environment: StackEnvironment) -> Iterator[Callable[[str], int]]:
    """Start a process and a child of it with the environment that supervisord sets."""
    started: list[subprocess.Popen[bytes]] = []
    code = f"import subprocess, sys; subprocess.run([sys.executable, *{SLEEP[1:]!r}], check=False)"

    def start(name: str) -> int:
        env = os.environ | {MARKER: environment.layout.marker, "SUPERVISOR_PROCESS_NAME": name}
        process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process.pid

    yield start
    for process in started:
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.wait(20)
        assert process.stdout
        process.stdout.close()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (-5, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (400_000, "5 d")]
)
def test_a_duration_is_formatted_in_its_largest_unit(seconds: float, text: str) -> None:
    """A duration is formatted in its largest unit."""
    assert status._format_duration(seconds) == text


def test_the_last_exit_is_shown(environment: StackEnvironment) -> None:
    """The last exit is shown after the probe's message, with the number of restarts."""
    service = Service("x", "X", "1", ("true",), _never)
    ends = Restarts(2, "killed by signal 9", time.time() - 12)
    result = status._build_status(environment.settings, service, Process("x", "RUNNING", 0, 4e9, ""), ends)
    assert (result.restarts, result.detail) == (2, "no answer; last unexpected exit: killed by signal 9, 12 s ago")
    assert status._build_status(environment.settings, service, None, ends).detail == ""


@pytest.mark.parametrize(
    ("process", "state", "detail"),
    [("RUNNING", "stuck", "on 0:7"), ("BACKOFF", "restarting", "too quickly; on 0:7"), ("STOPPED", "stopped", "")],
)
def test_a_running_service_that_is_stuck_is_not_ready(
    environment: StackEnvironment, process: str, state: str, detail: str
) -> None:
    """The problem of a stuck service is shown whatever its probe returns, also while it is crash-looping."""
    service = Service("x", "X", "1", ("true",), lambda *_: None, problem=lambda _settings: "on 0:7")
    spawn = "too quickly" if process == "BACKOFF" else ""
    result = status._build_status(environment.settings, service, Process("x", process, 0, 4e9, spawn), Restarts())
    assert (result.state, result.detail) == (state, detail)


@pytest.mark.parametrize(
    ("beat_s", "started_s", "fine"), [(None, 0, False), (-5, -60, True), (-31, -60, False), (-60, -30, False)]
)
def test_a_polling_watcher_is_ready(
    environment: StackEnvironment, beat_s: float | None, started_s: float, fine: bool
) -> None:
    """The watcher is ready if its heartbeat is recent and newer than its process."""
    now_s, beat = time.time(), environment.settings.watch_beat
    if beat_s is not None:
        beat.parent.mkdir(parents=True, exist_ok=True)
        beat.touch()
        os.utime(beat, (now_s + beat_s, now_s + beat_s))
    if fine:
        watch.probe_watch(environment.settings, now_s + started_s)
    else:
        with pytest.raises(Unreachable, match="has not polled"):
            watch.probe_watch(environment.settings, now_s + started_s)
