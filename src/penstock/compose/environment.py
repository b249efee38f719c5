"""`.env`, which Docker Compose reads: what may be set, what it means, and secrets of one's own."""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.config import LOOPBACKS
from penstock.errors import WrongUse
from penstock.stack.credentials import MAKERS

SIMPLE = "airflow"
"""The password that every tutorial knows; on loopback alone, and only when it is asked for."""
_HEAD = (
    "# What docker-compose.yml may be told; `./penstock compose init` writes .env from it, with secrets of your own."
)
_LINE = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Variable:
    """A variable of `.env`: `make` gives a new secret; without it `default` is what holds when it is not set."""

    name: str
    told: str
    default: str = ""
    make: Callable[[], str] | None = None


VARIABLES = (
    Variable("AIRFLOW_UID", "The user that the containers run as: yours, so that files in dags/ are yours.", "50000"),
    Variable("AIRFLOW_USERNAME", "Airflow's user.", "airflow"),
    Variable("AIRFLOW_PASSWORD", "Airflow's password.", make=secrets.token_urlsafe),
    Variable("AIRFLOW_FERNET_KEY", "Encrypts what Airflow keeps in its database.", make=MAKERS["airflow_fernet_key"]),
    Variable("AIRFLOW_JWT_SECRET", "Signs the tokens of Airflow's tasks.", make=secrets.token_hex),
    Variable("AIRFLOW_SECRET_KEY", "Signs the sessions of Airflow's page.", make=secrets.token_hex),
    Variable("POSTGRES_PASSWORD", "Of Airflow's database.", make=secrets.token_hex),
    Variable("CASSANDRA_PASSWORD", "Of the role penstock.", make=secrets.token_hex),
    Variable("CASSANDRA_ADMIN_PASSWORD", "Of the role cassandra, which may do everything.", make=secrets.token_hex),
    Variable("SPARK_AUTH_SECRET", "Shared by Spark's master, worker and job.", make=secrets.token_hex),
    Variable("CONTROL_PASSWORD", "Of the control center.", make=secrets.token_urlsafe),
    Variable("KAFKA_CLUSTER_ID", "Kafka's name for itself; it must not change.", make=MAKERS["kafka_cluster_id"]),
    Variable("PENSTOCK_SOURCE_URL", "The API that the records come from.", "https://randomuser.me/api/"),
    Variable("PENSTOCK_PIPELINE", "The module that holds PIPELINE.", "penstock.pipelines.users"),
    Variable("PENSTOCK_WIRE_FORMAT", "Encoding of the values in Kafka: json or avro.", "json"),
    Variable("PENSTOCK_LOG_JSON", "Log JSON lines instead of text: true or false.", "false"),
    Variable("BIND", "The address that the ports below listen on.", "127.0.0.1"),
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


def example() -> str:
    """The text of `.env.example`: every variable, the secrets empty."""
    return "\n".join([_HEAD, *(f"\n# {one.told}\n{one.name}={one.default}" for one in VARIABLES), ""])


def read(path: Path) -> dict[str, str]:
    """The variables in a file; none when it is not there."""
    return dict(_LINE.findall(path.read_text(encoding="utf-8"))) if path.exists() else {}


def lacking(known: Mapping[str, str]) -> list[str]:
    """The secrets without which Compose refuses to start."""
    return [one.name for one in VARIABLES if one.make is not None and not known.get(one.name)]


def init(path: Path, *, simple_login: bool = False) -> list[str]:
    """Write what `.env` lacks, and give back the names; what is there stays as it is.

    With `simple_login` Airflow's password is `airflow`. Raises `WrongUse` when that would be reachable from elsewhere,
    or when another one is set already.
    """
    known = read(path)
    if simple_login:
        _check_simple(known)
    fresh = {one.name: _value(one, simple_login) for one in VARIABLES if not known.get(one.name) and _is_written(one)}
    if fresh:
        _write(path, fresh)
    return list(fresh)


def _is_written(one: Variable) -> bool:
    return one.make is not None or one.name == "AIRFLOW_UID"


def _value(one: Variable, simple_login: bool) -> str:
    if one.name == "AIRFLOW_UID":
        return str(os.getuid() or one.default)  # root's own id is no user of the images
    if one.name == "AIRFLOW_PASSWORD" and simple_login:
        return SIMPLE
    assert one.make is not None
    return one.make()


def _check_simple(known: Mapping[str, str]) -> None:
    bind = known.get("BIND") or "127.0.0.1"
    if bind not in LOOPBACKS:
        raise WrongUse(f"BIND={bind}: the password {SIMPLE!r} would be reachable from elsewhere", hint="leave it out")
    if known.get("AIRFLOW_PASSWORD") not in (None, "", SIMPLE):
        raise WrongUse("AIRFLOW_PASSWORD is set already", hint="take the line out of .env first")


def _write(path: Path, fresh: Mapping[str, str]) -> None:
    """Put the lines in, those of empty ones in their place; the file is its owner's alone."""
    text = path.read_text(encoding="utf-8") if path.exists() else example()
    for name, value in fresh.items():
        line = f"{name}={value}"
        text, found = re.subn(rf"^{name}=.*$", line, text, flags=re.MULTILINE)
        if not found:
            text = f"{text.rstrip()}\n{line}\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(path)
