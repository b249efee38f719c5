"""Airflow's user and password, in the file where its simple sign-in looks for them: what `airflow-init` runs.

https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/auth-manager/simple/index.html
"""

import json
import os
from pathlib import Path

from penstock import config
from penstock.config import Settings

FILE = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"


def write(settings: Settings, path: Path) -> None:
    """Write the file, readable by its owner alone; Airflow adds nothing to it."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({settings.airflow_username: settings.airflow_password.get_secret_value()}, file)
    unfinished.replace(path)


if __name__ == "__main__":
    write(config.load(), Path(os.environ[FILE]))
