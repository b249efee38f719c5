"""Order, failures and idempotence of `up` and `down`, with a fake supervisor."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from penstock import config
from penstock.errors import ServiceDied, Unreachable, UsageError, WrongSettings
from penstock.files import write_atomically
from penstock.pipelines import started
from penstock.stack import coordination, launch, start, supervise
from penstock.stack.environment import StackEnvironment
from penstock.stack.report import Stage
from penstock.stack.service import Service, Step
from penstock.stack.start import Starter
from penstock.stack.supervise import Process


class FakeSupervisor:
    """A `Supervisor` without processes. Services in `dying` exit as soon as they are started."""

    def __init__(self, *running: str) -> None:
        self.states = dict.fromkeys(running, "RUNNING")
        self.dying: set[str] = set()
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.ignored = 0
        """Number of requests to stop that have no effect, as for a process between two starts."""

    def pid(self) -> int:
        return 0

    def processes(self) -> dict[str, Process]:
        return {name: Process(name, state, 7, time.time(), "") for name, state in list(self.states.items())}

    def launch(self, environment: object) -> None:
        """Do nothing."""

    def configure(self, services: object) -> None:
        """Do nothing."""

    def start(self, name: str) -> None:
        self.started.append(name)
        self.states[name] = "BACKOFF" if name in self.dying else "RUNNING"

    def stop(self, name: str) -> None:
        self.stopped.append(name)
        if len(self.stopped) > self.ignored:
            self.states[name] = "STOPPED"

    def shutdown(self) -> None:
        """Do nothing."""


class Story(list[tuple[str, str, str]]):
    """A report that records its calls."""

    def __call__(self, service: str, stage: Stage, detail: str = "") -> None:
        self.append((service, stage, detail))

    def stage_of(self, service: str) -> list[str]:
        return [stage for name, stage, _ in self if name == service]


def never_ready(_settings: config.Settings, _started_s: float) -> None:
    raise Unreachable("not yet")


def _service(name: str, *needs: str, **more: object) -> Service:
    service = Service(name, name.title(), "1", ("true",), lambda *_: None, needs=needs, hint=f"./penstock logs {name}")
    return replace(service, **more)  # type: ignore[arg-type]


BringUp = Callable[..., tuple[FakeSupervisor, Story]]


@pytest.fixture
def run(environment: StackEnvironment) -> BringUp:
    """Start services on a fake supervisor and return it with the reports."""

    def bring_up(*services: Service, supervisor: FakeSupervisor | None = None) -> tuple[FakeSupervisor, Story]:
        fake, story = supervisor or FakeSupervisor(), Story()
        environment.layout.logs.mkdir(exist_ok=True)
        launch._start_all(Starter(environment, fake, story), list(services))  # type: ignore[arg-type]
        return fake, story

    return bring_up


def test_a_service_waits_for_those_it_needs(run: BringUp) -> None:
    """A service starts after its dependencies are ready, whatever their order in the list."""
    fake, story = run(_service("c", "b"), _service("b", "a"), _service("a"))
    assert fake.started == ["a", "b", "c"]
    stages = [(name, stage) for name, stage, _ in story]
    assert stages.index(("a", "ready")) < stages.index(("b", "starting")) < stages.index(("b", "ready"))


def test_independent_services_start_in_parallel(run: BringUp) -> None:
    """Independent services start in parallel: each becomes ready only while the other is probed."""
    both = threading.Barrier(2, timeout=5)
    fake, _ = run(*(_service(name, probe=lambda *_: both.wait() and None) for name in ("a", "b")))
    assert sorted(fake.started) == ["a", "b"]


def test_an_exit_aborts_the_start_at_once(run: BringUp, environment: StackEnvironment) -> None:
    """A service that exits aborts `up` long before the timeout, with its log tail and a hint."""
    fake = FakeSupervisor()
    fake.dying = {"a"}

    environment.layout.logs.mkdir(exist_ok=True)
    environment.layout.log("a").write_text("of an earlier start\n")

    def start_and_log(name: str) -> None:
        FakeSupervisor.start(fake, name)
        if name == "a":
            with environment.layout.log(name).open("a") as log:
                log.write("the reason\n")

    fake.start = start_and_log  # type: ignore[method-assign]
    with pytest.raises(ServiceDied) as caught:
        run(_service("a"), _service("b", probe=never_ready), supervisor=fake)
    assert "the reason" in str(caught.value)
    assert "earlier" not in str(caught.value)
    assert caught.value.hint == "./penstock logs a"
    assert fake.stopped == ["a"]


def test_a_timeout_shows_state_and_log(environment: StackEnvironment) -> None:
    """A timeout shows the last probe error, the state and the log."""
    settings = environment.settings.model_copy(update={"ready_timeout_s": 0.01})
    starter = Starter(replace(environment, settings=settings), FakeSupervisor(), Story())  # type: ignore[arg-type]
    environment.layout.logs.mkdir(exist_ok=True)
    with pytest.raises(Unreachable, match=r"not yet(.|\n)*state RUNNING(.|\n)*a\.log"):
        starter.bring_up(_service("a", probe=never_ready))


def test_a_restart_by_the_supervisor_counts_as_a_failure(environment: StackEnvironment) -> None:
    """A restart by the supervisor between two probes counts as a failed start."""
    fake = FakeSupervisor()
    ids = iter(range(100, 200))
    fake.processes = lambda: {"a": Process("a", "RUNNING", next(ids), 0.0, "")}  # type: ignore[method-assign]
    starter = Starter(environment, fake, Story())  # type: ignore[arg-type]
    starter._check_alive(_service("a"), Process("a", "RUNNING", 100, 0.0, ""))
    starter._queried_s = 0.0
    with pytest.raises(ServiceDied):
        starter._check_alive(_service("a"), Process("a", "RUNNING", 100, 0.0, ""))


def test_starting_twice_starts_nothing_again(run: BringUp) -> None:
    """A running service is only probed."""
    fake, _ = run(_service("a"))
    again, story = run(_service("a"), supervisor=fake)
    assert again.started == ["a"]
    assert story == [("a", "unchanged", "")]


def test_changed_settings_are_reported_not_applied(run: BringUp) -> None:
    """A running service with changed settings is not restarted. The report says how to restart it."""
    fake, _ = run(_service("a"))
    _, story = run(_service("a", command=("false",)), supervisor=fake)
    assert story == [("a", "outdated", "its settings changed: ./penstock restart a")]


def test_the_pipeline_of_a_started_service_is_recorded(run: BringUp, environment: StackEnvironment) -> None:
    """The pipeline of a service is recorded when it is started, not when a running one is probed."""
    note = started.path_of(environment.settings, "a")
    carries = {"PENSTOCK_PIPELINE": environment.settings.pipeline}
    fake, _ = run(_service("a", env=carries), _service("b"))
    assert note.read_text() == started.render_identity(environment.settings)
    assert not started.path_of(environment.settings, "b").exists()
    note.write_text("of an earlier start")
    run(_service("a", env=carries), supervisor=fake)
    assert note.read_text() == "of an earlier start"
    fake.stop("a")
    run(_service("a", env=carries), supervisor=fake)
    assert note.read_text() == started.render_identity(environment.settings)


def test_a_step_runs_once(run: BringUp, environment: StackEnvironment) -> None:
    """A step runs only before the first start, even if two services share it."""
    done = environment.layout.home / "done"
    step = Step("count", ("/bin/sh", "-c", f"echo x >>{environment.layout.home / 'count'}"), done)
    for _ in range(2):
        run(_service("a", prepare=(step,)), _service("b", prepare=(step,)))
    assert (environment.layout.home / "count").read_text() == "x\n"
    assert done.exists()


def test_the_error_of_a_failed_step_quotes_its_output(run: BringUp, environment: StackEnvironment) -> None:
    """A failed step starts nothing and is retried next time. The error quotes its output."""
    step = Step("format", ("/bin/sh", "-c", "echo no room; exit 3"), environment.layout.home / "done")
    fake = FakeSupervisor()
    with pytest.raises(ServiceDied, match=r"a: format failed \(3\)\nno room"):
        run(_service("a", prepare=(step,)), supervisor=fake)
    assert fake.started == []
    assert not step.done.exists()


def test_steps_carry_the_marker(run: BringUp, environment: StackEnvironment) -> None:
    """Steps carry the marker, so that orphans of a killed launcher are found."""
    out = environment.layout.home / "mark"
    step = Step("mark", ("/bin/sh", "-c", f"echo ${supervise.MARKER} >{out}"), environment.layout.home / "done")
    run(_service("a", prepare=(step,)))
    assert out.read_text().strip() == environment.layout.marker


def test_down_stops_dependents_first() -> None:
    """A service is stopped before its dependencies."""
    fake = FakeSupervisor("a", "b", "c")
    services = {service.name: service for service in (_service("a"), _service("b", "a"), _service("c", "b"))}
    launch._stop_all(fake, services, list(services), Story())  # type: ignore[arg-type]
    assert fake.stopped == ["c", "b", "a"]


def test_down_stops_a_service_that_was_just_restarted() -> None:
    """A request while a crashing service is between two starts has no effect: it is repeated."""
    fake = FakeSupervisor("a")
    fake.ignored = 1
    launch._stop_all(fake, {"a": _service("a")}, ["a"], Story())  # type: ignore[arg-type]
    assert fake.stopped == ["a", "a"]


def test_down_leaves_others_alone() -> None:
    """Only running services that were named are stopped."""
    fake = FakeSupervisor("a", "b")
    services = {service.name: service for service in (_service("a"), _service("b"), _service("c"))}
    launch._stop_all(fake, services, ["b", "c"], Story())  # type: ignore[arg-type]
    assert fake.stopped == ["b"]


def test_destroy_rejects_a_folder_without_a_stack(tmp_path: Path) -> None:
    """With a mistyped PENSTOCK_HOME nothing is deleted."""
    (tmp_path / "data").mkdir()
    with pytest.raises(UsageError, match="no local stack in"):
        launch.destroy_stack(config.read(home=tmp_path))
    assert (tmp_path / "data").exists()


def test_destroy_keeps_downloads_and_foreign_files(
    environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data, logs, jars and secrets are deleted. Downloads and foreign files stay."""
    monkeypatch.setattr(launch, "stop_services", lambda *_: None)
    for name in ("data", "logs", "run", "jars", "cache", "mine"):
        (environment.layout.home / name).mkdir()
    launch.destroy_stack(environment.settings)
    assert sorted(path.name for path in environment.layout.home.iterdir()) == ["cache", "mine"]


