import subprocess
import sys
from types import SimpleNamespace

import hypothesis
import pytest
from typer.testing import CliRunner

from penstock.cli import app, checks, reference
from penstock.config import Settings
from penstock.errors import WrongSettings
from penstock.stack.layout import REPOSITORY


@pytest.fixture
def commands(monkeypatch):
    """Record the commands that are run. Those that contain a word of `fails` fail."""
    world = SimpleNamespace(run=[], fails="nothing")

    def run(command, **_):
        world.run.append(command)
        return SimpleNamespace(returncode=int(any(world.fails in word for word in command)), stdout="what it printed\n")

    monkeypatch.setattr(subprocess, "run", run)
    return world


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_check_runs_every_check(commands):
    """`check` runs all checks, shows what they print, and tries fewer examples of each property."""
    result = run("check")
    assert result.exit_code == 0
    assert result.stdout == "what it printed\n" * len(checks.CHECKS)
    expected = [[*command, *([checks.QUICK] if "tests" in name else [])] for name, command in checks.CHECKS.items()]
    assert sorted(commands.run) == sorted(expected)


def test_every_unit_test_is_run_by_one_check():
    """What one process ignores, another one runs, and the first one runs everything else."""
    paths = [command[len(checks.PYTEST) :] for name, command in checks.CHECKS.items() if "tests" in name]
    assert paths[0][0] == "tests/unit"
    ignored = {option.removeprefix("--ignore=") for _, *options in paths for option in options}
    assert ignored == {path for path, *_ in paths[1:]}
    assert all((REPOSITORY / path).exists() for path in ignored)


def test_fewer_examples_are_tried_only_on_request(pytestconfig):
    """Pytest tries all examples of a property, unless `check` starts it."""
    is_quick = pytestconfig.getoption("--hypothesis-profile") == "quick"
    assert hypothesis.settings().max_examples == (16 if is_quick else 50)


def test_a_check_that_fails_does_not_hide_the_others(commands):
    """A failure is printed and exits with 1, and the other checks still run."""
    commands.fails = "mypy"
    result = run("check")
    assert result.exit_code == 1
    assert "== types: FAILED" in result.stderr
    assert len(commands.run) == len(checks.CHECKS)


def test_test_runs_checks_and_then_tests(commands):
    """`test` runs all checks and all tests, even if a check fails, and tries all examples of each property."""
    commands.fails = "mypy"
    assert run("test").exit_code == 1
    assert sorted(commands.run[:-1]) == sorted(checks.CHECKS.values())
    assert len(commands.run) == len(checks.CHECKS) + 1
    assert "tests/e2e" in commands.run[-1]


def test_test_with_arguments_runs_pytest(commands):
    """`test ARGUMENTS` runs only pytest with these arguments, including pytest's options."""
    assert run("test", "tests/unit", "-k", "cql", "-x").exit_code == 0
    assert commands.run == [[sys.executable, "-m", "pytest", "tests/unit", "-k", "cql", "-x"]]


def test_config_shows_the_effective_settings(monkeypatch):
    """`config` prints each setting as a variable and hides secrets."""
    monkeypatch.setenv("PENSTOCK_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("PENSTOCK_KAFKA_PARTITIONS", "7")
    lines = run("config").stdout.splitlines()
    assert len(lines) == len(Settings.model_fields)
    assert "PENSTOCK_KAFKA_PARTITIONS=7" in lines
    assert "PENSTOCK_CACHE=" in lines
    assert "hunter2" not in "".join(lines)


def test_config_reports_an_invalid_pipeline(monkeypatch, tmp_path):
    """An invalid pipeline is an error of `config`, after the settings are printed."""
    file = tmp_path / "orders.py"
    file.write_text("PIPELINE = 7\n")
    monkeypatch.setenv("PENSTOCK_PIPELINE", str(file))
    result = run("config")
    assert f"PENSTOCK_PIPELINE={file}" in result.stdout.splitlines()
    assert isinstance(result.exception, WrongSettings)
    assert "PIPELINE is a int, not a Pipeline" in str(result.exception)


def test_the_page_of_settings_lists_each_one():
    """docs/config.md lists each variable with its default and meaning."""
    page = reference.render_config_page()
    assert page.count("\n| `PENSTOCK_") == len(Settings.model_fields)
    assert "| `PENSTOCK_WIRE_FORMAT` | `json` | Encoding of the values in Kafka. |" in page


def test_the_page_of_commands_lists_each_one():
    """docs/cli.md contains the help of all commands, including those in groups."""
    page = reference.render_cli_page()
    for title in ("penstock demo", "penstock verify", "penstock schema render", "penstock source serve", "penstock up"):
        assert f"\n## {title}\n" in page
    assert "Usage: ./penstock" in page
