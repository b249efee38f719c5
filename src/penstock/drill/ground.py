"""The local stack that drills are held on."""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.topics import Span
from penstock.config import LOOPBACK, Settings
from penstock.errors import StackError, Unreachable
from penstock.pipelines import Pipeline
from penstock.retry import wait_until
from penstock.stack import coordination, launch, site, status
from penstock.stack.layout import Layout
from penstock.stack.supervise import Supervisor

Say = Callable[[str], None]

STOP_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Ground:
    """The stack of the settings in force, and somebody who is told how it goes."""

    settings: Settings
    layout: Layout
    supervisor: Supervisor
    say: Say

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline in force."""
        return pipelines.of(self.settings)

    def spans(self) -> list[Span]:
        """What the topic holds now."""
        return topics.spans(self.settings, self.pipeline.topic)

    def process(self, service: str) -> psutil.Process:
        """The process of a service. Raises `StackError` when there is none."""
        known = self.supervisor.processes().get(service)
        if known is None or not known.pid:
            raise StackError(f"{service} does not run", hint=f"./penstock up {service}")
        return psutil.Process(known.pid)

    def tree(self, service: str) -> list[psutil.Process]:
        """The process of a service and all that descend from it; empty while there is none."""
        known = self.supervisor.processes().get(service)
        try:
            root = psutil.Process(known.pid) if known and known.pid else None
            return [root, *root.children(recursive=True)] if root else []
        except psutil.NoSuchProcess:
            return []

    def check_ready(self) -> None:
        """Return when every service is ready. Raises `Unreachable` that names those that are not."""
        waiting = [one for one in status.read(self.settings) if one.state != "ready"]
        if waiting:
            raise Unreachable("; ".join(f"{one.name} {one.state} {one.detail}".strip() for one in waiting))

    def up(self) -> None:
        """Bring up what is not. Raises as `launch.up`."""
        launch.up(self.settings, report=lambda service, stage, detail="": self.say(f"{service} {stage} {detail}"))

    def stop(self, service: str) -> None:
        """Return when the supervisor has stopped the service; those that need it stay up."""
        self.supervisor.stop(service)
        wait_until(lambda: self._stopped(service), timeout_s=STOP_TIMEOUT_S, what=f"{service} to stop")

    def _stopped(self, service: str) -> None:
        known = self.supervisor.processes().get(service)
        if known and known.occupied:
            raise Unreachable(f"{service} is {known.state}")

    def start(self, service: str) -> None:
        """Let the supervisor start the service; it is ready later."""
        self.supervisor.start(service)


def of(settings: Settings, say: Say) -> Ground:
    """The ground of the settings in force, as Kafka runs there now."""
    here = coordination.adopt(site.read(settings))
    return Ground(here.settings, here.layout, Supervisor(here.layout), say)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL each process that is still there."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])
