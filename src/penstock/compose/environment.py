"""The file `.env` of Docker Compose: its variables, their meaning, and the generation of secrets.

Standard library only, also for Python 3.9, macOS and Windows: it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock import remedies
from penstock.errors import UsageError
from penstock.files import write_atomically
from penstock.net import is_loopback
from penstock.stack import generators

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SIMPLE = "airflow"
"""The well-known password of tutorials: the default on loopback."""
WITHOUT_VALUE = {"AIRFLOW_PASSWORD": SIMPLE, "CONTROL_PASSWORD": ""}
"""Defaults on loopback. All other secrets are generated."""
LOOPBACK = "127.0.0.1"
DEFAULT_UID = 50000
"""User id of Airflow's image."""
_HEAD = f"""\
# All variables of docker-compose.yml. All are optional.
# `{remedies.init_compose()}` creates .env from this file, with generated secrets."""
_ASSIGNMENT = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)$")
_QUOTED = re.compile(r"""^(["'])(.*?)(?<!\\)\1\s*(?:#.*)?$""")


@dataclass(frozen=True)
class Variable:
    """A variable of `.env`. `generate` returns a new secret."""

    name: str
    meaning: str
    default: str = ""
    generate: Callable[[], str] | None = None


VARIABLES = (
    Variable(
        "AIRFLOW_UID",
        "User id of the containers: your own (id -u), so that you own the files in dags/. Not 0.",
        str(DEFAULT_UID),
    ),
    Variable("AIRFLOW_USERNAME", "Airflow's user.", "airflow"),
    Variable(
        "AIRFLOW_PASSWORD", "Airflow's password; empty: airflow, on loopback only.", generate=secrets.token_urlsafe
    ),
    Variable(
        "CONTROL_PASSWORD", "Control center; empty: no sign-in, on loopback only.", generate=secrets.token_urlsafe
    ),
    Variable(
        "AIRFLOW_FERNET_KEY", "Encrypts what Airflow stores in its database.", generate=generators.generate_fernet_key
    ),
    Variable("AIRFLOW_JWT_SECRET", "Signs the tokens of Airflow's tasks.", generate=secrets.token_hex),
    Variable("AIRFLOW_SECRET_KEY", "Signs the sessions of Airflow's UI.", generate=secrets.token_hex),
    Variable("POSTGRES_PASSWORD", "Airflow's database.", generate=secrets.token_hex),
    Variable("CASSANDRA_PASSWORD", "Cassandra's role penstock.", generate=secrets.token_hex),
    Variable("CASSANDRA_ADMIN_PASSWORD", "Cassandra's superuser, the role cassandra.", generate=secrets.token_hex),
    Variable("SPARK_AUTH_SECRET", "Shared by Spark's master, worker and job.", generate=secrets.token_hex),
    Variable(
        "KAFKA_CLUSTER_ID", "Kafka's cluster id, which must not change once there is data.", "penstock-streaming-log"
    ),
    Variable("PENSTOCK_SOURCE_URL", "URL of the API that records come from.", "https://randomuser.me/api/"),
    Variable("PENSTOCK_SOURCE_MAX_WAIT_S", "Longest wait for its rate limit, in seconds.", "300"),
    Variable(
        "PENSTOCK_SOURCE_MAX_FAILED_SHARE",
        "A run fails if more than this share of its entries become dead letters.",
        "0.2",
    ),
    Variable("PENSTOCK_PIPELINE", "Module that defines PIPELINE.", "penstock.pipelines.users"),
    Variable("PENSTOCK_WIRE_FORMAT", "Encoding of the values in Kafka: json or avro.", "json"),
    Variable("PENSTOCK_LOG_JSON", "Log JSON lines instead of text: true or false.", "false"),
    Variable(
        "BIND",
        "Address for the ports below; addresses other than loopback require the first two passwords.",
        LOOPBACK,
    ),
    Variable("CONTROL_NAMES", "Host names by which browsers reach the control center: a[,b]."),
    Variable("KAFKA_PORT", "Kafka, for clients on this machine.", "9092"),
    Variable("REGISTRY_PORT", "Schema registry.", "8081"),
    Variable("CASSANDRA_PORT", "Cassandra.", "9042"),
    Variable("AIRFLOW_PORT", "Airflow.", "8080"),
    Variable("SPARK_UI_PORT", "Spark master's UI.", "9090"),
    Variable("SPARK_WORKER_UI_PORT", "Spark worker's UI.", "9091"),
    Variable("SPARK_JOB_UI_PORT", "UI of the Spark job.", "4040"),
    Variable("CONTROL_PORT", "Control center.", "9021"),
    Variable("SOURCE_PORT", "Stand-in API, with docker-compose.offline.yml.", "8000"),
)
SECRETS = tuple(variable for variable in VARIABLES if variable.generate is not None)


