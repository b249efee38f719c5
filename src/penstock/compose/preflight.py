"""What runs before every other container: checks of the machine, and the secrets of each service as files.

Compose fills in its variables before any container runs, so secrets that nobody set are made here, once, and kept in a
volume of their own. Each service gets a volume with its own secrets only. A value that is set (in `.env`, or by the
shell) wins; earlier values are kept, so that a database which still has the old password can be given the new one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from penstock.compose.environment import DEFAULT_UID, LOOPBACK, SECRETS, SIMPLE
from penstock.errors import WrongUse, exits_by_kind
from penstock.net import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Values = Mapping[str, list[str]]
    """The values of each secret, the newest first."""

FOLDER = Path("/etc/penstock/secrets")
"""Where a service finds its secrets: its volume."""
VOLUMES = Path("/var/lib/secrets")
"""Where secrets-init has the volume of each service, and in `all` what it keeps."""
DAGS = Path("/opt/airflow/dags")
LEAST_MEMORY_MIB = 5600
"""What all services take together while records are stored, with a margin: with less, containers are killed."""
WITHOUT_VALUE = {"AIRFLOW_PASSWORD": SIMPLE, "CONTROL_PASSWORD": ""}
"""What holds on loopback as long as nothing is set; every other secret is generated."""


def check(environ: Mapping[str, str], uid: int, memory_mib: int, dags: Path) -> None:
    """Raise `WrongUse` for a machine or settings on which the services could not run, or would be open to others."""
    if uid == 0:
        raise WrongUse("AIRFLOW_UID=0: no container runs as root", hint=f"AIRFLOW_UID={DEFAULT_UID} in .env")
    bind = environ.get("BIND") or LOOPBACK
    missing = [name for name, value in WITHOUT_VALUE.items() if environ.get(name, "") in ("", value)]
    if missing and not is_loopback(bind):
        raise WrongUse(
            f"BIND={bind} lets other machines in: {' and '.join(missing)} must be set",
            hint=f"./penstock compose init, which writes them to .env, or BIND={LOOPBACK}",
        )
    if memory_mib < LEAST_MEMORY_MIB:
        raise WrongUse(
            f"Docker has {memory_mib} MiB of memory, the services need {LEAST_MEMORY_MIB} MiB",
            hint="give Docker 8 GiB: in Docker Desktop under Settings, Resources",
        )
    _check_dags(dags, uid)


def _check_dags(folder: Path, uid: int) -> None:
    try:
        for path in folder.glob("*.py"):
            path.read_bytes()
    except OSError as error:
        raise WrongUse(
            f"the user {uid} cannot read {error.filename}, which is mounted from dags/",
            hint='chmod -R a+rX dags, or echo "AIRFLOW_UID=$(id -u)" >> .env',
        ) from None


def memory_mib() -> int:
    """Return the memory of the machine that the engine runs on, in MiB."""
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    return int(total.split()[1]) // 1024


def write_secrets(environ: Mapping[str, str], uid: int, folder: Path) -> None:
    """Write each service's secrets to its folder below `folder`. Raises `WrongUse` when the user id has changed."""
    kept = folder / "all" / "secrets.json"
    new: dict[str, Any] = {"uid": uid, "values": {}}
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else new
    if known["uid"] != uid:
        raise WrongUse(
            f"AIRFLOW_UID was {known['uid']} when the volumes were made, and is {uid} now",
            hint=f"AIRFLOW_UID={known['uid']} in .env; or docker compose down --volumes, which deletes the data",
        )
    values = {secret.name: _values(secret.name, secret.generate, environ, known["values"]) for secret in SECRETS}
    _write(kept, json.dumps({"uid": uid, "values": values}, indent=2), 0o640)  # for another user, who is told
    for service, files in FILES.items():
        for name, render in files.items():
            _write(folder / service / name, render(values), 0o444)  # its volume is mounted by the service alone


def _values(
    name: str, generate: Callable[[], str] | None, environ: Mapping[str, str], known: Mapping[str, list[str]]
) -> list[str]:
    """Return a secret's values, the newest first: what is set, else what is kept, else a new one."""
    earlier = known.get(name, [])
    newest = environ.get(name) or (WITHOUT_VALUE[name] if name in WITHOUT_VALUE else next(iter(earlier), ""))
    if not newest and name not in WITHOUT_VALUE and generate is not None:
        newest = generate()
    return [newest, *(value for value in earlier if value != newest)]


def _newest(name: str) -> Callable[[Values], str]:
    return lambda values: values[name][0]


def _all(name: str) -> Callable[[Values], str]:
    return lambda values: json.dumps(values[name])


def _database_url(values: Values) -> str:
    return f"postgresql+psycopg2://airflow:{quote(values['POSTGRES_PASSWORD'][0], safe='')}@postgres/airflow"


def _fernet_keys(values: Values) -> str:
    """Return the key that encrypts, and those that older connections were encrypted with."""
    return ",".join(values["AIRFLOW_FERNET_KEY"])


_CASSANDRA = {"penstock_cassandra_password": _newest("CASSANDRA_PASSWORD")}
_AIRFLOW = {"penstock_airflow_password": _newest("AIRFLOW_PASSWORD")}
_SPARK = {"spark_auth_secret": _newest("SPARK_AUTH_SECRET")}
FILES: dict[str, dict[str, Callable[[Values], str]]] = {
    "airflow": {
        "airflow_database_url": _database_url,
        "airflow_fernet_key": _fernet_keys,
        "airflow_jwt_secret": _newest("AIRFLOW_JWT_SECRET"),
        "airflow_secret_key": _newest("AIRFLOW_SECRET_KEY"),
        "postgres_passwords": _all("POSTGRES_PASSWORD"),
        **_AIRFLOW,
    },
    "cassandra": _CASSANDRA,
    "control-center": {
        "penstock_control_password": _newest("CONTROL_PASSWORD"),
        **_AIRFLOW,
        **_CASSANDRA,
    },
    "pipeline-init": {"cassandra_admin_passwords": _all("CASSANDRA_ADMIN_PASSWORD"), **_CASSANDRA},
    "postgres": {"postgres_password": _newest("POSTGRES_PASSWORD")},
    "spark": {**_SPARK, **_CASSANDRA},
    "spark-master": _SPARK,
    "watch": {**_AIRFLOW, **_CASSANDRA},
}
"""Folder by folder, each a volume: what its service reads. Names that begin with `penstock_` are settings."""


def _write(path: Path, text: str, mode: int) -> None:
    """Put `text` at `path`, whole or not at all; a file that holds it already is left alone."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    unfinished = path.with_name(f".{path.name}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)


def main() -> None:
    """Do what the container `secrets-init` is there for."""
    check(os.environ, os.getuid(), memory_mib(), DAGS)
    write_secrets(os.environ, os.getuid(), VOLUMES)


if __name__ == "__main__":
    with exits_by_kind("secrets-init"):
        main()
        sys.stderr.write("secrets-init: every check passed, every secret is written\n")
