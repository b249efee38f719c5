"""The script `penstock`, with stand-ins for python3, uv and uname on its PATH."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import __version__

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "uname", "df", "awk", "cat", "cksum", "mkdir", "tail", "grep")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with the script and its locks, and a `bin` with no more than the script needs."""
    for name in ("penstock", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        result = shutil.which(tool)
        assert result, tool
        (tmp_path / "bin" / tool).symlink_to(result)
    return tmp_path


@pytest.fixture
def program(project: Path) -> Callable[[str, str], None]:
    """Return a function that puts a shell script on the PATH."""

    def put(name: str, body: str) -> None:
        path = project / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!{project}/bin/sh\n{body}\n")
        path.chmod(0o755)

    return put


@pytest.fixture
def working(project: Path, program: Callable[[str, str], None]) -> None:
    """A python3 that is new enough, and a uv that records its calls and creates a .venv whose python echoes."""
    program("python3", "exit 0")
    program(
        "uv",
        f'echo "$*" >>"{project}/uv-calls"\n'
        f'case "$1" in venv) mkdir -p "{project}/.venv/bin" && cp_python;; esac\n'.replace(
            "cp_python", f'ln -s "{project}/bin/venv-python" "{project}/.venv/bin/python"'
        ),
    )
    program("venv-python", 'echo "ran $*"')
    (project / "bin" / "ln").symlink_to(str(shutil.which("ln")))


def run(project: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(project / "bin" / "sh"), str(project / "penstock"), *arguments],
        env={"PATH": str(project / "bin"), "HOME": os.environ.get("HOME", "/")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.usefixtures("working")
def test_only_the_first_call_installs(project: Path) -> None:
    """The lock is installed once, with hashes; arguments go to the command."""
    first = run(project, "rows", "--limit", "3")
    assert (first.returncode, first.stdout) == (0, "ran -m penstock.cli rows --limit 3\n"), first.stderr
    calls = (project / "uv-calls").read_text()
    assert "--require-hashes" in calls
    assert run(project).stdout == "ran -m penstock.cli\n"
    assert (project / "uv-calls").read_text() == calls


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["dlq", "redrive", "--help"], ["demo", "-h"], ["--version"]])
def test_help_and_version_are_printed_before_anything_is_installed(project: Path, arguments: list[str]) -> None:
    """The text is the one that the installed command prints; no Python is needed for it."""
    for name in ("docs/cli.md", "src/penstock/__init__.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    done = run(project, *arguments)
    assert done.returncode == 0, done.stderr
    assert not (project / ".venv").exists()
    assert not (project / ".penstock").exists()
    if arguments == ["--version"]:
        assert done.stdout == f"penstock {__version__}\n"
    else:
        command = " ".join(["./penstock", *arguments[:-1]])
        assert done.stdout.startswith(f"Usage: {command} [OPTIONS]")
        assert done.stdout in (project / "docs" / "cli.md").read_text()


@pytest.mark.usefixtures("working")
def test_help_for_an_unknown_command_installs(project: Path) -> None:
    """The installed command then says that there is no such command."""
    (project / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "cli.md", project / "docs" / "cli.md")
    assert run(project, "nonsense", "--help").stdout == "ran -m penstock.cli nonsense --help\n"


@pytest.mark.usefixtures("working")
def test_a_changed_lock_is_installed(project: Path) -> None:
    """Only then is anything installed again."""
    run(project)
    before = (project / "uv-calls").read_text().count("pip sync")
    with (project / "requirements.txt").open("a") as lock:
        lock.write("# changed\n")
    run(project)
    assert (project / "uv-calls").read_text().count("pip sync") == before + 1


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("error: dns error: failed to lookup address information", "the package index is not reachable"),
        ("error: No space left on device (os error 28)", "the disk is full"),
        ("error: Hash mismatch for `msgspec==0.22.0`", "the hash of a package differs from requirements.txt"),
        ("error: it rains", "the installation failed"),
    ],
)
def test_a_failed_installation_says_why(
    project: Path, program: Callable[[str, str], None], said: str, message: str
) -> None:
    """The installer's message, one sentence, and what to type; the next call retries."""
    program("uv", f"echo '{said}' >&2; exit 2")
    done = run(project)
    assert done.returncode == 1
    assert said in done.stderr
    assert message in done.stderr
    assert "try:" in done.stderr
    assert not (project / ".venv" / ".penstock-lock").exists()


def test_a_python_that_is_too_old_is_named(project: Path, program: Callable[[str, str], None]) -> None:
    """With its version and what to install."""
    program("python3", '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')
    done = run(project)
    assert done.returncode == 1
    assert "Python 3.11 or newer is required, found: Python 3.9.2" in done.stderr
    assert "apt-get install" in done.stderr


def test_a_missing_python_is_reported(project: Path) -> None:
    """The message is the script's own, not the shell's."""
    done = run(project)
    assert done.returncode == 1
    assert "Python 3.11 or newer is required" in done.stderr


def test_a_python_without_venv_is_reported(project: Path, program: Callable[[str, str], None]) -> None:
    """Without uv, venv is needed to install it."""
    program("python3", 'case "$2" in *ensurepip*) exit 1;; esac; exit 0')
    done = run(project)
    assert done.returncode == 1
    assert "no venv module" in done.stderr
    assert "python3-venv" in done.stderr


def test_an_unsupported_platform_is_reported(project: Path, program: Callable[[str, str], None]) -> None:
    """Before anything is installed."""
    program("uname", '[ "$1" = -s ] && echo Darwin || echo arm64')
    done = run(project)
    assert done.returncode == 1
    assert "Darwin on arm64 is not supported" in done.stderr
    assert "Docker Compose" in done.stderr


@pytest.mark.parametrize(
    ("typed", "run_as"),
    [
        (["compose", "init", "--simple-login"], "init --simple-login"),
        (["doctor", "--compose"], "doctor"),
        (["doctor", "--compose", "--json"], "doctor --json"),
        (["doctor", "--json", "--compose"], "doctor --json"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["python3", "python", "py"])
def test_commands_for_compose_run_anywhere(
    project: Path, program: Callable[[str, str], None], typed: list[str], run_as: str, name: str
) -> None:
    """On macOS and Windows too, by whatever name Python has there, and nothing is installed."""
    program("uname", '[ "$1" = -s ] && echo Darwin || echo arm64')
    program(name, '[ "$1" = -c ] && exit 0; echo "$(pwd) $*"')
    (project / "src").mkdir()
    done = run(project, *typed)
    assert (done.returncode, done.stdout) == (0, f"{project}/src -m penstock.compose.commands {run_as}\n"), done.stderr
    assert not (project / ".venv").exists()
    assert not (project / ".penstock").exists()


@pytest.mark.usefixtures("working")
def test_too_little_disk_space_is_reported(project: Path) -> None:
    """With the free and the required space."""
    done = run(project, PENSTOCK_MIN_FREE_KIB="999999999999")
    assert done.returncode == 1
    assert "not enough disk space" in done.stderr
    assert not (project / ".venv").exists()
