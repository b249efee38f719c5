"""Docker Compose on a real engine: our files unchanged, from a cold start to rows in Cassandra, down and up again.

The images under the official names are stand-ins that are built here, because nothing is pulled from an image registry.
They do what the official Dockerfiles and entry points do with user, home, environment and files. The remaining
differences are printed.
"""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.compose import environment, preflight
from penstock.errors import Unreachable
from penstock.retry import wait_until
from tests.compose import engine as engines
from tests.compose.engine import ORDINARY, ORDINARY_USER, Engine, Project
from tests.compose.standins import DIFFERENCES, Standins, cache_folder
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(3600)  # the first one builds all images
FOLDER = Path(os.environ.get("PENSTOCK_COMPOSE_FOLDER", ROOT / ".penstock" / "compose"))
SHIFT = 15_000
"""Distance from the default ports. The result is below the range of ephemeral ports."""
OFFLINE = ("docker-compose.yml", "docker-compose.offline.yml")
ZOOKEEPER = ("docker-compose.yml", "docker-compose.zookeeper.yml", "docker-compose.offline.yml")
PORTS = {
    variable.name: str(int(variable.default) + SHIFT)
    for variable in environment.VARIABLES
    if variable.name.endswith("_PORT")
}
"""Set as environment variables, so that `.env` contains only what users write into it."""
ONCE = {"secrets-init", "pipeline-init", "airflow-init"}
ONLY_LINE = f"AIRFLOW_UID={ORDINARY_USER}\n"
LATER = {
    "AIRFLOW_PASSWORD": "a new /p@ss%word",
    "CONTROL_PASSWORD": "another: one",
    "CASSANDRA_PASSWORD": 'it\'s "quoted"',
    "CASSANDRA_ADMIN_PASSWORD": "admin'; --",
    "POSTGRES_PASSWORD": "p@ss:w/rd%41 ü",
}
"""Passwords set after the first start, with characters that could break a URL, a statement or a file."""


def read_steps(document: str = "docs/compose.md") -> list[str]:
    """Return the command blocks of the section on how to start."""
    section = re.split(r"^## ", (ROOT / document).read_text(), flags=re.MULTILINE)
    start = next(part for part in section if part.startswith(("Start\n", "Docker Compose\n")))
    return re.findall(r"^```\n(.*?)^```$", start, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_shows_the_same_steps() -> None:
    """README and docs/compose.md have the same two command blocks."""
    assert read_steps("README.md") == read_steps()
    assert len(read_steps()) == 2


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A separate Docker engine with a stand-in for each official image."""
    engine = Engine(FOLDER)
    try:
        engines.install()
        engine.start()
        Standins(engine, cache_folder()).build()
    except engines.EngineUnavailable as error:
        engine.stop()
        pytest.skip(str(error))
    yield engine
    engine.stop()


def copy_checkout(root: Path) -> None:
    """Create a clean checkout in `root`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


@pytest.fixture(scope="session")
def clone(engine: Engine) -> Path:
    """An ordinary user's clone: readable only by that user, in a path with a space and non-ASCII letters."""
    root = engine.home / "Jörgs Ordner" / "penstock"
    copy_checkout(root)
    engine.home.chmod(0o755)
    root.parent.chmod(0o755)
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
        os.chown(path, ORDINARY_USER, ORDINARY_USER)
    return root


@pytest.fixture(scope="session")
def users(engine: Engine, clone: Path) -> Project:
    """The clone with the stand-in API. No container is running."""
    project = Project(engine, clone, *OFFLINE, as_user=True, **PORTS)
    project.compose("down", "--volumes", "--remove-orphans")
    return project


def write_env(project: Project, text: str) -> None:
    """Write `.env` as the ordinary user."""
    path = project.root / ".env"
    path.write_text(text, encoding="utf-8")
    os.chown(path, ORDINARY_USER, ORDINARY_USER)


def wait_for_health(project: Project) -> None:
    """Wait until every container is healthy."""
    project.compose("up", "--detach", "--no-recreate", "--wait", "--wait-timeout", "600")


def clean_up(project: Project) -> None:
    """Print the transcript, and delete the containers and their data."""
    differences = [f"{image}: {text}" for image, texts in DIFFERENCES.items() for text in texts]
    print("\n" + "\n".join(["differences from the official images:", *differences, *project.transcript]))  # noqa: T201
    project.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def project(users: Project) -> Iterator[Project]:
    """The project after an ordinary user has run the documented steps."""
    try:
        began = time.monotonic()
        first, up = read_steps()[0].splitlines()
        for command in (first, up):
            done = users.run("sh", "-c", command)
            assert done.returncode == 0, (
                f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}\n{users.describe_failures()}"
            )
        users.transcript.append(f"{up}: {time.monotonic() - began:.0f} s")
        assert (users.root / ".env").read_text() == ONLY_LINE
        wait_for_health(users)
        users.transcript.append(f"all containers healthy after {time.monotonic() - began:.0f} s")
        yield users
    finally:
        clean_up(users)


