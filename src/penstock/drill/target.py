"""The local stack that drills run on."""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from penstock import pipelines, remedies
from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import LOOPBACK, Settings
from penstock.errors import StackError, Unreachable
from penstock.pipelines import Pipeline
from penstock.retry import wait_until
from penstock.stack import coordination, launch, status
from penstock.stack.environment import read_environment
from penstock.stack.layout import Layout
from penstock.stack.supervise import Supervisor

Say = Callable[[str], None]

STOP_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Target:
    """The stack of the effective settings. `say` receives progress messages."""

    settings: Settings
    layout: Layout
    supervisor: Supervisor
    say: Say

    @property
    def pipeline(self) -> Pipeline:
        """Return the effective pipeline."""
        return pipelines.of(self.settings)

    def ranges(self) -> list[OffsetRange]:
        """Return the topic's current offsets."""
        return topics.fetch_offset_ranges(self.settings, self.pipeline.topic)

    def process(self, service: str) -> psutil.Process:
        """Return the process of a service. Raises `StackError` if there is none."""
        known = self.supervisor.processes().get(service)
        if known is None or not known.pid:
            raise StackError(f"{service} is not running", hint=remedies.start(service))
        return psutil.Process(known.pid)

    def tree(self, service: str) -> list[psutil.Process]:
        """Return the process of a service and all its descendants; empty while there is none."""
        known = self.supervisor.processes().get(service)
        try:
            root = psutil.Process(known.pid) if known and known.pid else None
            return [root, *root.children(recursive=True)] if root else []
        except psutil.NoSuchProcess:
            return []

    def check_ready(self) -> None:
        """Check that every service is ready. Raises `Unreachable` naming those that are not."""
        not_ready = [service for service in status.read_statuses(self.settings) if service.state != "ready"]
        if not_ready:
            raise Unreachable(
                "; ".join(f"{service.name} {service.state} {service.detail}".strip() for service in not_ready)
            )

    def up(self) -> None:
        """Start the services that are not running. Raises the errors of `launch.start_services`."""
        launch.start_services(
            self.settings, report=lambda service, stage, detail="": self.say(f"{service} {stage} {detail}")
        )

    def stop(self, service: str) -> None:
        """Stop a service through the supervisor and wait until it has stopped. Dependent services stay up."""
        wait_until(lambda: self._stop_again(service), timeout_s=STOP_TIMEOUT_S, what=f"{service} to stop")

    def _stop_again(self, service: str) -> None:
        self.supervisor.stop(service)
        known = self.supervisor.processes().get(service)
        if known and known.occupied:
            raise Unreachable(f"{service} is {known.state}")

    def start(self, service: str) -> None:
        """Start a service through the supervisor, without waiting until it is ready."""
        self.supervisor.start(service)


def open_target(settings: Settings, say: Say) -> Target:
    """Return the stack of the effective settings, with Kafka's current mode of coordination."""
    here = coordination.adopt_coordination(read_environment(settings))
    return Target(here.settings, here.layout, Supervisor(here.layout), say)


def kill_processes(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to each process that still exists."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def find_free_port() -> int:
    """Return a free port on loopback."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])
