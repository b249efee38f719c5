"""A Docker engine of the tests' own: in a folder, without another's images, with the Compose plugin."""

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
"""The user and group id of somebody who is not root, and may use the engine."""
ORDINARY: dict[str, Any] = {"user": ORDINARY_USER, "group": ORDINARY_USER, "extra_groups": [], "umask": 0o077}


class Missing(Exception):
    """What this machine lacks, and cannot be given."""


def install() -> None:
    """Install the engine's packages when they are not there. Raises `Missing`."""
    if os.getuid() != 0:
        raise Missing("a Docker engine of one's own needs root")
    if all(map(shutil.which, ("dockerd", "debootstrap", "iptables"))):
        return
    if shutil.which("apt-get") is None:
        raise Missing("no dockerd, and no apt-get to install one")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True, timeout=300)
    command = ["apt-get", "install", "-qy", "--no-install-recommends", *PACKAGES]
    subprocess.run(command, check=True, capture_output=True, env=quiet, timeout=600)


class Engine:
    """One engine; everything of it lies in `folder`, and what an ordinary user needs of it in `home`."""

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
        """Return when it answers."""
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
        wait_until(self._answers, timeout_s=60, what="the Docker engine")
        self._install_compose()
        self._equip_user()

    def _answers(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise Missing(f"no Docker engine starts here: {self.log.read_text()[-2000:]}")
        if self.run("docker", "version").returncode:
            raise Unreachable("it does not answer")

    def stop(self) -> None:
        """End it; its data stay. It leaves the mount of a network namespace, over which no folder can be deleted."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        for left in (self.folder / "exec" / "netns").glob("*"):
            subprocess.run(["umount", str(left)], capture_output=True, timeout=30, check=False)
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
        """Build the plugin from the module proxy; the build is kept in the folder."""
        plugin = self._plugin
        if plugin.exists():
            return
        if shutil.which("go") is None:
            raise Missing("no go to build the Compose plugin with")
        found = self.run("go", "mod", "download", "-json", COMPOSE_MODULE, timeout_s=300)
        plugin.parent.mkdir(parents=True, exist_ok=True)
        named = f"-X github.com/docker/compose/v5/internal.Version={COMPOSE_MODULE.rpartition('@')[2]}"
        build = ["go", "build", "-ldflags", named, "-o", str(plugin), "./cmd"]
        source, environment = json.loads(found.stdout)["Dir"], self.environment | {"CGO_ENABLED": "0"}
        subprocess.run(build, cwd=source, env=environment, check=True, capture_output=True, timeout=1200)

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        timeout_s: float = 120,
        as_user: bool = False,
        more: Mapping[str, str] = {},
    ) -> subprocess.CompletedProcess[str]:
        """Return what a command gave, asked of this engine; as root, or as the ordinary user with a strict umask."""
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
        """Return what differs in the environment of the ordinary user."""
        return {
            "DOCKER_HOST": f"unix://{self.home / 'docker.sock'}",
            "DOCKER_CONFIG": str(self.home / ".docker"),
            "HOME": str(self.home),
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
        }

    def docker(self, *arguments: str, timeout_s: float = 1800, cwd: Path | None = None) -> str:
        """What `docker` printed; it must have ended well."""
        done = self.run("docker", *arguments, timeout_s=timeout_s, cwd=cwd)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def label_of(self, image: str) -> str | None:
        """What the image was made of; empty when it does not say, None when there is none of that name."""
        done = self.run("docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image)
        return done.stdout.strip() if done.returncode == 0 else None


class Project:
    """The Compose files of a checkout, on an engine; it keeps what was asked and how long it took."""

    def __init__(self, engine: Engine, root: Path, *files: str, as_user: bool = False, **environment: str) -> None:
        self.engine, self.root, self.as_user = engine, root, as_user
        self.environment = {"COMPOSE_FILE": ":".join(files)} | environment
        self.transcript: list[str] = []

    def run(self, *command: str, timeout_s: float = 1800, **more: str) -> subprocess.CompletedProcess[str]:
        """Return what a command gave, in the checkout; `more` are variables of the shell."""
        return self.engine.run(
            *command, cwd=self.root, timeout_s=timeout_s, as_user=self.as_user, more=self.environment | more
        )

    def compose(self, *arguments: str, timeout_s: float = 1800) -> str:
        """What `docker compose` printed; it must have ended well."""
        began = time.monotonic()
        done = self.try_compose(*arguments, timeout_s=timeout_s)
        words = " ".join(arguments[:4] if arguments[0] == "exec" else arguments)  # further ones may be secret
        told = f"docker compose {words}: exit {done.returncode}, {time.monotonic() - began:.0f} s"
        self.transcript.append(told)
        assert done.returncode == 0, f"{told}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}\n{self.troubles()}"
        return done.stdout

    def try_compose(self, *arguments: str, timeout_s: float = 1800, **more: str) -> subprocess.CompletedProcess[str]:
        """Return what `docker compose` gave."""
        return self.run("docker", "compose", *arguments, timeout_s=timeout_s, **more)

    def exec(self, service: str, *command: str, timeout_s: float = 300) -> str:
        """What a command printed in the container of a service."""
        return self.compose("exec", "-T", service, *command, timeout_s=timeout_s)

    def containers(self) -> list[dict[str, Any]]:
        """Each container, as Compose knows it."""
        return [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]

    def troubles(self) -> str:
        """The last words of each container that is not well."""
        listed = self.try_compose("ps", "--all", "--format", "json").stdout.splitlines()
        found = [json.loads(line) for line in listed]
        ill = [
            one for one in found if one["Health"] not in ("healthy", "") or one["State"] not in ("running", "exited")
        ]
        ill += [one for one in found if one["State"] == "exited" and one["ExitCode"]]
        return "\n".join(
            f"== {one['Service']} {one['State']} {one['Health']}\n{self._last_words(one['Service'])}" for one in ill
        )

    def _last_words(self, service: str) -> str:
        done = self.try_compose("logs", "--no-color", "--tail", "40", service)
        return (done.stdout + done.stderr)[-5000:]

    def memory_mib(self) -> dict[str, int]:
        """What each container takes, by service."""
        lines = self.engine.docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
        found = {}
        for line in lines:
            name, used = line.split()[:2]
            number, unit = float(used[:-3]), used[-3:]
            found[name.removeprefix("penstock-").rpartition("-")[0]] = round(
                number * {"MiB": 1, "GiB": 1024}.get(unit, 0)
            )
        return found
