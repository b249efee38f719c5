"""A service that is stopped or hangs for a while, and the whole stack killed at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from penstock.drill.plan import Drill, Fault, LogEvidence
from penstock.drill.target import Ground, kill
from penstock.stack import orphans

AWAY_S, FROZEN_S = 60.0, 30.0
_CUT_S = 15.0


def away(service: str) -> Fault:
    """Return the fault that stops a service. It is started again at the end."""

    @contextmanager
    def fault(ground: Ground) -> Iterator[None]:
        try:
            ground.stop(service)
            yield
        finally:
            ground.start(service)

    return fault


def frozen(service: str) -> Fault:
    """Return the fault that suspends a service with SIGSTOP: it accepts connections but never responds."""

    @contextmanager
    def fault(ground: Ground) -> Iterator[None]:
        processes = ground.tree(service)
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
def power_cut(ground: Ground) -> Iterator[None]:
    """Kill every process of the stack at once, the supervisor first. `up` restarts them at the end."""
    supervisor = ground.supervisor.pid()
    try:
        kill([psutil.Process(supervisor)] if supervisor else [])
        _kill_all(ground)
        yield
    finally:
        ground.up()


def _kill_all(ground: Ground) -> None:
    """Kill all processes of the stack, repeatedly: new ones may start while the others are listed."""
    deadline = time.monotonic() + _CUT_S
    while (survivors := orphans.find_orphans(ground.layout.marker)) and time.monotonic() < deadline:
        ground.say(f"SIGKILL of {len(survivors)} processes")
        kill(survivors)
        psutil.wait_procs(survivors, timeout=1.0)


DRILLS = (
    Drill(
        "kafka-away",
        "Kafka is stopped for 60 s",
        away("kafka"),
        hold_s=AWAY_S,
        evidence=(
            LogEvidence("supervisor.log", r"stopped: kafka"),
            LogEvidence("airflow/**/*.log", r"DeliveryFailed|KafkaUnreachable"),
        ),
    ),
    Drill(
        "cassandra-away",
        "Cassandra is stopped for 60 s",
        away("cassandra"),
        hold_s=AWAY_S,
        evidence=(LogEvidence("spark-job.log", r"(?i)cassandra.*(unreachable|refused|no answer|NoHostAvailable)"),),
    ),
    Drill(
        "cassandra-frozen",
        "Cassandra gets SIGSTOP for 30 s: timeouts, not errors",
        frozen("cassandra"),
        hold_s=FROZEN_S,
        evidence=(LogEvidence("spark-job.log", r"(?i)OperationTimedOut|timed out|no answer"),),
    ),
    Drill(
        "power-cut",
        "every process of the stack is killed at once; `up` starts it again",
        power_cut,
        evidence=(
            LogEvidence("supervisor.log", r"supervisord started"),
            LogEvidence("spark-master.log", r"Trying to recover app"),
        ),
    ),
)