@pytest.fixture
def zookeeper_runs(environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(environment.layout.run / "coordination", "zookeeper")
    monkeypatch.setattr(coordination, "Supervisor", lambda _layout: FakeSupervisor("kafka"))


@pytest.mark.usefixtures("zookeeper_runs")
def test_the_running_coordination_is_adopted(environment: StackEnvironment) -> None:
    """Once Kafka is running with ZooKeeper, later commands use it without an option."""
    assert coordination.record_coordination(environment).settings.coordination == "zookeeper"


@pytest.mark.usefixtures("zookeeper_runs")
def test_another_coordination_is_rejected_while_kafka_runs(environment: StackEnvironment) -> None:
    """Another coordination is rejected while Kafka is running, because its data is separate. `down` still works."""
    requested = replace(environment, settings=config.read(home=environment.settings.home, coordination="kraft"))
    with pytest.raises(UsageError, match="Kafka is running with zookeeper, not with kraft"):
        coordination.record_coordination(requested)
    assert coordination.adopt_coordination(requested).settings.coordination == "zookeeper"


def test_probing_stops_when_another_fails(environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled start stops waiting at once."""
    monkeypatch.setattr(start, "PROBE_EVERY_S", 0.01)
    starter = Starter(environment, FakeSupervisor(), Story())  # type: ignore[arg-type]
    starter.cancelled.set()
    with pytest.raises(start.Cancelled):
        starter.bring_up(_service("a", probe=never_ready))


@pytest.mark.parametrize("command", [launch.start_services, launch.restart_services])
def test_an_invalid_pipeline_starts_and_stops_nothing(tmp_path: Path, command: Callable[..., None]) -> None:
    """An invalid pipeline is rejected before any service is started or stopped."""
    settings = config.read(home=tmp_path / "home", pipeline=str(tmp_path / "none.py"))
    with pytest.raises(WrongSettings, match="file not found"):
        command(settings)
    assert not (tmp_path / "home").exists()
