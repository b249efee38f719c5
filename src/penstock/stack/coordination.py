"""Coordination of the local Kafka: KRaft or ZooKeeper. Cannot change while it runs, since each has its own data."""

from dataclasses import replace

from penstock import remedies
from penstock.errors import UsageError
from penstock.files import write_atomically
from penstock.stack.environment import StackEnvironment
from penstock.stack.supervise import Supervisor


def adopt_coordination(environment: StackEnvironment) -> StackEnvironment:
    """Return the environment with the running Kafka's coordination, or unchanged if Kafka is not running."""
    running = _read_running(environment)
    if running in {"", environment.settings.coordination}:
        return environment
    return replace(environment, settings=environment.settings.model_copy(update={"coordination": running}))


def record_coordination(environment: StackEnvironment) -> StackEnvironment:
    """Do what `adopt_coordination` does and record the coordination for later commands.

    Raises `UsageError` if Kafka is running with another coordination than explicitly requested.
    """
    running, requested = _read_running(environment), environment.settings.coordination
    if running and running != requested and "coordination" in environment.settings.model_fields_set:
        raise UsageError(
            f"Kafka is running with {running}, not with {requested}",
            hint=remedies.change_coordination(requested),
        )
    effective = adopt_coordination(environment)
    write_atomically(environment.layout.run / "coordination", effective.settings.coordination)
    return effective


def _read_running(environment: StackEnvironment) -> str:
    file = environment.layout.run / "coordination"
    kafka = Supervisor(environment.layout).processes().get("kafka")
    return file.read_text(encoding="utf-8") if kafka and kafka.occupied and file.exists() else ""