class Airflow:
    """Client of Airflow's API, from the host."""

    def __init__(self, password: str = environment.SIMPLE) -> None:
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{PORTS['AIRFLOW_PORT']}", timeout=60, trust_env=False)
        login = {"username": "airflow", "password": password}
        token = self._http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def switch_on(self) -> None:
        """Unpause the DAG, once Airflow has parsed its file."""

        def switch() -> None:
            answer = self._http.patch("/api/v2/dags/user_automation", json={"is_paused": False})
            if answer.status_code == 404:
                raise Unreachable(answer.text)
            answer.raise_for_status()

        wait_until(switch, timeout_s=60, every_s=1.0, what="the DAG")

    def run(self, records: int) -> str:
        """Trigger a run, wait until it succeeds, and return its id."""
        dag = "/api/v2/dags/user_automation"
        self.switch_on()
        body = {"logical_date": None, "conf": {"records": records}}
        run_id: str = self._http.post(f"{dag}/dagRuns", json=body).raise_for_status().json()["dag_run_id"]

        def read_final_state() -> str:
            state: str = self._http.get(f"{dag}/dagRuns/{run_id}").raise_for_status().json()["state"]
            if state in {"queued", "running"}:
                raise Unreachable(state)
            return state

        assert wait_until(read_final_state, timeout_s=240, every_s=1.0, what="the run") == "success"
        return run_id


def read_balanced_receipt(project: Project) -> dict[str, Any]:
    """Return the receipt of the whole topic once nothing is in flight. It must be balanced."""

    def probe() -> dict[str, Any]:
        done = project.try_compose("exec", "-T", "control-center", "penstock", "verify", "--json")
        if not done.stdout:
            raise Unreachable(done.stderr)
        receipt: dict[str, Any] = json.loads(done.stdout)
        if receipt["waiting"]:
            raise Unreachable(f"{receipt['waiting']} records in flight")
        return receipt

    receipt = wait_until(probe, timeout_s=180, every_s=2.0, what="the receipt")
    assert receipt["balanced"], receipt["differences"]
    return receipt


def count_rows(project: Project) -> int:
    """Count the rows of the table with cqlsh in Cassandra's container, which needs no password option."""
    output = project.exec("cassandra_db", "cqlsh", "-e", "SELECT COUNT(*) FROM spark_streams.created_users")
    return next(int(line) for line in output.splitlines() if line.strip().isdigit())


def check_run(project: Project, records: int, password: str = environment.SIMPLE) -> None:
    """Trigger a run and check that every record is acknowledged, balanced and counted. A scheduled run may add more."""
    before = read_balanced_receipt(project)["produced"]
    Airflow(password).run(records)
    receipt = read_balanced_receipt(project)
    assert receipt["produced"] >= before + records
    assert receipt["rows"] == receipt["distinct_ids"] == receipt["produced"] - receipt["rejected"]
    assert count_rows(project) >= receipt["rows"]
    assert receipt["acknowledged"]["attempts"] >= 1, "the control center does not see the delivery log"
    assert receipt["acknowledged"]["runs"] >= 1, "the control center does not see Airflow's runs"


