"""First steps of `airflow-init`, before the database migration: Airflow's login and the database password.

https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/auth-manager/simple/index.html
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penstock import config
from penstock.compose import preflight
from penstock.config import Settings
from penstock.errors import UsageError, exits_by_kind
from penstock.files import write_atomically

PASSWORDS_FILE = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
_TIMEOUT_S = 20


def write_login(settings: Settings, path: Path) -> None:
    """Write user and password to the file of Airflow's SimpleAuthManager. Only the owner can read it."""
    login = {settings.airflow_username: settings.airflow_password.get_secret_value()}
    write_atomically(path, json.dumps(login))


def update_database_password(passwords: Sequence[str], connect: Callable[[str], Any]) -> None:
    """Set the password of the database role to the first of `passwords` if it is still one of the others.

    `connect` opens a connection with a password or raises `PermissionError`. Raises `UsageError` if none is valid.
    """
    for password in passwords:
        try:
            connection = connect(password)
        except PermissionError:
            continue
        with connection, connection.cursor() as cursor:
            if password != passwords[0]:
                cursor.execute("ALTER ROLE airflow WITH PASSWORD %s", (passwords[0],))
        connection.close()
        return
    raise UsageError(
        "Postgres rejected POSTGRES_PASSWORD and all earlier passwords",
        hint="set POSTGRES_PASSWORD in .env to the password it was created with; or docker compose down --volumes",
    )


def connect_database(password: str) -> Any:
    """Connect to Airflow's database. Raises `PermissionError` if the password is rejected."""
    import psycopg2  # included in Airflow's image

    try:
        return psycopg2.connect(
            host="postgres", dbname="airflow", user="airflow", password=password, connect_timeout=_TIMEOUT_S
        )
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            raise PermissionError(str(error)) from None
        raise


def main() -> None:
    """Run the first steps of the container `airflow-init`."""
    write_login(config.load(), Path(os.environ[PASSWORDS_FILE]))
    passwords = json.loads((preflight.FOLDER / "postgres_passwords").read_text(encoding="utf-8"))
    update_database_password(passwords, connect_database)


if __name__ == "__main__":
    with exits_by_kind("airflow-init"):
        main()
