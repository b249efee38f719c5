"""The locks have a package for every supported Python and processor; the index is asked, nothing is installed."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

LOCKS = ("requirements.txt", *sorted(f"requirements/{path.name}" for path in (ROOT / "requirements").glob("*.txt")))
SOURCE_ARCHIVES = ("pyspark", "pure-sasl")
"""Packages without a wheel on the index: what is built of them is Python alone, so they need no compiler."""
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
PYTHONS = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"]


def missing(lock: str, machine: str, python: str, built: Sequence[str] = SOURCE_ARCHIVES) -> str:
    """Return what the index lacks of a lock: nothing if every package has a wheel for the machine with that hash."""
    uv = shutil.which("uv") or str(ROOT / ".penstock" / "uv" / "bin" / "uv")
    command = [
        *(uv, "pip", "install", "--dry-run", "--quiet", "--no-deps", "--require-hashes", "-r", lock),
        *("--python-platform", f"{machine}-manylinux_2_28", "--python-version", python),
        *("--target", str(ROOT / ".penstock" / "unused"), "--only-binary", ":all:"),
    ]
    command += [word for name in built for word in ("--no-binary", name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_a_wheel_for_every_machine(machine: str, python: str) -> None:
    """Of each package, for glibc 2.28 and newer."""
    assert missing("requirements.txt", machine, python) == ""


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_the_image_locks_have_a_wheel_for_arm64(lock: str) -> None:
    """Docker Compose on Apple's and Ampere's machines."""
    assert missing(lock, "aarch64", "3.11") == ""


def test_a_missing_wheel_is_reported_by_package_name() -> None:
    """The check itself works."""
    output = missing("requirements.txt", "aarch64", PYTHONS[0], built=())
    assert any(f"{name}==" in output for name in SOURCE_ARCHIVES), output


def test_source_archives_need_no_compiler() -> None:
    """The wheels built from them here are for any machine."""
    for name in SOURCE_ARCHIVES:
        wheel = distribution(name).read_text("WHEEL") or ""
        assert re.search(r"^Tag: py3-none-any$", wheel, re.MULTILINE), name
    assert all(Path(ROOT / lock).exists() for lock in LOCKS)