def fetch_page(path: str, **more: Any) -> httpx2.Response:
    """Fetch a page of the control center."""
    return httpx2.get(f"http://127.0.0.1:{PORTS['CONTROL_PORT']}{path}", trust_env=False, timeout=30, **more)


def test_an_open_address_without_passwords_fails_before_anything_starts(users: Project) -> None:
    """The log of the container that Compose names has the reason in one line. No other container was started."""
    write_env(users, ONLY_LINE)
    done = users.try_compose("up", "--detach", "--build", BIND="0.0.0.0")
    assert done.returncode != 0
    assert 'service "secrets-init" didn\'t complete successfully' in done.stderr
    lines = users.compose("logs", "--no-color", "--no-log-prefix", "secrets-init").splitlines()
    assert lines[0] == (
        "secrets-init: BIND=0.0.0.0 allows access from other machines: "
        "AIRFLOW_PASSWORD and CONTROL_PASSWORD must be set"
    )
    states = {container["Service"]: container["State"] for container in users.containers()}
    assert states.pop("secrets-init") == "exited"
    assert set(states.values()) == {"created"}
    users.compose("down", "--volumes")


def test_root_is_rejected_by_the_build(users: Project) -> None:
    """The build of an image for user id 0 fails with the reason."""
    for service in ("control-center", "spark-master"):
        done = users.try_compose("build", service, AIRFLOW_UID="0")
        assert done.returncode != 0, service
        assert "no container runs as root" in done.stdout + done.stderr, service


def test_the_documented_steps_start_everything(project: Project) -> None:
    """Every container is healthy or has completed. Memory and image sizes go to the transcript."""
    states = {
        container["Service"]: (container["State"], container["Health"], container["ExitCode"])
        for container in project.containers()
    }
    assert {states[name] for name in ONCE} == {("exited", "", 0)}
    assert {state for name, state in states.items() if name not in ONCE} == {("running", "healthy", 0)}
    memory = project.memory_mib()
    project.transcript += [f"{name}: {mib} MiB" for name, mib in sorted(memory.items())]
    project.transcript.append(f"all: {sum(memory.values())} MiB")
    sizes = project.engine.docker("images", "--format", "{{.Repository}} {{.Size}}")
    project.transcript += [line for line in sizes.splitlines() if line.startswith("penstock-")]


def test_the_first_run_reaches_the_table(project: Project) -> None:
    """After the DAG is switched on, the documented commands, typed at a terminal, show its rows."""
    Airflow().switch_on()

    def rows() -> str:
        typed, *lines = read_steps()[1].splitlines()
        output = type_at_terminal(project, typed, [*lines, "exit"])
        if "(10 rows)" not in output:
            raise Unreachable(output[-2000:])
        return output

    output = wait_until(rows, timeout_s=240, every_s=3.0, what="ten rows")
    assert "Warning" not in output
    assert "Password:" not in output


def type_at_terminal(project: Project, command: str, lines: list[str]) -> str:
    """Run a command at a terminal, type lines into it, and return what the terminal shows."""
    master, slave = pty.openpty()
    environ = {**project.engine.environment, **project.engine.user_environment()}
    with subprocess.Popen(
        ["sh", "-c", command], stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True, **ORDINARY
    ) as process:
        os.close(slave)
        os.write(master, "".join(f"{line}\n" for line in lines).encode())
        shown = b""
        with contextlib.suppress(OSError):  # on Linux, the end of a terminal that is closed on the other side
            while chunk := os.read(master, 65536):
                shown += chunk
        process.wait(60)
    os.close(master)
    return shown.decode(errors="replace")


def test_records_reach_the_table(project: Project) -> None:
    """A run triggered through Airflow's API reaches Cassandra, counted by cqlsh and balanced by a receipt."""
    check_run(project, 200)


