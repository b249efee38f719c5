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
    """A Cassandra whose roles have these passwords; it keeps who tried which one."""

    def __init__(self, error=None, **passwords) -> None:
        self.passwords, self.error = passwords, error or AuthenticationFailed("no")
        self.tried, self.session = [], FakeSession()

    def connect(self, settings):
        login = settings.cassandra_username, settings.cassandra_password.get_secret_value()
        self.tried.append(login)
        if self.passwords.get(login[0]) == login[1]:
            return self.session
        error = CassandraUnreachable("no answer")
        error.__cause__ = NoHostAvailable("none", {"host": self.error})
        raise error

    @property
    def changed(self):
        """The roles that were given another password."""
        return [query.split()[2] for query, _ in self.session.executed if query.startswith("ALTER ROLE")]


@pytest.fixture
def doors(monkeypatch):
    def put(**named):
        found = Doors(**named)
        monkeypatch.setattr(prepare.cassandra, "connect", found.connect)
        monkeypatch.setattr(prepare.cassandra, "close", lambda _: None)
        return found

    return put


@pytest.mark.parametrize(
    ("passwords", "changed"),
    [
        ({"cassandra": "cassandra", "penstock": "ours"}, ["cassandra"]),
        ({"cassandra": "admins", "penstock": "ours"}, []),
        ({"cassandra": "admins", "penstock": "old"}, ["penstock"]),
    ],
    ids=["new containers", "again", "another password in .env"],
)
def test_only_passwords_that_are_others_are_changed(doors, passwords, changed):
    """Cassandra refuses a second change within five seconds; statements hold no password, they are bound."""
    found = doors(**passwords)
    prepare.settle_roles(SETTINGS, "admins")
    assert found.changed == changed
    said = [query for query, _ in found.session.executed]
    assert said[0].startswith("CREATE ROLE IF NOT EXISTS penstock")
    assert not any("ours" in query or "admins" in query for query in said)


def test_a_first_role_with_a_password_of_others_is_told(doors):
    """Neither ours nor the one that everybody knows is taken."""
    doors(cassandra="somebody's")
    with pytest.raises(WrongUse, match="CASSANDRA_ADMIN_PASSWORD"):
        prepare.settle_roles(SETTINGS, "admins")


def test_a_cassandra_that_is_away_is_not_tried_with_another_password(doors):
    """It has not refused the first one."""
    found = doors(error=OSError("refused"))
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
