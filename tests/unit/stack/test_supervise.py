"""The configuration of supervisord and the client for it."""

import configparser
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import StackError
from penstock.stack import catalog, supervise
from penstock.stack.environment import StackEnvironment
from penstock.stack.layout import Layout
from penstock.stack.supervise import Supervisor


def _written(layout: Layout, environment: StackEnvironment) -> configparser.RawConfigParser:
    Supervisor(layout).configure(catalog.build_services(environment))
    parser = configparser.RawConfigParser()
    parser.read_string((layout.run / "supervisord.conf").read_text(encoding="utf-8"))
    return parser


def test_each_service_is_a_supervised_program(environment: StackEnvironment) -> None:
    """Every service is a supervisord program, started on demand and restarted after exits."""
    parser = _written(environment.layout, environment)
    programs = {name.removeprefix("program:"): parser[name] for name in parser if name.startswith("program:")}
    assert set(programs) == set(catalog.build_services(environment))
    assert {program["autostart"] for program in programs.values()} == {"false"}
    assert {program["autorestart"] for program in programs.values()} == {"true"}


def test_the_configuration_is_private_and_contains_no_secret(environment: StackEnvironment) -> None:
    """The configuration is private and contains no secret: it only names scripts."""
    _written(environment.layout, environment)
    file = environment.layout.run / "supervisord.conf"
    assert file.stat().st_mode & 0o077 == 0
    assert not [secret for secret in environment.secrets.values() if secret in file.read_text(encoding="utf-8")]


def test_a_percent_sign_is_escaped(environment: StackEnvironment, tmp_path: Path) -> None:
    """A percent sign in a path is escaped, because it starts an expansion in supervisord's configuration."""
    layout = Layout(tmp_path / "50% off", tmp_path)
    parser = _written(layout, replace(environment, layout=layout))
    assert "50%% off" in parser["program:kafka"]["command"]
    assert "50%% off" in parser["supervisord"]["logfile"]


def test_a_path_with_a_space_stays_one_word(environment: StackEnvironment, tmp_path: Path) -> None:
    """A path with a space is not split into two arguments."""
    import shlex

    layout = Layout(tmp_path / "my home", tmp_path)
    command = _written(layout, replace(environment, layout=layout))["program:kafka"]["command"]
    assert shlex.split(command) == [str(supervise.script_path(layout, "kafka"))]


def test_a_long_data_directory_path_gets_a_short_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket path fits the kernel's limit of 107 bytes, however long the data directory's path is."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    long = Path("/") / ("x" * 120) / "run"
    assert len(str(supervise.socket_path(long))) < 80
    assert supervise.socket_path(long) != supervise.socket_path(long.parent / "y")
    assert supervise.socket_path(Path("/short/run")) == Path("/short/run/supervisor.sock")


def test_services_do_not_inherit_their_own_variables() -> None:
    """Variables for Airflow, Spark, Java or Python do not reach the services. Proxy settings do."""
    shell = {
        "AIRFLOW_HOME": "x",
        "JAVA_TOOL_OPTIONS": "x",
        "PENSTOCK_HOME": "x",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SPARK_HOME": "x",
        "HTTPS_PROXY": "http://proxy",
        "PATH": "/bin",
    }
    assert supervise.filter_environment(shell) == {"HTTPS_PROXY": "http://proxy", "PATH": "/bin"}


def test_a_missing_supervisor_is_no_error(environment: StackEnvironment) -> None:
    """Without a supervisor, queries return empty results."""
    supervisor = Supervisor(environment.layout)
    assert (supervisor.pid(), supervisor.processes()) == (0, {})


def test_a_slow_supervisor_is_not_a_missing_one(environment: StackEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow supervisor raises an error. If it counted as missing, its services would be ended as orphans."""
    monkeypatch.setattr(supervise, "ANSWER_TIMEOUT_S", 0.1)
    supervisor = Supervisor(environment.layout)
    supervisor.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(supervisor.socket))
        deaf.listen()
        with pytest.raises(StackError, match="no answer from the supervisor"):
            supervisor.pid()


def test_one_change_at_a_time(environment: StackEnvironment) -> None:
    """A second command waits for the first and reports that it waits."""
    has_reported, order = threading.Event(), []

    def second() -> None:
        with supervise.hold_stack_lock(environment.layout, has_reported.set):
            order.append("second")

    with supervise.hold_stack_lock(environment.layout, lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert has_reported.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


LOG = """\
2026-11-23 03:00:00,000 INFO supervisord started with pid 10
2026-11-23 03:00:01,000 WARN exited: kafka (terminated by SIGKILL; not expected)
2026-11-23 03:00:01,100 INFO spawned: 'kafka' with pid 11
2026-11-23 03:22:24,943 INFO Set uid to user 0 succeeded
2026-11-23 03:22:24,947 INFO supervisord started with pid 7143
2026-11-23 03:22:24,956 INFO spawned: 'source' with pid 7145
2026-11-23 03:22:24,956 INFO spawned: 'spark-job' with pid 7146
2026-11-23 03:22:27,028 WARN exited: source (terminated by SIGKILL; not expected)
2026-11-23 03:22:28,362 INFO spawned: 'source' with pid 7228
2026-11-23 03:22:30,000 INFO success: source entered RUNNING state, process has stayed up
2026-11-23 03:22:31,227 INFO stopped: spark-job (exit status 0)
2026-11-23 03:22:40,227 INFO spawned: 'spark-job' with pid 7250
2026-11-23 03:22:41,227 WARN exited: source (terminated by SIGSEGV (core dumped); not expected)
2026-11-23 03:22:42,227 INFO spawned: 'source' with pid 7251
2026-11-23 03:23:41,227 WARN exited: cassandra (exit status 1; not expected)
2026-11-23 03:33:41,227 INFO spawned: 'cassandra' with pid 7252
2026-11-23 03:34:41,227 INFO exited: airflow-api (exit status 0; expected)
"""


def test_restarts_are_counted_since_the_supervisors_start() -> None:
    """Only restarts after unexpected exits count: no stops, no manual starts, none before the supervisor's start."""
    restarts = supervise.count_restarts(LOG.splitlines())
    assert {name: (restart.count, restart.how) for name, restart in restarts.items()} == {
        "source": (2, "killed by signal 11"),
        "cassandra": (0, "exit status 1"),
        "airflow-api": (0, "exit status 0"),
    }
    assert restarts["cassandra"].at_s - restarts["source"].at_s == 60


@given(st.lists(st.sampled_from(LOG.splitlines()) | st.text(), max_size=30))
def test_arbitrary_log_lines_are_accepted(lines: list[str]) -> None:
    """Arbitrary log lines in any order never raise an error."""
    assert all(restart.count >= 0 and restart.how for restart in supervise.count_restarts(lines).values())


def test_the_log_is_read_across_its_rotation(environment: StackEnvironment) -> None:
    """The rotated log of supervisord is read too."""
    lines, log = LOG.splitlines(keepends=True), environment.layout.log("supervisor")
    assert Supervisor(environment.layout).restarts() == {}
    log.parent.mkdir(parents=True)
    log.with_name("supervisor.log.1").write_text("".join(lines[:9]), encoding="utf-8")
    log.write_text("".join(lines[9:]), encoding="utf-8")
    assert Supervisor(environment.layout).restarts() == supervise.count_restarts(LOG.splitlines())
