import re

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from penstock import config
from penstock.cli import app
from penstock.monitoring import alerts, watch
from penstock.monitoring.history import History
from tests.unit.monitoring.test_alerts import WRONG
from tests.unit.monitoring.test_history import change


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A separate data directory."""
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    return config.read(home=tmp_path / "home")


def run(*words):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(("found", "code"), [([], 0), ([change(1)], 1)])
def test_watch_once_prints_what_is_wrong(monkeypatch, found, code):
    """`watch --once` prints active alerts with commands, and exits with 1 if there are any."""
    monkeypatch.setattr(watch, "poll_once", lambda _settings: found)
    result = run("watch", "--once")
    assert result.exit_code == code
    assert ("./penstock status" in result.stdout) == bool(found)
    result = run("watch", "--once", "--json")
    assert (result.exit_code, len(msgspec.json.decode(result.stdout))) == (code, len(found))


def test_the_loop_prints_changes_only_as_json(monkeypatch):
    """The loop prints changes only with --json, one per line. The log has them anyway."""
    monkeypatch.setattr(watch, "run_watcher", lambda _settings, _stop, tell: tell(change(1)))
    assert run("watch").stdout == ""
    (line,) = run("watch", "--json").stdout.splitlines()
    assert msgspec.json.decode(line)["name"] == "service_down"


def test_alerts_are_those_of_the_file(home):
    """`alerts` prints active alerts, with --all every change, both also as JSON."""
    History(home).append([change(1), change(2, "resolved"), change(3, subject="cassandra")])
    shown = run("alerts").stdout
    assert "service_down" in shown
    assert [item["subject"] for item in msgspec.json.decode(run("alerts", "--json").stdout)] == ["cassandra"]
    assert [item["number"] for item in msgspec.json.decode(run("alerts", "--all", "--json").stdout)] == [1, 2, 3]
    assert len(run("alerts", "--all").stdout.splitlines()) == 4


def test_without_alerts_stdout_is_empty(home):
    """And the exit code is 0."""
    result = run("alerts")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no active alerts" in result.stderr


def test_alerts_says_if_no_watcher_runs(home):
    """If no watcher is running, `alerts` says so, because the list is out of date."""
    assert "./penstock up watch" in run("alerts").stderr
    home.watch_beat.parent.mkdir(parents=True)
    home.watch_beat.touch()
    assert "no alert watcher" not in run("alerts").stderr


@pytest.mark.parametrize("name", alerts.RULES)
def test_each_alert_names_a_command_that_exists(home, name):
    """The command in each alert exists."""
    (result,) = alerts.Board().take(WRONG[name], home, patient=False)
    words = re.findall(r"[\w-]+", result.command.removeprefix("./penstock "))
    command = typer.main.get_command(app).commands[words[0]]
    if hasattr(command, "commands") and not command.invoke_without_command:
        assert words[1] in command.commands
