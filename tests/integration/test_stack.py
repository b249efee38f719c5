"""The local stack itself, with its smallest service: started, killed, restarted, stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from penstock.errors import Unreachable
from penstock.retry import wait_until
from tests.conftest import ROOT, Stack, environment_of


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stack]:
    """A separate stack that starts only the stand-in API."""
    stack = Stack(environment_of(tmp_path / "home", 22_000))  # below the ports that systems give to connections
    yield stack
    assert stack.cli("down").returncode == 0
    assert marked(stack) == []


def marked(stack: Stack) -> list[psutil.Process]:
    """The processes that belong to the stack."""
    result = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PENSTOCK_STACK") == str(stack.settings.home):
                result.append(process)
        except psutil.Error:
            continue
    return result


def source_pid(stack: Stack) -> int:
    (source,) = stack.json("status", "source")
    return int(source["pid"])


def test_up_twice_changes_nothing(small: Stack) -> None:
    """The second call finds everything running."""
    assert small.cli("up", "source").returncode == 0
    pid = source_pid(small)
    assert small.cli("up", "source").returncode == 0
    assert source_pid(small) == pid


def test_a_service_that_dies_is_restarted(small: Stack) -> None:
    """kill -9 of a service: the supervisor restarts it."""
    small.cli("up", "source")
    pid = source_pid(small)
    os.kill(pid, signal.SIGKILL)

    def back() -> None:
        done = small.cli("status", "source")
        if done.returncode or source_pid(small) == pid:
            raise Unreachable(done.stdout)

    wait_until(back, timeout_s=60, what="the stand-in")


@pytest.mark.parametrize("command", ["up", "down"])
def test_commands_recover_from_a_killed_supervisor(small: Stack, command: str) -> None:
    """Its services are orphans, which `up` replaces and `down` ends."""
    small.cli("up", "source")
    old = marked(small)
    (supervisor,) = [process for process in old if "supervisord" in " ".join(process.cmdline())]
    supervisor.kill()
    done = small.cli(command, *(["source"] if command == "up" else []))
    assert done.returncode == 0, done.stderr
    assert not any(process.is_running() for process in old)


def test_down_ends_only_its_own_processes(small: Stack) -> None:
    """A similar process that belongs to no stack survives."""
    other = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], cwd=ROOT)
    try:
        small.cli("up", "source")
        small.cli("down")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)


def test_a_port_in_use_is_named_with_its_process_and_setting(small: Stack) -> None:
    """Nothing is started then."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", small.settings.source_port))
        holder.listen()
        done = small.cli("up", "source")
    assert done.returncode == 1
    assert f"{small.settings.source_port}" in done.stderr
    assert f"{os.getpid()}" in done.stderr
    assert "PENSTOCK_SOURCE_PORT" in done.stderr
    assert marked(small) == []


def test_a_service_that_dies_at_startup_fails_the_launch_at_once(small: Stack) -> None:
    """A Kafka with corrupt data: `up` fails long before any timeout, with the log's tail and a hint."""
    data = small.settings.home / "data" / "kafka"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=99\n")
    began = time.monotonic()
    done = small.cli("up", "kafka")
    assert done.returncode == 1
    assert time.monotonic() - began < small.settings.ready_timeout_s / 2
    assert "kafka" in done.stderr
    assert "another" in done.stderr or "meta.properties" in done.stderr or "node.id" in done.stderr
    assert "./penstock logs kafka" in done.stderr


def test_every_socket_of_the_whole_stack_is_on_loopback(stack: Stack) -> None:
    """No service listens where another machine could reach it."""
    listening = [
        connection.laddr.ip
        for process in marked(stack)
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 10
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_no_secret_is_in_a_command_line(stack: Stack) -> None:
    """What `ps` shows to others contains none of the stack's secrets."""
    secrets = json.loads((stack.settings.home / "secrets.json").read_text())
    lines = [" ".join(process.cmdline()) for process in marked(stack)]
    del secrets["kafka_cluster_id"]
    assert len(secrets) >= 3
    assert [name for name, secret in secrets.items() for line in lines if secret in line] == []


def test_the_whole_stack_fits_in_6_gib(stack: Stack) -> None:
    """Resident memory of all services together, shared pages counted once."""
    services = stack.json("status")
    assert {service["state"] for service in services} == {"ready"}
    assert sum(service["rss_mib"] for service in services) <= 6 * 1024


def test_the_doctor_finds_no_problem(stack: Stack) -> None:
    """Each check passes on a stack that is up."""
    assert [check["name"] for check in stack.json("doctor") if not check["ok"]] == []
