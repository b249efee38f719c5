"""A separate Docker engine for the tests: in a folder, without existing images, with the Compose plugin."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.errors import Unreachable
from penstock.retry import wait_until

COMPOSE_MODULE = "github.com/docker/compose/v5@v5.6.0"
LABEL = "penstock.made-of"
PACKAGES = ("docker.io", "debootstrap", "iptables")
ORDINARY_USER = 1000
"""User and group id of a user who is not root and may use the engine."""
ORDINARY: dict[str, Any] = {"user": ORDINARY_USER, "group": ORDINARY_USER, "extra_groups": [], "umask": 0o077}


class EngineUnavailable(Exception):
    """This machine lacks a requirement of the engine that cannot be installed."""


def install() -> None:
    """Install the engine's packages unless they are installed. Raises `EngineUnavailable`."""
    if os.getuid() != 0:
        raise EngineUnavailable("a separate Docker engine requires root")
    if all(map(shutil.which, ("dockerd", "debootstrap", "iptables"))):
        return
    if shutil.which("apt-get") is None:
        raise EngineUnavailable("dockerd is not installed, and there is no apt-get to install it")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True, timeout=300)
    command = ["apt-get", "install", "-qy", "--no-install-recommends", *PACKAGES]
    subprocess.run(command, check=True, capture_output=True, env=quiet, timeout=600)


