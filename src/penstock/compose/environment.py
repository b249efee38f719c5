"""`.env`, which Docker Compose reads: what may be set, what it means, and how secrets of one's own get into it.

The standard library alone, on Python 3.9, macOS and Windows too: it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import WrongUse
from penstock.net import is_loopback
from penstock.stack import generators

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SIMPLE = "airflow"
"""The password that every tutorial uses: what holds on loopback as long as no other one is set."""
LOOPBACK = "127.0.0.1"
DEFAULT_UID = 50000
"""The user of Airflow's image."""
_HEAD = """\
# Everything that docker-compose.yml may be given; nothing has to be set.
# `./penstock compose init` writes .env from this file, with secrets of your own."""
_ASSIGNMENT = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)$")
_QUOTED = re.compile(r"""^(["'])(.*?)(?<!\\)\1\s*(?:#.*)?$""")


@dataclass(frozen=True)
class Variable:
    """A variable of `.env`: `default` holds when it is not set, `generate` returns a new secret."""

    name: str
    meaning: str
    default: str = ""
    generate: Callable[[], str] | None = None


VARIABLES = (
    Variable(
        "AIRFLOW_UID",
        "User id of the containers; yours, so that files in dags/ are yours: id -u. Not 0.",
        str(DEFAULT_UID),
    ),
    Variable("AIRFLOW_USERNAME", "Airflow's user.", "airflow"),
    Variable(
        "AIRFLOW_PASSWORD", "Airflow's password; not set: airflow, on loopback only.", generate=secrets.token_urlsafe
    ),
    Variable(
        "CONTROL_PASSWORD", "Control center; not set: no sign-in, on loopback only.", generate=secrets.token_urlsafe
    ),
    Variable("AIRFLOW_FERNET_KEY", "Encrypts what Airflow stores in its database.", generate=generators.fernet_key),
    Variable("AIRFLOW_JWT_SECRET", "Signs the tokens of Airflow's tasks.", generate=secrets.token_hex),
    Variable("AIRFLOW_SECRET_KEY", "Signs the sessions of Airflow's page.", generate=secrets.token_hex),
    Variable("POSTGRES_PASSWORD", "Airflow's database.", generate=secrets.token_hex),
    Variable("CASSANDRA_PASSWORD", "Cassandra's role penstock.", generate=secrets.token_hex),
    Variable("CASSANDRA_ADMIN_PASSWORD", "Cassandra's superuser, the role cassandra.", generate=secrets.token_hex),
    Variable("SPARK_AUTH_SECRET", "Shared by Spark's master, worker and job.", generate=secrets.token_hex),
    Variable(
        "KAFKA_CLUSTER_ID", "Kafka's cluster id, which must not change once data exist.", "penstock-streaming-log"
    ),
    Variable("PENSTOCK_SOURCE_URL", "The API that the records come from.", "https://randomuser.me/api/"),
    Variable("PENSTOCK_SOURCE_MAX_WAIT_S", "Longest that its rate limit is waited for, in seconds.", "300"),
    Variable("PENSTOCK_SOURCE_MAX_FAILED_SHARE", "A run fails when more of its entries become dead letters.", "0.2"),
    Variable("PENSTOCK_PIPELINE", "The module that holds PIPELINE.", "penstock.pipelines.users"),
    Variable("PENSTOCK_WIRE_FORMAT", "Encoding of the values in Kafka: json or avro.", "json"),
    Variable("PENSTOCK_LOG_JSON", "Log JSON lines instead of text: true or false.", "false"),
    Variable(
        "BIND",
        "The address that the ports below listen on; another than loopback needs the first two passwords.",
        LOOPBACK,
    ),
    Variable("CONTROL_NAMES", "Host names under which browsers reach the control center: a[,b]."),
    Variable("KAFKA_PORT", "Kafka, for clients on this machine.", "9092"),
    Variable("REGISTRY_PORT", "Schema registry.", "8081"),
    Variable("CASSANDRA_PORT", "Cassandra.", "9042"),
    Variable("AIRFLOW_PORT", "Airflow.", "8080"),
    Variable("SPARK_UI_PORT", "Spark master's page.", "9090"),
    Variable("SPARK_WORKER_UI_PORT", "Spark worker's page.", "9091"),
    Variable("SPARK_JOB_UI_PORT", "The Spark job's page.", "4040"),
    Variable("CONTROL_PORT", "Control center.", "9021"),
    Variable("SOURCE_PORT", "The stand-in API, with docker-compose.offline.yml.", "8000"),
)
SECRETS = tuple(variable for variable in VARIABLES if variable.generate is not None)


