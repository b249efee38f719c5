"""Fixtures of every test: the local stack on separate ports and in a separate data directory."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import config
from penstock.config import Settings

ROOT = Path(__file__).resolve().parents[1]
CAPTURED = Path(__file__).parent / "data" / "randomuser-1.4.json"


def shifted_ports(by: int) -> dict[str, str]:
    """Return the environment that moves every port of the local stack by `by`."""
    return {f"PENSTOCK_{name.upper()}": str(port + by) for name, port in Settings(home=Path("unused")).ports().items()}


def environment_of(home: Path, shift: int) -> dict[str, str]:
    """Return the environment of a stack in `home`; downloads are shared with the user's own stack."""
    cache = os.environ.get("PENSTOCK_CACHE", str(ROOT / ".penstock" / "cache"))
    return shifted_ports(shift) | {"PENSTOCK_HOME": str(home), "PENSTOCK_CACHE": cache}


class Stack:
    """A local stack used by tests."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._session: Any = None
        self.settings = config.read(
            **{key.removeprefix("PENSTOCK_").lower(): value for key, value in environment.items()}
        )

    @property
    def stand_in_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.source_port}/api/"

    def drop(self, keyspace: str) -> None:
        """Drop a keyspace if it exists."""
        from penstock.sink import cassandra  # not for tests of what has no Cassandra

        if self._session is None:
            self._session = cassandra.connect(self.settings)
        self._session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)

    def close(self) -> None:
        """Close the session that dropped keyspaces."""
        if self._session is not None:
            self._session.cluster.shutdown()

    def cli(self, *arguments: str, timeout_s: float = 300, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user runs it, and return the completed process."""
        return subprocess.run(
            [sys.executable, "-m", "penstock.cli", *arguments],
            env=os.environ | self.environment | more,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def json(self, *arguments: str, timeout_s: float = 300, **more: str) -> Any:
        """Return the JSON that the command printed; it must have exited with 0."""
        done = self.cli(*arguments, "--json", timeout_s=timeout_s, **more)
        assert done.returncode == 0, (
            f"{arguments}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return json.loads(done.stdout)


def fresh_stack(name: str, shift: int, *up: str) -> Iterator[Stack]:
    """A stack without data, up; stopped at the end."""
    stack = Stack(environment_of(ROOT / ".penstock" / name, shift))
    stack.cli("destroy", "--yes")
    started = stack.cli("up", *up, timeout_s=600)
    assert started.returncode == 0, started.stderr[-4000:]
    try:
        yield stack
    finally:
        stack.close()
        stopped = stack.cli("down")
        assert stopped.returncode == 0, stopped.stderr[-4000:]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole stack, once for all tests."""
    yield from fresh_stack("test", 10_000)


@pytest.fixture
def settings(stack: Stack) -> Settings:
    """The settings of the stack."""
    return stack.settings


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that no other test uses. A keyspace of that name is dropped after the test.

    Each pipeline has some 20 tables; Cassandra gets slower, and starts more slowly, with each one.
    """
    name = f"t{uuid.uuid4().hex[:12]}"
    yield name
    if "stack" in request.fixturenames:
        stack: Stack = request.getfixturevalue("stack")
        stack.drop(name)


@pytest.fixture
def pipeline_file(tmp_path: Path, unique: str) -> Callable[..., Path]:
    """Return a function that writes a pipeline file: users with a separate topic, keyspace and table, and `more` of its
    definition.
    """

    def write(before: str = "", more: str = "") -> Path:
        path = tmp_path / f"{unique}.py"
        path.write_text(
            "from dataclasses import replace\n"
            "from penstock.pipelines import users\n"
            f"{before}\n"
            f"PIPELINE = replace(users.PIPELINE, topic='{unique}', keyspace='{unique}', table='{unique}', {more})\n"
        )
        return path

    return write


@pytest.fixture
def captured() -> list[dict[str, Any]]:
    """The users of a captured response of the real API."""
    users: list[dict[str, Any]] = json.loads(CAPTURED.read_text())["results"]
    return users


@pytest.fixture
def free_port() -> int:
    """A port that nothing listens on."""
    return _free_port()


def _free_port() -> int:
    """Return a free port outside those of the test stacks and the system's ephemeral range."""
    while True:
        port = random.randint(30_100, 32_700)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@pytest.fixture
def captured_api() -> Iterator[str]:
    """The address of a stand-in that responds with the captured users."""
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "penstock.cli",
        "source",
        "serve",
        "--port",
        str(port),
        "--answer",
        str(CAPTURED),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/api/"
    finally:
        process.terminate()
        process.wait(20)