def test_the_program_docker_compose_does_the_same(project: Project) -> None:
    """The standalone program docker-compose works too, as in many tutorials."""
    done = project.run("docker-compose", "ps", "--format", "{{.Service}}")
    assert done.returncode == 0, done.stderr
    assert "spark-submitter" in done.stdout.split()


def test_the_page_needs_no_password_on_loopback(project: Project) -> None:
    """It shows every service as up. Requests with another host name or origin are rejected."""

    def read_snapshot() -> dict[str, Any]:
        """Return the newest snapshot, once it includes the rows. A snapshot is taken every two seconds."""
        now: dict[str, Any] = fetch_page("/api/v1/pipeline").raise_for_status().json()["now"]
        if (now["counts"]["stored"] or 0) < 200:
            raise Unreachable(f"counts: {now['counts']}, {time.time() - now['at_s']:.1f} s ago")
        return now

    now = wait_until(read_snapshot, timeout_s=30, every_s=0.5, what="the rows on the page")
    assert set(now["services"].values()) == {""}
    assert fetch_page("/").status_code == 200
    assert fetch_page("/", headers={"Host": "evil.example.com"}).status_code == 421
    assert fetch_page("/api/v1/pipeline", headers={"Origin": "http://evil.example.com"}).status_code == 403


def test_cassandra_rejects_logins_without_a_password(project: Project) -> None:
    """Cassandra rejects anonymous logins, its default password and wrong passwords."""
    anonymous = project.try_compose("exec", "-T", "-e", "HOME=/nowhere", "cassandra_db", "cqlsh", "-e", "HELP")
    assert anonymous.returncode != 0
    for login in (("-u", "cassandra", "-p", "cassandra"), ("-u", "penstock", "-p", "wrong")):
        done = project.try_compose("exec", "-T", "cassandra_db", "cqlsh", *login, "-e", "DESCRIBE KEYSPACES")
        assert done.returncode != 0, login


def secrets_of(project: Project) -> dict[str, str]:
    """Return every generated secret, as stored by secrets-init."""
    command = ("cat", str(preflight.VOLUMES / "all" / "secrets.json"))
    stored = json.loads(project.compose("run", "--rm", "--no-deps", "-T", "secrets-init", *command))
    return {name: values[0] for name, values in stored["values"].items() if name not in preflight.WITHOUT_VALUE}


def test_no_container_runs_as_root_or_shows_a_secret(project: Project) -> None:
    """No secret is in process arguments, which every user of the machine sees, or in `docker inspect`."""
    secrets = secrets_of(project)
    shown = project.compose("top") + project.compose("config")
    for container in project.containers():
        shown += project.engine.docker("inspect", container["ID"])
        if container["State"] == "running":
            user = project.exec(container["Service"], "id", "-u").strip()
            assert user != "0", container["Service"]
    assert [name for name, value in secrets.items() if value in shown] == []


def test_each_service_sees_only_its_own_secrets(project: Project) -> None:
    """Its folder has exactly the files that `preflight.FILES` lists. Other services have none."""
    folders = {"cassandra_db": "cassandra", "spark-worker": "spark", "spark-submitter": "spark"}
    for container in project.containers():
        service = container["Service"]
        if container["State"] == "running":
            folder = "airflow" if service.startswith("airflow-") else folders.get(service, service)
            listed = project.exec(service, "sh", "-c", f"ls {preflight.FOLDER} 2>/dev/null || true").split()
            assert set(listed) == set(preflight.FILES.get(folder, ())), service


def test_down_and_up_with_new_passwords_loses_nothing(project: Project) -> None:
    """Rows, topic, runs and the job's checkpoint are kept. Old passwords are rejected, new ones accepted."""
    before = read_balanced_receipt(project)
    project.compose("down")
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in LATER.items()}
    write_env(project, ONLY_LINE + "".join(f'{name}="{value}"\n' for name, value in quoted.items()))
    project.compose("up", "--detach")
    wait_for_health(project)
    after = read_balanced_receipt(project)
    for name in ("produced", "stored", "rows"):
        assert after[name] >= before[name], name
    assert after["reread"] == 0, "the checkpoint was lost"
    with pytest.raises(httpx2.HTTPStatusError):
        Airflow()
    assert fetch_page("/api/v1/pipeline").status_code == 401
    assert fetch_page("/api/v1/pipeline", auth=("any", LATER["CONTROL_PASSWORD"])).status_code == 200
    admin = ("-u", "cassandra", "-p", LATER["CASSANDRA_ADMIN_PASSWORD"])
    project.exec("cassandra_db", "cqlsh", *admin, "-e", "LIST ROLES")
    check_run(project, 100, LATER["AIRFLOW_PASSWORD"])


