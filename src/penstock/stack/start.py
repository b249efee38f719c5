"""Start a service: install, prepare, start, wait until it is ready."""

import os
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from penstock import remedies
from penstock.config import PREFIX
from penstock.errors import ServiceDied, Unreachable
from penstock.files import write_atomically
from penstock.pipelines import started
from penstock.retry import wait_until
from penstock.stack import jars, logs
from penstock.stack.environment import StackEnvironment
from penstock.stack.report import Report
from penstock.stack.service import Service, Step
from penstock.stack.supervise import MARKER, Process, Supervisor, SupervisorNotRunning, filter_environment, script_path

PROBE_EVERY_S = 0.3
PREPARE_TIMEOUT_S = 300
TAIL_LINES = 20
PIPELINE = f"{PREFIX}PIPELINE"


class Cancelled(Exception):
    """The start was cancelled because another service failed."""


@dataclass
class Starter:
    """Starts services. One instance is shared by the threads of one `up`."""

    environment: StackEnvironment
    supervisor: Supervisor
    report: Report
    cancelled: threading.Event = field(default_factory=threading.Event)
    _processes: dict[str, Process] = field(default_factory=dict)
    _queried_s: float = 0.0
    _log_starts: dict[str, int] = field(default_factory=dict)
    _locks: dict[object, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def bring_up(self, service: Service) -> None:
        """Start the service unless it is running, and wait until it is ready.

        Raises `ServiceDied` as soon as its process has exited, `Unreachable` if it is not ready in time.
        """
        running = self.supervisor.processes().get(service.name)
        if running and running.alive:
            is_current = self._is_current(service)
            self._wait_until_ready(service, running)
            outdated = f"its settings changed: {remedies.restart(service.name)}"
            self.report(service.name, "unchanged" if is_current else "outdated", "" if is_current else outdated)
            return
        start_s = time.monotonic()
        self._write_files(service)
        self._prepare_service(service)
        self._start_service(service)
        self.report(service.name, "ready", f"{time.monotonic() - start_s:.1f} s")

    def install(self, service: Service) -> None:
        """Install the service's jars. Requires no other service, so it can run before those are ready."""
        for group in service.jars:
            with self._locks[group]:
                if not jars.is_installed(self.environment.layout, group):
                    self.report(service.name, "installing", group)
                    jars.install_group(self.environment.layout, group, check=self.check_cancelled)

    def _write_files(self, service: Service) -> None:
        for folder in (*service.folders, self.environment.layout.temporary):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locks["files"]:
            for file in service.files:
                write_atomically(file.path, file.text, file.mode)
        write_atomically(script_path(self.environment.layout, service.name), service.script(), 0o700)

    def _prepare_service(self, service: Service) -> None:
        for step in service.prepare:
            with self._locks[str(step.done)]:
                if not step.done.exists():
                    self.check_cancelled()
                    self.report(service.name, "preparing", step.name)
                    self._run_step(service, step)

    def _run_step(self, service: Service, step: Step) -> None:
        script = script_path(self.environment.layout, f"{service.name}-{step.name.replace(' ', '-')}")
        write_atomically(script, service.script(step.command), 0o700)
        log = self.environment.layout.log(script.name)
        env = {**filter_environment(os.environ), MARKER: self.environment.layout.marker}
        with log.open("ab") as out:
            try:
                code = subprocess.run(
                    [str(script)], env=env, stdout=out, stderr=out, timeout=PREPARE_TIMEOUT_S, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
        if code:
            text = "\n".join(logs.read_tail(log, TAIL_LINES))
            raise ServiceDied(f"{service.name}: {step.name} failed ({code})\n{text}", hint=f"read {log}")
        step.done.touch()

    def _start_service(self, service: Service) -> None:
        self.check_cancelled()
        self.report(service.name, "starting")
        write_atomically(self._get_stamp_path(service), service.fingerprint)
        if PIPELINE in service.env:
            write_atomically(
                started.path_of(self.environment.settings, service.name), started.render(self.environment.settings)
            )
        self._log_starts[service.name] = logs.size_bytes(self.environment.layout.log(service.name))
        self.supervisor.start(service.name)
        self._wait_until_ready(service, self._find_process(service))

    def _wait_until_ready(self, service: Service, process: Process) -> None:
        settings = self.environment.settings

        def ready() -> None:
            self.check_cancelled()
            self._check_alive(service, process)
            service.probe(settings, process.started_s)

        try:
            wait_until(ready, timeout_s=settings.ready_timeout_s, every_s=PROBE_EVERY_S, what=service.title)
            if service.after:
                service.after(settings)
        except Unreachable as error:
            message = f"{error.message}\n{self._describe_last(service)}"
            raise type(error)(message, hint=service.hint, **error.facts) from error

    def _check_alive(self, service: Service, first: Process) -> None:
        now = self._find_process(service, at_most_s=PROBE_EVERY_S)
        if not now.alive or (first.pid and now.pid not in {0, first.pid}):
            raise ServiceDied(
                f"{service.name} exited before it was ready\n{self._describe_last(service)}", hint=service.hint
            )

    def _find_process(self, service: Service, *, at_most_s: float = 0.0) -> Process:
        """Return the supervisor's view of the service, at most `at_most_s` old. One query serves all threads."""
        with self._locks["processes"]:
            if time.monotonic() - self._queried_s > at_most_s:
                self._processes, self._queried_s = self.supervisor.processes(), time.monotonic()
            process = self._processes.get(service.name)
        if process is None:
            raise SupervisorNotRunning(hint=remedies.start())
        return process

    def _describe_last(self, service: Service) -> str:
        """Return state and log tail, for an error message."""
        process = self.supervisor.processes().get(service.name)
        state = f"state {process.state} {process.detail}".strip() if process else "no supervisor"
        log = self.environment.layout.log(service.name)
        lines = [f"  | {line}" for line in logs.read_tail(log, TAIL_LINES, self._log_starts.get(service.name, 0))]
        return "\n".join([f"  {state}, last lines of {log}:", *lines])

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if another service failed."""
        if self.cancelled.is_set():
            raise Cancelled

    def _get_stamp_path(self, service: Service) -> Path:
        return self.environment.layout.run / "fingerprints" / service.name

    def _is_current(self, service: Service) -> bool:
        stamp = self._get_stamp_path(service)
        return stamp.exists() and stamp.read_text(encoding="utf-8") == service.fingerprint
