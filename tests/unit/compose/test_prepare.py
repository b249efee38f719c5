"""The role and the password that Cassandra begins with."""

import json
import stat

import pytest
from cassandra import AuthenticationFailed
from cassandra.cluster import NoHostAvailable

from penstock import config
from penstock.compose import passwords, prepare
from penstock.errors import CassandraUnreachable, WrongUse
from tests.unit.fakes import FakeSession

SETTINGS = config.read(cassandra_username="penstock", cassandra_password="ours")


class Doors:
    """A Cassandra whose first role has this password; it keeps who tried which one."""

    def __init__(self, password, error=None) -> None:
        self.password, self.error = password, error or AuthenticationFailed("no")
        self.tried, self.session = [], FakeSession()

    def connect(self, settings):
        password = settings.cassandra_password.get_secret_value()
        self.tried.append((settings.cassandra_username, password))
        if password == self.password:
            return self.session
        error = CassandraUnreachable("no answer")
        error.__cause__ = NoHostAvailable("none", {"host": self.error})
        raise error


@pytest.fixture
def doors(monkeypatch):
    def put(*arguments):
        found = Doors(*arguments)
        monkeypatch.setattr(prepare.cassandra, "connect", found.connect)
        monkeypatch.setattr(prepare.cassandra, "close", lambda _: None)
        return found

    return put


@pytest.mark.parametrize(("password", "tries"), [("cassandra", 2), ("admins", 1)])
def test_the_first_role_gets_a_password_of_ours(doors, password, tries):
    """At the first time by the one that everybody knows, later by ours: the same statements both times."""
    found = doors(password)
    prepare.settle_roles(SETTINGS, "admins")
    assert [user for user, _ in found.tried] == ["cassandra"] * tries
    said = [query for query, _ in found.session.executed]
    assert said[0].startswith("CREATE ROLE IF NOT EXISTS penstock")
    assert said[-1].startswith("ALTER ROLE cassandra WITH PASSWORD")
    assert not any("ours" in query or "admins" in query for query in said), "passwords are bound, not written"
    assert found.session.executed[-1][1] == ("admins",)


def test_a_cassandra_that_is_away_is_not_tried_with_another_password(doors):
    """It has not refused the first one."""
    found = doors("cassandra", OSError("refused"))
    with pytest.raises(CassandraUnreachable):
        prepare.settle_roles(SETTINGS, "admins")
    assert len(found.tried) == 1


def test_without_a_password_nothing_is_done():
    """What is missing is named."""
    with pytest.raises(WrongUse, match="CASSANDRA_ADMIN_PASSWORD"):
        prepare.settle_roles(SETTINGS, "")


def test_airflows_user_is_written_for_its_owner_alone(tmp_path):
    """As its simple sign-in reads it; again it is written over."""
    path = tmp_path / "passwords.json"
    for password in ("one", "two"):
        passwords.write(config.read(airflow_username="me", airflow_password=password), path)
        assert json.loads(path.read_text()) == {"me": password}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
