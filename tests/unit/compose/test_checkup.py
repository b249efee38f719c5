"""What is missing for Docker Compose, and what to type."""

import pytest

from penstock.compose import checkup, environment
from penstock.compose.checkup import Answer

FINE = {
    "version": Answer(0, "28.0.1\n"),
    "compose version": Answer(0, "2.39.1\n"),
    "info": Answer(0, f"{16 * 2**30}\n"),
    "compose ps": Answer(0, ""),
    "compose --project-directory": Answer(0, ""),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with a whole `.env`, whose ports are free."""
    monkeypatch.setattr(checkup.shutil, "which", lambda _: "/usr/bin/docker")
    monkeypatch.setattr(checkup.ports, "is_free", lambda port, host: True)
    environment.init(tmp_path / ".env")
    return tmp_path


def checks(root, answers=None):
    """What the checks find, by name; `answers` are by the words that a command begins with."""
    said = FINE | (answers or {})

    def run(*command):
        words = " ".join(command[1:])
        return next(answer for begun, answer in said.items() if words.startswith(begun))

    return {one.name: one for one in checkup.examine(root, run)}


def failed(root):
    return {name for name, one in checks(root).items() if not one.ok}


def test_a_machine_that_has_all_passes(root):
    """Nothing to type."""
    assert failed(root) == set()


@pytest.mark.parametrize("version", ["1.29.2", "2.20.3", "v2.23.9"])
def test_an_old_compose_is_named(root, version):
    """With the version that is needed."""
    found = checks(root, {"compose version": Answer(0, version)})["compose"]
    assert (found.ok, "2.24" in found.detail) == (False, True)


def test_a_compose_that_is_not_there_is_told(root):
    """As `docker` says it."""
    answer = Answer(1, "docker: 'compose' is not a docker command.\n\nUsage: docker")
    found = checks(root, {"compose version": answer})
    assert not found["compose"].ok
    assert found["compose"].detail == "there is no `docker compose`: docker: 'compose' is not a docker command."
    assert "files" not in found, "it has nobody to ask"


@pytest.mark.parametrize("version", ["2.24.0", "v2.40.0", "5.6.0", "dev"])
def test_a_newer_compose_will_do(root, version):
    """As far as its first two numbers tell."""
    assert checks(root, {"compose version": Answer(0, version)})["compose"].ok


def test_no_engine_and_no_docker(root, monkeypatch):
    """One is not started, the other not installed."""
    found = checks(root, {"version": Answer(1, "Cannot connect to the Docker daemon")})
    assert "Cannot connect" in found["docker"].detail
    assert "memory" not in found
    monkeypatch.setattr(checkup.shutil, "which", lambda _: None)
    assert checks(root)["docker"].detail == "docker is not installed"


def test_too_little_memory(root):
    """Both numbers are told."""
    found = checks(root, {"info": Answer(0, str(4 * 2**30))})["memory"]
    assert (found.ok, found.detail) == (False, "Docker has 4096 MiB, 8192 may be taken")


def test_a_missing_env_and_a_missing_secret(root):
    """Which one, and the command that makes it."""
    path = root / ".env"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("POSTGRES")))
    found = checks(root)[".env"]
    assert (found.ok, found.detail, found.hint) == (False, "without POSTGRES_PASSWORD", "./penstock compose init")
    path.unlink()
    assert "is not there" in checks(root)[".env"].detail


def test_a_taken_port_is_named_by_its_variable(root, monkeypatch):
    """Unless it is taken by the project's own containers."""
    monkeypatch.setattr(checkup.ports, "is_free", lambda port, host: port != 9021)
    assert "CONTROL_PORT=9021" in checks(root)["ports"].detail
    assert checks(root, {"compose ps": Answer(0, '{"Name": "penstock-broker-1"}')})["ports"].ok


def test_what_compose_itself_refuses_is_told(root):
    """In its own words."""
    found = checks(root, {"compose --project-directory": Answer(1, "required variable X is missing")})["files"]
    assert (found.ok, found.detail) == (False, "required variable X is missing")


def test_commands_that_are_not_there_or_hang_are_answers(monkeypatch):
    """No check breaks over one."""
    assert checkup.run("no-such-command-at-all").code == 127
    monkeypatch.setattr(checkup, "_TIMEOUT_S", 0.1)
    assert checkup.run("sleep", "5").code == 124
