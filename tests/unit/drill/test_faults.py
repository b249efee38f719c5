"""The faults, on processes and files of the test's own."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from penstock.drill import away, checkpoint_faults, disk, kill, runner
from penstock.drill import target as ground_
from penstock.drill.plan import Drill
from penstock.drill.target import Target
from penstock.errors import StackError, Unreachable
from penstock.retry import wait_until

WRITES = """
import sys
sys.stdout.write("up\\n")
sys.stdout.flush()
for line in sys.stdin:
    try:
        with open(sys.argv[1], "wb") as file:
            file.write(b"x" * 100_000)
        answer = "wrote"
    except OSError as error:
        answer = error.strerror
    sys.stdout.write(answer + "\\n")
    sys.stdout.flush()
"""


class FakeSupervisor:
    """A supervisor whose services are processes of the test."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.pids = pids
        self.calls: list[tuple[str, str]] = []

    def processes(self) -> dict[str, Any]:
        return {name: SimpleNamespace(pid=pid, occupied=False, state="STOPPED") for name, pid in self.pids.items()}

    def stop(self, name: str) -> None:
        self.calls.append(("stop", name))

    def start(self, name: str) -> None:
        self.calls.append(("start", name))


@pytest.fixture
def writer(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """A process that writes a file of 100 kB on request."""
    command = [sys.executable, "-c", WRITES, str(tmp_path / "written")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait(10)
    process.stdout.close()
    process.stdin.close()


def ask(writer: "subprocess.Popen[str]") -> str:
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write("\n")
    writer.stdin.flush()
    return writer.stdout.readline().strip()


@contextmanager
def interrupted(fault: AbstractContextManager[None]) -> Iterator[None]:
    """The fault, ended by Ctrl-C after the block."""
    with pytest.raises(KeyboardInterrupt), fault:  # noqa: PT012 - the block is the test's
        yield
        raise KeyboardInterrupt


def ground_of(supervisor: FakeSupervisor, logs: Path = Path("none")) -> Target:
    nothing: Any = SimpleNamespace(logs=logs)
    anyone: Any = supervisor
    return Target(nothing, nothing, anyone, lambda _: None)


def test_a_full_disk_is_full_for_the_duration_of_the_fault(writer: "subprocess.Popen[str]") -> None:
    """A write fails within the fault, and works again after it, even if it ends by Ctrl-C."""
    ground = ground_of(FakeSupervisor({"cassandra": writer.pid}))

    def limited() -> None:
        if resource.prlimit(writer.pid, resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY:
            raise Unreachable("no limit yet")

    assert ask(writer) == "wrote"
    with interrupted(disk.fill_disk("cassandra", lambda _: None)(ground)):
        wait_until(limited, timeout_s=10, every_s=0.01, what="the limit")
        assert ask(writer) == "File too large"
    assert ask(writer) == "wrote"


def test_a_frozen_process_continues_afterwards(writer: "subprocess.Popen[str]") -> None:
    """SIGSTOP within the fault, SIGCONT at its end, even if it ends by Ctrl-C."""
    ground, process = ground_of(FakeSupervisor({"cassandra": writer.pid})), psutil.Process(writer.pid)

    def stopped() -> None:
        if process.status() != psutil.STATUS_STOPPED:
            raise Unreachable(process.status())

    with interrupted(away.suspend_service("cassandra")(ground)):
        wait_until(stopped, timeout_s=10, every_s=0.01, what="it to stop")
    assert ask(writer) == "wrote"


def test_a_stopped_service_is_started_again_even_after_ctrl_c() -> None:
    """The service is started once, whatever happens meanwhile."""
    supervisor = FakeSupervisor({"kafka": 0})
    with interrupted(away.stop_service("kafka")(ground_of(supervisor))):
        assert supervisor.calls == [("stop", "kafka")]
    assert supervisor.calls == [("stop", "kafka"), ("start", "kafka")]


def test_a_killed_process_is_dead(writer: "subprocess.Popen[str]") -> None:
    """SIGKILL; and a process that has already exited is no error."""
    fault = kill.kill_process(lambda ground: ground.process("kafka"))
    with fault(ground_of(FakeSupervisor({"kafka": writer.pid}))):
        assert writer.wait(10) == -9
    ground_.kill_processes([psutil.Process()] if writer.poll() is None else [])


def test_a_service_without_a_process_cannot_be_faulted() -> None:
    """The error names it and what to type."""
    with pytest.raises(StackError, match=r"kafka is not running[\s\S]*\./penstock up kafka"):
        ground_of(FakeSupervisor({})).process("kafka")
    assert ground_of(FakeSupervisor({})).tree("kafka") == []


def test_the_newest_file_of_a_checkpoint_is_that_of_the_highest_batch(tmp_path: Path) -> None:
    """By number, not by name; Hadoop's checksums next to them do not count."""
    for name in ("8", "9", "10", ".10.crc", "torn"):
        (tmp_path / name).touch()
    assert checkpoint_faults.find_newest(tmp_path).name == "10"
    with pytest.raises(StackError, match="no batch in"):
        checkpoint_faults.find_newest(tmp_path / "nowhere")


def test_a_failed_step_is_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of a drill whose stack does not start says so, and that nothing was sent."""

    def up(_: Target) -> None:
        raise Unreachable("Kafka: not ready after 240 s")

    monkeypatch.setattr(Target, "up", up)
    result = runner.run_drill(ground_of(FakeSupervisor({})), Drill("kill-kafka", "SIGKILL of Kafka"), 100)
    assert (result.verdict, result.sent) == ("stack: Kafka: not ready after 240 s", 0)


def test_a_fault_ends_before_its_repair() -> None:
    """The recovery time includes the repair itself."""
    repaired: list[float] = []

    @contextmanager
    def fault(_: Target) -> Iterator[None]:
        yield
        repaired.append(time.monotonic())

    facts = runner.Facts("kill-kafka")
    course = runner.DrillRun(ground_of(FakeSupervisor({})), Drill("kill-kafka", "", fault), facts)
    course._inject_fault()
    assert course._ended_s <= repaired[0]
