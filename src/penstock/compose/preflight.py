"""Preflight of Docker Compose, before all other containers: checks of the machine, and secret files of each service.

Compose substitutes variables before any container runs, so missing secrets are generated here once and stored in a
separate volume. Each service has a volume with only its own secrets. Values set in `.env` or the shell take precedence.
Earlier values are kept, so that a database that still has an old password can be changed to the new one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from penstock import remedies
from penstock.compose.environment import DEFAULT_UID, LOOPBACK, SECRETS, WITHOUT_VALUE, find_missing_passwords
from penstock.errors import UsageError, exits_by_kind
from penstock.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Values = Mapping[str, list[str]]
    """Values by secret, newest first."""

FOLDER = Path("/etc/penstock/secrets")
"""Mount point of a service's secrets volume."""
VOLUMES = Path("/var/lib/secrets")
"""Mount point of all secrets volumes in secrets-init. Its own is `all`."""
DAGS = Path("/opt/airflow/dags")
MIN_MEMORY_MIB = 5600
"""Memory of all services under load, with a margin. With less, containers are killed."""


def check_requirements(environ: Mapping[str, str], uid: int, memory_mib: int, dags: Path) -> None:
    """Raise `UsageError` if the services could not run on this machine or would be accessible without a password."""
    if uid == 0:
        raise UsageError("AIRFLOW_UID=0: no container runs as root", hint=f"set AIRFLOW_UID={DEFAULT_UID} in .env")
    if missing := find_missing_passwords(environ):
        raise UsageError(
            f"BIND={environ['BIND']} allows access from other machines: {' and '.join(missing)} must be set",
            hint=f"{remedies.init_compose()}, which writes them to .env, or set BIND={LOOPBACK}",
        )
    if memory_mib < MIN_MEMORY_MIB:
        raise UsageError(
            f"Docker has {memory_mib} MiB of memory, the services require {MIN_MEMORY_MIB} MiB",
            hint="give Docker 8 GiB: in Docker Desktop under Settings, Resources",
        )
    _check_dags(dags, uid)


def _check_dags(folder: Path, uid: int) -> None:
    try:
        for path in folder.glob("*.py"):
            path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"user {uid} cannot read {error.filename}, which is mounted from dags/",
            hint='chmod -R a+rX dags, or echo "AIRFLOW_UID=$(id -u)" >> .env',
        ) from None


def memory_mib() -> int:
    """Return the memory of Docker's host in MiB."""
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    return int(total.split()[1]) // 1024


def write_secrets(environ: Mapping[str, str], uid: int, folder: Path) -> None:
    """Write each service's secrets to its subfolder of `folder`. Raises `UsageError` if the user id has changed."""
    file = folder / "all" / "secrets.json"
    new: dict[str, Any] = {"uid": uid, "values": {}}
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else new
    if stored["uid"] != uid:
        raise UsageError(
            f"AIRFLOW_UID is {uid}, but the volumes were created with {stored['uid']}",
            hint=f"set AIRFLOW_UID={stored['uid']} in .env; or docker compose down --volumes, which deletes the data",
        )
    values = {secret.name: _merge_values(secret.name, secret.generate, environ, stored["values"]) for secret in SECRETS}
    _save_file(file, json.dumps({"uid": uid, "values": values}, indent=2), 0o640)  # group may read: see the error above
    for service, files in FILES.items():
        for name, render in files.items():
            _save_file(folder / service / name, render(values), 0o444)  # only this service mounts the volume


def _merge_values(
    name: str, generate: Callable[[], str] | None, environ: Mapping[str, str], stored: Mapping[str, list[str]]
) -> list[str]:
    """Return a secret's values, newest first. The newest is the one set, else the stored one, else a generated one."""
    earlier = stored.get(name, [])
    newest = environ.get(name) or (WITHOUT_VALUE[name] if name in WITHOUT_VALUE else next(iter(earlier), ""))
    if not newest and name not in WITHOUT_VALUE and generate is not None:
        newest = generate()
    return [newest, *(value for value in earlier if value != newest)]


def _render_newest(name: str) -> Callable[[Values], str]:
    return lambda values: values[name][0]


def _render_all(name: str) -> Callable[[Values], str]:
    return lambda values: json.dumps(values[name])


def _render_database_url(values: Values) -> str:
    return f"postgresql+psycopg2://airflow:{quote(values['POSTGRES_PASSWORD'][0], safe='')}@postgres/airflow"


def _render_fernet_keys(values: Values) -> str:
    """Return the key that encrypts, followed by the keys of connections encrypted earlier."""
    return ",".join(values["AIRFLOW_FERNET_KEY"])


_CASSANDRA = {"penstock_cassandra_password": _render_newest("CASSANDRA_PASSWORD")}
_AIRFLOW = {"penstock_airflow_password": _render_newest("AIRFLOW_PASSWORD")}
_SPARK = {"spark_auth_secret": _render_newest("SPARK_AUTH_SECRET")}
FILES: dict[str, dict[str, Callable[[Values], str]]] = {
    "airflow": {
        "airflow_database_url": _render_database_url,
        "airflow_fernet_key": _render_fernet_keys,
        "airflow_jwt_secret": _render_newest("AIRFLOW_JWT_SECRET"),
        "airflow_secret_key": _render_newest("AIRFLOW_SECRET_KEY"),
        "postgres_passwords": _render_all("POSTGRES_PASSWORD"),
        **_AIRFLOW,
    },
    "cassandra": _CASSANDRA,
    "control-center": {
        "penstock_control_password": _render_newest("CONTROL_PASSWORD"),
        **_AIRFLOW,
        **_CASSANDRA,
    },
    "pipeline-init": {"cassandra_admin_passwords": _render_all("CASSANDRA_ADMIN_PASSWORD"), **_CASSANDRA},
    "postgres": {"postgres_password": _render_newest("POSTGRES_PASSWORD")},
    "spark": {**_SPARK, **_CASSANDRA},
    "spark-master": _SPARK,
    "watch": {**_AIRFLOW, **_CASSANDRA},
}
"""Files by folder, each of which is a service's volume. Names that start with `penstock_` are settings."""


def _save_file(path: Path, text: str, mode: int) -> None:
    """Write `text` to `path` atomically, unless the file has this content already."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text, mode)


def main() -> None:
    """Run the container `secrets-init`."""
    check_requirements(os.environ, os.getuid(), memory_mib(), DAGS)
    write_secrets(os.environ, os.getuid(), VOLUMES)


if __name__ == "__main__":
    with exits_by_kind("secrets-init"):
        main()
        sys.stderr.write("secrets-init: all checks passed, all secrets written\n")