def test_a_password_is_changed_without_down(project: Project) -> None:
    """`up` restarts the services that use the password."""
    text = (project.root / ".env").read_text()
    write_env(project, text.replace(LATER["CONTROL_PASSWORD"], "yet another"))
    project.compose("up", "--detach")
    wait_for_health(project)
    assert fetch_page("/api/v1/pipeline", auth=("any", LATER["CONTROL_PASSWORD"])).status_code == 401
    assert fetch_page("/api/v1/pipeline", auth=("any", "yet another")).status_code == 200


def test_another_user_id_is_rejected(project: Project) -> None:
    """Its containers could not read the files of the first one. Nothing is changed."""
    done = project.try_compose("run", "--rm", "--no-deps", "-T", "--user", "1234:0", "secrets-init")
    assert done.returncode == 2
    assert "AIRFLOW_UID is 1234, but the volumes were created with 1000" in done.stderr


def test_a_container_that_dies_is_restarted(project: Project) -> None:
    """After the job's processes are killed, the engine restarts them, and no record is missing."""
    project.try_compose("exec", "-T", "spark-submitter", "bash", "-c", "kill -9 -1")
    project.compose("up", "--detach", "--wait", "--wait-timeout", "300", "--no-recreate", "spark-submitter")
    check_run(project, 50, LATER["AIRFLOW_PASSWORD"])


@pytest.mark.parametrize("files", [OFFLINE[:1], OFFLINE, ZOOKEEPER], ids="+".join)
def test_compose_accepts_the_files(engine: Engine, tmp_path: Path, files: tuple[str, ...]) -> None:
    """Compose accepts each documented set of files without a `.env`."""
    copy_checkout(tmp_path)
    Project(engine, tmp_path, *files).compose("config", "--quiet")


@pytest.fixture(scope="module")
def zookeeper(engine: Engine, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Root's checkout with secrets of `compose init`, the images' default user, and Kafka with ZooKeeper."""
    project.compose("down", "--volumes", "--remove-orphans")
    root = tmp_path_factory.mktemp("checkout") / "penstock"
    copy_checkout(root)
    zookeeper = Project(engine, root, *ZOOKEEPER, **PORTS)
    done = zookeeper.run("./penstock", "compose", "init")
    assert done.returncode == 0, done.stderr
    assert environment.read_env(root / ".env")["AIRFLOW_UID"] == "50000"
    assert not (root / ".venv").exists(), "nothing was installed"
    try:
        zookeeper.compose("up", "--detach", "--build")
        wait_for_health(zookeeper)
        yield zookeeper
    finally:
        clean_up(zookeeper)


def test_kafka_with_zookeeper_and_own_secrets(zookeeper: Project) -> None:
    """With the other set of files, the pipeline works on Kafka 3.9, and every password is the one in `.env`."""
    known = environment.read_env(zookeeper.root / ".env")
    assert {secret.name: known[secret.name] for secret in environment.SECRETS if secret.name in known} == {
        **secrets_of(zookeeper),
        **{name: known[name] for name in preflight.WITHOUT_VALUE},
    }
    assert "zookeeper" in {container["Service"] for container in zookeeper.containers()}
    assert fetch_page("/api/v1/pipeline").status_code == 401
    began = time.monotonic()
    check_run(zookeeper, 50, known["AIRFLOW_PASSWORD"])
    zookeeper.transcript.append(f"run with ZooKeeper: {time.monotonic() - began:.0f} s")
