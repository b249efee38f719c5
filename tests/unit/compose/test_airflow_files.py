"""The first steps of airflow-init, before the database migration."""

import json
import stat
from contextlib import nullcontext

import pytest

from penstock import config
from penstock.compose import airflow_files
from penstock.errors import UsageError


class Database:
    """A Postgres whose role has this password. Records executed statements."""

    def __init__(self, password):
        self.password, self.executed = password, []

    def connect(self, password):
        if password != self.password:
            raise PermissionError("password authentication failed")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def cursor(self):
        return nullcontext(self)

    def execute(self, query, values):
        self.executed.append((query, values))

    def close(self):
        pass


def test_airflows_login_is_private(tmp_path):
    """The login file has the format of SimpleAuthManager, is private, and is overwritten by the next start."""
    path = tmp_path / "passwords.json"
    for password in ("first", "second"):
        airflow_files.write_login(config.read(airflow_username="me", airflow_password=password), path)
        assert json.loads(path.read_text()) == {"me": password}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("password", "altered"), [("new", False), ("older", True), ("oldest", True)])
def test_a_database_with_an_older_password_gets_the_new_one(password, altered):
    """The password is changed only if it is an older one, as a bound parameter."""
    database = Database(password)
    airflow_files.update_database_password(["new", "older", "oldest"], database.connect)
    assert database.executed == ([("ALTER ROLE airflow WITH PASSWORD %s", ("new",))] if altered else [])


def test_an_unknown_database_password_is_an_error():
    """An unknown password is an error that names the variable to set."""
    with pytest.raises(UsageError, match="POSTGRES_PASSWORD"):
        airflow_files.update_database_password(["new"], Database("somebody's").connect)
