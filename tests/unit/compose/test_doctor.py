"""The checks for Docker Compose and their hints."""

import pytest

from penstock.compose import doctor, environment
from penstock.compose.doctor import CommandResult
from penstock.stack.check import Check

FINE = {
    "version": CommandResult(0, "28.0.1\n"),
    "compose version": CommandResult(0, "2.39.1\n"),
    "info": CommandResult(0, f"{16 * 2**30}\n"),
    "compose ps": CommandResult(0, ""),
    "ps --filter": CommandResult(0, ""),
    "compose --project-directory": CommandResult(0, ""),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with a `.env` on a machine with free ports."""
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/docker")
    monkeypatch.setattr(doctor.net, "is_port_free", lambda port, host: True)
    monkeypatch.setattr(doctor, "_check_processor", lambda: Check("processor", True, ""))
    for name in [variable.name for variable in environment.VARIABLES]:
        monkeypatch.delenv(name, raising=False)
    environment.add_missing_variables(tmp_path / ".env")
    (tmp_path / "dags").mkdir()
    return tmp_path


def checks(root, answers=None):
    """Run the checks and return them by name. `answers` are keyed by the start of the command."""
    commands = (answers or {}) | {name: answer for name, answer in FINE.items() if name not in (answers or {})}

    def run(*command):
        words = " ".join(command[1:] if command[0] == "docker" else command)
        return next(answer for begun, answer in commands.items() if words.startswith(begun))

    return {check.name: check for check in doctor.run_checks(root, run)}


def failed(root):
    return {name for name, check in checks(root).items() if not check.ok}


def test_a_suitable_machine_passes(root):
    """A machine that meets all requirements passes every check."""
    assert failed(root) == set()


@pytest.mark.parametrize("version", ["1.29.2", "2.20.3", "v2.23.9"])
def test_an_old_compose_fails(root, version):
    """An old Compose fails with the required version."""
    result = checks(root, {"compose version": CommandResult(0, version)})["compose"]
    assert (result.ok, "2.24" in result.detail) == (False, True)


def test_a_missing_compose_fails(root):
    """A missing Compose fails with Docker's message."""
    answer = CommandResult(1, "docker: 'compose' is not a docker command.\n\nUsage: docker")
    result = checks(root, {"compose version": answer, "docker-compose version": CommandResult(127, "not installed")})
    assert not result["compose"].ok
    assert result["compose"].detail == "`docker compose` is not available: docker: 'compose' is not a docker command."
    assert "files" not in result, "the check needs Compose"


@pytest.mark.parametrize("version", ["2.24.0", "v2.40.0", "5.6.0", "dev"])
def test_a_newer_compose_passes(root, version):
    """Newer versions pass, by their first two numbers."""
    assert checks(root, {"compose version": CommandResult(0, version)})["compose"].ok


def test_no_engine_and_no_docker(root, monkeypatch):
    """A stopped engine and a missing Docker have different messages."""
    result = checks(root, {"version": CommandResult(1, "Cannot connect to the Docker daemon")})
    assert "Cannot connect" in result["docker"].detail
    assert "memory" not in result
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert checks(root)["docker"].detail == "docker is not installed"


def test_too_little_memory(root):
    """Too little memory fails with the available and the required amount."""
    result = checks(root, {"info": CommandResult(0, str(4 * 2**30))})["memory"]
    assert (result.ok, result.detail) == (False, "Docker has 4096 MiB, the containers may use 8192")


def test_the_program_docker_compose_is_accepted(root):
    """The program docker-compose is accepted too, unless it is too old."""
    plugin = {
        "compose version": CommandResult(1, "unknown"),
        "compose --project-directory": CommandResult(1, "unknown"),
    }
    for version, ok in (("v2.39.1", True), ("1.29.2", False)):
        program = {"docker-compose version": CommandResult(0, version), "docker-compose": CommandResult(0, "")}
        result = checks(root, plugin | program)
        assert result["compose"].ok is ok
        assert not ok or result["files"].ok, "the installed program is used, and .env is not blamed"


def test_no_env_is_fine(root):
    """A missing `.env` is fine, because all variables are optional."""
    (root / ".env").unlink()
    assert failed(root) == set()


def test_a_malformed_env_fails(root):
    """A malformed `.env` fails with the line number. Compose is not run on it."""
    (root / ".env").write_text("AIRFLOW_UID 1000\n")
    result = checks(root)
    assert not result[".env"].ok
    assert "line 1, AIRFLOW_UID" in result[".env"].detail
    assert "files" not in result


@pytest.mark.parametrize(
    ("line", "check", "detail"),
    [
        ("AIRFLOW_UID=0", "user", "no container runs as root"),
        ("AIRFLOW_UID=jo", "user", "not a user id"),
        ("AIRFLOW_UID=$(id -u)", "user", "not a user id"),
        ("KAFKA_PORT=ninety", "ports", "invalid port: KAFKA_PORT=ninety"),
        ("KAFKA_PORT=70000", "ports", "invalid port: KAFKA_PORT=70000"),
        ("BIND=0.0.0.0", "bind", "not set, or well known: AIRFLOW_PASSWORD and CONTROL_PASSWORD"),
    ],
)
def test_an_invalid_value_fails(root, line, check, detail):
    """An invalid value fails its check, with a hint."""
    (root / ".env").write_text(line + "\n")
    result = checks(root)[check]
    assert not result.ok
    assert detail in result.detail
    assert result.hint


def test_the_well_known_password_fails_on_open_addresses(root):
    """A value that `secrets-init` would reject fails here too: `airflow` is acceptable on loopback only."""
    (root / ".env").write_text("BIND=0.0.0.0\nAIRFLOW_PASSWORD=airflow\nCONTROL_PASSWORD=long-enough-1\n")
    result = checks(root)["bind"]
    assert not result.ok
    assert result.detail.endswith(": AIRFLOW_PASSWORD")
    (root / ".env").write_text("BIND=0.0.0.0\nAIRFLOW_PASSWORD=other\nCONTROL_PASSWORD=long-enough-1\n")
    assert checks(root)["bind"].ok


def test_variables_of_the_shell_take_precedence(root, monkeypatch):
    """Variables of the shell take precedence over `.env`, as in Compose."""
    monkeypatch.setenv("AIRFLOW_UID", "0")
    assert failed(root) == {"user"}


def test_an_older_processor_fails(tmp_path, monkeypatch):
    """A processor without x86-64-v3 fails, because the registry's image requires it. Other machines are not checked."""
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    path = tmp_path / "cpuinfo"
    flags = " ".join(sorted(doctor.X86_64_V3 - {"avx2"}))
    path.write_text(f"processor : 0\nflags\t\t: fpu {flags}\n")
    result = doctor._check_processor(path)
    assert (result.ok, "missing: avx2" in result.detail) == (False, True)
    path.write_text(f"flags\t\t: fpu avx2 {flags}\n")
    assert doctor._check_processor(path).ok
    assert doctor._check_processor(tmp_path / "none").ok
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    assert doctor._check_processor(path).ok


def test_dags_that_the_containers_cannot_read_fail(root, monkeypatch):
    """DAGs of a clone with a strict umask fail unless AIRFLOW_UID is their owner."""
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    dag = root / "dags" / "a.py"
    dag.write_text("")
    dag.chmod(0o600)
    (root / ".env").write_text("AIRFLOW_UID=4242\n")
    result = checks(root)["dags"]
    assert (result.ok, "user 4242 cannot read a.py" in result.detail) == (False, True)
    dag.chmod(0o644)
    assert checks(root)["dags"].ok


def test_a_port_in_use_is_listed_by_its_variable(root, monkeypatch):
    """A port in use fails with its variable, unless the project's own containers use it."""
    monkeypatch.setattr(doctor.net, "is_port_free", lambda port, host: port != 9021)
    assert checks(root)["ports"].detail == "in use: CONTROL_PORT=9021"
    other = {"ps --filter publish=9021": CommandResult(0, "other-1\n")} | FINE
    assert checks(root, other)["ports"].detail == "in use: CONTROL_PORT=9021, by the container other-1"
    assert checks(root, {"compose ps": CommandResult(0, '{"Name": "penstock-broker-1"}')})["ports"].ok


def test_files_that_compose_rejects_fail(root):
    """Files that Compose rejects fail with its message."""
    result = checks(root, {"compose --project-directory": CommandResult(1, "required variable X is missing")})["files"]
    assert (result.ok, result.detail) == (False, "required variable X is missing")


def test_missing_and_hanging_commands_return_exit_codes(monkeypatch):
    """Commands that are missing or hang return an exit code instead of raising."""
    assert doctor.run_command("no-such-command-at-all").code == 127
    monkeypatch.setattr(doctor, "_TIMEOUT_S", 0.1)
    assert doctor.run_command("sleep", "5").code == 124