@dataclass(frozen=True)
class EnvFile:
    """Content of a `.env`: its variables, and the error of each invalid line."""

    variables: dict[str, str]
    errors: list[str]


def parse_env(content: bytes) -> EnvFile:
    """Parse a `.env`. A file that is not UTF-8 has no variables and one error."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return EnvFile({}, ["not UTF-8 (PowerShell's > and Notepad write UTF-16): save it as UTF-8"])
    file = EnvFile({}, [])
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            _parse_line(number, line.strip(), file)
    return file


def _parse_line(number: int, line: str, file: EnvFile) -> None:
    """Add the variable or error of a line to `file`. Errors never show values, which may be secret."""
    assignment = _ASSIGNMENT.match(line)
    if assignment is None:
        word = re.match(r"[\w.-]{1,40}", line)
        file.errors.append(f"line {number}, {word[0] if word else '...'}: expected NAME=value")
        return
    name, value = assignment.groups()
    quoted = _QUOTED.match(value)
    if quoted is None and value[:1] in {'"', "'"}:
        file.errors.append(f"line {number}, {name}: unterminated quote")
        return
    file.variables[name] = quoted[2] if quoted else re.sub(r"(?:^|\s+)#.*", "", value).strip()


def read_env(path: Path) -> dict[str, str]:
    """Return the variables of a `.env`, none if it does not exist."""
    return parse_env(path.read_bytes()).variables if path.exists() else {}


def render_example() -> str:
    """Render `.env.example`: all variables, with empty secrets."""
    lines = (f"\n# {variable.meaning}\n{variable.name}={variable.default}" for variable in VARIABLES)
    return "\n".join([_HEAD, *lines, ""])


def add_missing_variables(path: Path, *, simple_login: bool = False) -> list[str]:
    """Add missing secrets and the user id to the `.env` at `path` and return their names. Other lines are unchanged.

    With `simple_login` Airflow's password is `airflow`. Raises `UsageError` if other machines could use it or another
    password is set, and if a line of the file is invalid.
    """
    file = parse_env(path.read_bytes()) if path.exists() else EnvFile({}, [])
    if file.errors:
        raise UsageError(f"{path}: {file.errors[0]}", hint="correct the file, or move it")
    if simple_login:
        _check_simple_login(file.variables)
    wanted = {"AIRFLOW_UID": get_own_uid} | {secret.name: secret.generate for secret in SECRETS}
    if simple_login:
        wanted["AIRFLOW_PASSWORD"] = lambda: SIMPLE
    missing = {name: generate() for name, generate in wanted.items() if generate and not file.variables.get(name)}
    if missing:
        _write_variables(path, missing)
    return list(missing)


def get_own_uid() -> str:
    """Return the id of the current user, or that of the images for root and on Windows, which has no user ids."""
    getuid: Callable[[], int] | None = getattr(os, "getuid", None)
    return str((getuid() if getuid else 0) or DEFAULT_UID)


def find_missing_passwords(variables: Mapping[str, str]) -> list[str]:
    """Return the passwords that must be set because `BIND` allows access from other machines, but are not."""
    if is_loopback(variables.get("BIND") or LOOPBACK):
        return []
    return [name for name, default in WITHOUT_VALUE.items() if variables.get(name, "") in ("", default)]


def _check_simple_login(variables: Mapping[str, str]) -> None:
    bind = variables.get("BIND") or LOOPBACK
    if not is_loopback(bind):
        raise UsageError(f"BIND={bind}: other machines could sign in with the password {SIMPLE!r}", hint="remove BIND")
    if variables.get("AIRFLOW_PASSWORD") not in (None, "", SIMPLE):
        raise UsageError("AIRFLOW_PASSWORD is set already", hint="remove that line from .env")


def _write_variables(path: Path, values: Mapping[str, str]) -> None:
    """Write the variables, replacing empty ones in place. Only the owner can read the file."""
    text = path.read_text(encoding="utf-8-sig") if path.exists() else render_example()
    for name, value in values.items():
        line = f"{name}={value}"
        text, replaced = re.subn(rf"^{name}=.*$", line, text, flags=re.MULTILINE)
        if not replaced:
            text = f"{text.rstrip()}\n{line}\n"
    write_atomically(path, text)
