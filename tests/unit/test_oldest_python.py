"""The oldest supported Python: 3.11 from its first release; 3.9 for code that runs before the installation."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OLDEST = PROJECT["project"]["requires-python"].removeprefix(">=")
STANDARD_ALONE = (
    *(f"src/penstock/compose/{name}.py" for name in ("__init__", "commands", "doctor", "environment", "preflight")),
    *(f"src/penstock/stack/{name}.py" for name in ("__init__", "check", "generators")),
    *(f"src/penstock/{name}.py" for name in ("__init__", "errors", "files", "net", "remedies")),
)
"""What `compose init` and `doctor --compose` import: the standard library alone, on macOS' Python too."""
VERMIN_OPTIONS = ["--violations", "--no-tips", "--no-parse-comments"]
SINCE_A_BUGFIX = {("extractall", "filter"), ("extract", "filter"), ("unpack_archive", "filter")}
"""Arguments that a bugfix release of 3.11 added: Debian 12 has 3.11.2, and no tool knows such."""


def test_the_oldest_version_is_the_same_everywhere() -> None:
    """In the linter, the type checker, the script and the CI matrix."""
    assert OLDEST == "3.11"
    assert PROJECT["tool"]["ruff"]["target-version"] == "py311"
    assert PROJECT["tool"]["mypy"]["python_version"] == OLDEST
    assert "find_python 11" in (ROOT / "penstock").read_text()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]


def python_files() -> list[Path]:
    return [path for folder in ("src", "bench", "tests", "dags") for path in (ROOT / folder).rglob("*.py")]


def run_vermin(config: pytest.Config, target: str, paths: Iterable[Path]) -> None:
    """Assert that vermin finds nothing newer than `target`. Unchanged files that have passed before are skipped."""
    tool = [str(Path(sys.executable).parent / "vermin"), f"--target={target}-", *VERMIN_OPTIONS]
    salt = " ".join([version("vermin"), *tool[1:]]).encode()
    digests = {str(path): hashlib.sha256(salt + path.read_bytes()).hexdigest() for path in paths}
    assert digests
    key = f"penstock/vermin-{target}"
    cache = getattr(config, "cache", None)  # none if the plugin is off
    passed = set(cache.get(key, [])) if cache else set()
    changed = [path for path, digest in digests.items() if digest not in passed]
    if changed:
        done = subprocess.run([*tool, *changed], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    if cache:
        cache.set(key, sorted(digests.values()))


def test_nothing_requires_a_newer_python(pytestconfig: pytest.Config) -> None:
    """No syntax, module, function or argument of a later one."""
    run_vermin(pytestconfig, OLDEST, [*python_files(), ROOT / "spark_stream.py"])


def test_code_that_runs_before_the_installation_supports_an_older_python(pytestconfig: pytest.Config) -> None:
    """macOS includes 3.9."""
    run_vermin(pytestconfig, "3.9", [ROOT / path for path in STANDARD_ALONE])


def test_a_file_that_is_too_new_is_found_each_time(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A file is skipped only if it has passed: one that failed fails again, and so does one that changed."""
    file = tmp_path / f"{uuid.uuid4().hex}.py"
    target = "3.10"
    file.write_text(f"import json  # {file.name}\n")
    run_vermin(pytestconfig, target, [file])
    file.write_text(f"import tomllib  # {file.name}\n")
    for _ in range(2):
        with pytest.raises(AssertionError, match="tomllib"):
            run_vermin(pytestconfig, target, [file])


def later_arguments(source: str) -> list[str]:
    """The calls with an argument that a bugfix release added."""
    if not any(name in source for name, _ in SINCE_A_BUGFIX):
        return []
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    named = ((getattr(call.func, "attr", getattr(call.func, "id", "")), call) for call in calls)
    return [
        f"{name}({keyword.arg}=), line {call.lineno}"
        for name, call in named
        for keyword in call.keywords
        if (name, keyword.arg) in SINCE_A_BUGFIX
    ]


def test_no_argument_requires_a_bugfix_release() -> None:
    """It would fail only on Debian's Python."""
    assert later_arguments("archive.extractall(folder, filter='data')") == ["extractall(filter=), line 1"]
    assert {str(path): result for path in python_files() if (result := later_arguments(path.read_text()))} == {}


@pytest.mark.parametrize("command", [["compose", "init"], ["doctor", "--compose", "--json"]], ids=" ".join)
def test_compose_commands_need_only_the_standard_library(tmp_path: Path, command: list[str]) -> None:
    """The script runs them in a clone without an installation, with a Python without packages."""
    for name in ("penstock", *STANDARD_ALONE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
    bare.chmod(0o755)
    environ = os.environ | {"PENSTOCK_PYTHON": str(bare)}
    done = subprocess.run(
        ["sh", str(tmp_path / "penstock"), *command],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    if command[0] == "compose":
        assert done.returncode == 0, done.stderr
        assert (tmp_path / ".env").exists()
    else:
        assert re.search(r'"name": "ports"', done.stdout), done.stderr
    assert not (tmp_path / ".venv").exists()
