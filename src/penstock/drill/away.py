"""Stop or suspend a service for a while, and kill the whole stack at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from penstock.drill.plan import Drill, Fault, LogEvidence
from penstock.drill.target import Target, kill_processes
from penstock.stack import orphans

AWAY_S, FROZEN_S = 60.0, 30.0
_CUT_S = 15.0


def stop_service(service: str) -> Fault:
    """Return the fault that stops a service. It is started again at the end."""

    @contextmanager
    def fault(target: Target) -> Iterator[None]:
        try:
            target.stop(service)
            yield
        finally:
            target.start(service)

    return fault


def suspend_service(service: str) -> Fault:
    """Return the fault that suspends a service with SIGSTOP: it accepts connections but never responds."""

    @contextmanager
    def fault(target: Target) -> Iterator[None]:
        processes = target.tree(service)
        try:
            _send_signal(processes, signal.SIGSTOP)
            yield
        finally:
            _send_signal(processes, signal.SIGCONT)

    return fault


def _send_signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


@contextmanager
def kill_stack(target: Target) -> Iterator[None]:
    """Kill every process of the stack at once, the supervisor first. `up` restarts them at the end."""
    supervisor = target.supervisor.pid()
    try:
        kill_processes([psutil.Process(supervisor)] if supervisor else [])
        _kill_all(target)
        yield
    finally:
        target.up()


def _kill_all(target: Target) -> None:
    """Kill all processes of the stack, repeatedly: new ones may start while the others are listed."""
    deadline = time.monotonic() + _CUT_S
    while (survivors := orphans.find_orphans(target.layout.marker)) and time.monotonic() < deadline:
        target.say(f"SIGKILL of {len(survivors)} processes")
        kill_processes(survivors)
        psutil.wait_procs(survivors, timeout=1.0)


DRILLS = (
    Drill(
        "kafka-away",
        "Kafka is stopped for 60 s",
        stop_service("kafka"),
        hold_s=AWAY_S,
        evidence=(
            LogEvidence("supervisor.log", r"stopped: kafka"),
            LogEvidence("airflow/**/*.log", r"DeliveryFailed|KafkaUnreachable"),
        ),
    ),
    Drill(
        "cassandra-away",
        "Cassandra is stopped for 60 s",
        stop_service("cassandra"),
        hold_s=AWAY_S,
        evidence=(
            LogEvidence("spark-job.log", r"(?i)cassandra.*(unreachable|refused|no answer|no response|NoHostAvailable)"),
        ),
    ),
    Drill(
        "cassandra-frozen",
        "Cassandra is suspended with SIGSTOP for 30 s: requests time out instead of failing",
        suspend_service("cassandra"),
        hold_s=FROZEN_S,
        evidence=(LogEvidence("spark-job.log", r"(?i)OperationTimedOut|timed out|no answer|no response"),),
    ),
    Drill(
        "power-cut",
        "every process of the stack is killed at once; `up` starts it again",
        kill_stack,
        evidence=(
            LogEvidence("supervisor.log", r"supervisord started"),
            LogEvidence("spark-master.log", r"Trying to recover app"),
        ),
    ),
)