@dataclass(frozen=True)
class File:
    """What a `.env` holds: the variables of its lines, and what is wrong with each line that is not one."""

    variables: dict[str, str]
    faults: list[str]


def parse(content: bytes) -> File:
    """Return what a `.env` holds; a file that is not UTF-8 has no variables and one fault."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return File({}, ["not UTF-8 (PowerShell's > and Notepad write UTF-16): save it as UTF-8"])
    found = File({}, [])
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            _parse_line(number, line.strip(), found)
    return found


def _parse_line(number: int, line: str, found: File) -> None:
    """Add the line's variable to `found`, or its fault; a fault shows no value, which may be a secret."""
    assignment = _ASSIGNMENT.match(line)
    if assignment is None:
        word = re.match(r"[\w.-]{1,40}", line)
        found.faults.append(f"line {number}, {word[0] if word else '...'}: expected NAME=value")
        return
    name, value = assignment.groups()
    quoted = _QUOTED.match(value)
    if quoted is None and value[:1] in {'"', "'"}:
        found.faults.append(f"line {number}, {name}: the quote is not closed")
        return
    found.variables[name] = quoted[2] if quoted else re.sub(r"(?:^|\s+)#.*", "", value).strip()


def read(path: Path) -> dict[str, str]:
    """Return the variables of a `.env`; none when it does not exist."""
    return parse(path.read_bytes()).variables if path.exists() else {}


def example() -> str:
    """Return the text of `.env.example`: every variable, the secrets empty."""
    lines = (f"\n# {variable.meaning}\n{variable.name}={variable.default}" for variable in VARIABLES)
    return "\n".join([_HEAD, *lines, ""])


def init(path: Path, *, simple_login: bool = False) -> list[str]:
    """Write the secrets and the user id that the `.env` at `path` lacks, and return their names; the rest stays.

    With `simple_login` Airflow's password is `airflow`. Raises `WrongUse` when that would be reachable from other
    machines or when another one is set, and when a line of the file cannot be read.
    """
    found = parse(path.read_bytes()) if path.exists() else File({}, [])
    if found.faults:
        raise WrongUse(f"{path}: {found.faults[0]}", hint="correct the file, or move it away")
    if simple_login:
        _check_simple_login(found.variables)
    wanted = {"AIRFLOW_UID": own_uid} | {secret.name: secret.generate for secret in SECRETS}
    if simple_login:
        wanted["AIRFLOW_PASSWORD"] = lambda: SIMPLE
    fresh = {name: make() for name, make in wanted.items() if make and not found.variables.get(name)}
    if fresh:
        _write(path, fresh)
    return list(fresh)


def own_uid() -> str:
    """Return the id of the user who runs this; the images' own for root, and on Windows, which has none."""
    getuid: Callable[[], int] | None = getattr(os, "getuid", None)
    return str((getuid() if getuid else 0) or DEFAULT_UID)


def _check_simple_login(known: Mapping[str, str]) -> None:
    bind = known.get("BIND") or LOOPBACK
    if not is_loopback(bind):
        raise WrongUse(f"BIND={bind}: other machines would reach the password {SIMPLE!r}", hint="remove BIND")
    if known.get("AIRFLOW_PASSWORD") not in (None, "", SIMPLE):
        raise WrongUse("AIRFLOW_PASSWORD is set already", hint="remove that line from .env")


def _write(path: Path, fresh: Mapping[str, str]) -> None:
    """Put the lines in, those of empty ones in their place; only the owner may read the file."""
    text = path.read_text(encoding="utf-8-sig") if path.exists() else example()
    for name, value in fresh.items():
        line = f"{name}={value}"
        text, replaced = re.subn(rf"^{name}=.*$", line, text, flags=re.MULTILINE)
        if not replaced:
            text = f"{text.rstrip()}\n{line}\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    unfinished.replace(path)