class Engine:
    """One engine. Its files are in `folder`, those for the ordinary user in `home`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.log = folder / "dockerd.log"
        self.home = Path(tempfile.mkdtemp(prefix="penstock-compose-"))
        self.environment = os.environ | {
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(folder / "config"),
            "COMPOSE_ANSI": "never",
            "COMPOSE_PROGRESS": "plain",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the engine and wait until it responds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o755)
        command = [
            "dockerd",
            *("--data-root", str(self.folder / "data")),
            *("--exec-root", str(self.folder / "exec")),
            *("--pidfile", str(self.folder / "dockerd.pid")),
            *("--host", f"unix://{self.socket}"),
            *("--host", f"unix://{self.home / 'docker.sock'}"),
            *("--group", str(ORDINARY_USER)),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._check_responds, timeout_s=60, what="the Docker engine")
        self._install_compose()
        self._equip_user()

    def _check_responds(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise EngineUnavailable(f"the Docker engine did not start: {self.log.read_text()[-2000:]}")
        if self.run("docker", "version").returncode:
            raise Unreachable("the Docker engine does not respond")

    def stop(self) -> None:
        """Stop the engine and keep its data. Unmounts the network namespaces that it leaves, which block deletion."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        for mount in (self.folder / "exec" / "netns").glob("*"):
            subprocess.run(["umount", str(mount)], capture_output=True, timeout=30, check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def _equip_user(self) -> None:
        """Give the ordinary user a home with Compose as a plugin, and as the program `docker-compose`."""
        program = self.home / "bin" / "docker-compose"
        program.parent.mkdir()
        shutil.copy2(self._plugin, program)
        plugin = self.home / ".docker" / "cli-plugins" / "docker-compose"
        plugin.parent.mkdir(parents=True)
        plugin.symlink_to(program)
        for path in (self.home / "bin", program, self.home / ".docker", plugin.parent):
            path.chmod(0o755)

    @property
    def _plugin(self) -> Path:
        return self.folder / "config" / "cli-plugins" / "docker-compose"

    def _install_compose(self) -> None:
        """Build the plugin from the Go module proxy, once per folder."""
        plugin = self._plugin
        if plugin.exists():
            return
        if shutil.which("go") is None:
            raise EngineUnavailable("go is not installed, which builds the Compose plugin")
        download = self.run("go", "mod", "download", "-json", COMPOSE_MODULE, timeout_s=300)
        plugin.parent.mkdir(parents=True, exist_ok=True)
        version_flag = f"-X github.com/docker/compose/v5/internal.Version={COMPOSE_MODULE.rpartition('@')[2]}"
        build = ["go", "build", "-ldflags", version_flag, "-o", str(plugin), "./cmd"]
        source, environment = json.loads(download.stdout)["Dir"], self.environment | {"CGO_ENABLED": "0"}
        subprocess.run(build, cwd=source, env=environment, check=True, capture_output=True, timeout=1200)

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        timeout_s: float = 120,
        as_user: bool = False,
        more: Mapping[str, str] = {},
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with this engine, as root or as the ordinary user with a strict umask."""
        return subprocess.run(
            command,
            cwd=cwd,
            env={**self.environment, **(self.user_environment() if as_user else {}), **more},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **(ORDINARY if as_user else {}),
        )

    def user_environment(self) -> dict[str, str]:
        """Return the environment variables that differ for the ordinary user."""
        return {
            "DOCKER_HOST": f"unix://{self.home / 'docker.sock'}",
            "DOCKER_CONFIG": str(self.home / ".docker"),
            "HOME": str(self.home),
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
        }

    def docker(self, *arguments: str, timeout_s: float = 1800, cwd: Path | None = None) -> str:
        """Run `docker`, which must succeed, and return its output."""
        process = self.run("docker", *arguments, timeout_s=timeout_s, cwd=cwd)
        assert process.returncode == 0, (
            f"docker {' '.join(arguments)}: {process.stdout[-2000:]}\n{process.stderr[-4000:]}"
        )
        return process.stdout

    def label_of(self, image: str) -> str | None:
        """Return the image's source label: empty without the label, None if there is no such image."""
        done = self.run("docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image)
        return done.stdout.strip() if done.returncode == 0 else None


class Project:
    """The Compose files of a checkout on an engine. `transcript` has the commands with their durations."""

    def __init__(self, engine: Engine, root: Path, *files: str, as_user: bool = False, **environment: str) -> None:
        self.engine, self.root, self.as_user = engine, root, as_user
        self.environment = {"COMPOSE_FILE": ":".join(files)} | environment
        self.transcript: list[str] = []

    def run(self, *command: str, timeout_s: float = 1800, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout. `more` are additional environment variables."""
        return self.engine.run(
            *command, cwd=self.root, timeout_s=timeout_s, as_user=self.as_user, more=self.environment | more
        )

    def compose(self, *arguments: str, timeout_s: float = 1800) -> str:
        """Run `docker compose`, which must succeed, and return its output."""
        began = time.monotonic()
        done = self.try_compose(*arguments, timeout_s=timeout_s)
        shown = " ".join(arguments[:4] if arguments[0] == "exec" else arguments)  # the rest may contain secrets
        entry = f"docker compose {shown}: exit {done.returncode}, {time.monotonic() - began:.0f} s"
        self.transcript.append(entry)
        assert done.returncode == 0, (
            f"{entry}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}\n{self.describe_failures()}"
        )
        return done.stdout

    def try_compose(self, *arguments: str, timeout_s: float = 1800, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` and return the completed process."""
        return self.run("docker", "compose", *arguments, timeout_s=timeout_s, **more)

    def exec(self, service: str, *command: str, timeout_s: float = 300) -> str:
        """Run a command in a service's container, which must succeed, and return its output."""
        return self.compose("exec", "-T", service, *command, timeout_s=timeout_s)

    def containers(self) -> list[dict[str, Any]]:
        """Return all containers as listed by Compose."""
        return [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]

    def describe_failures(self) -> str:
        """Return the last log lines of each container that is unhealthy or has failed."""
        listed = self.try_compose("ps", "--all", "--format", "json").stdout.splitlines()
        containers = [json.loads(line) for line in listed]
        failed = [
            container
            for container in containers
            if container["Health"] not in ("healthy", "") or container["State"] not in ("running", "exited")
        ]
        failed += [container for container in containers if container["State"] == "exited" and container["ExitCode"]]
        return "\n".join(
            f"== {container['Service']} {container['State']} {container['Health']}\n"
            f"{self._read_log_tail(container['Service'])}"
            for container in failed
        )

    def _read_log_tail(self, service: str) -> str:
        done = self.try_compose("logs", "--no-color", "--tail", "40", service)
        return (done.stdout + done.stderr)[-5000:]

    def memory_mib(self) -> dict[str, int]:
        """Return the memory usage of each container by service."""
        lines = self.engine.docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
        used_mib = {}
        for line in lines:
            name, used = line.split()[:2]
            number, unit = float(used[:-3]), used[-3:]
            used_mib[name.removeprefix("penstock-").rpartition("-")[0]] = round(
                number * {"MiB": 1, "GiB": 1024}.get(unit, 0)
            )
        return used_mib
