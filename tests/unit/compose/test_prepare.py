"""The pipeline's role, and the password of Cassandra's default superuser."""

import pytest
from cassandra import AuthenticationFailed
from cassandra.cluster import NoHostAvailable

from penstock import config
from penstock.compose import prepare
from penstock.errors import CassandraUnreachable, UsageError
from penstock.retry import wait_until
from tests.unit.fakes import FakeSession

SETTINGS = config.read(cassandra_username="penstock", cassandra_password="ours")


class Doors:
    """A Cassandra whose roles have these passwords. Records all login attempts."""

    def __init__(self, error=None, **passwords) -> None:
        self.passwords, self.error = passwords, error or AuthenticationFailed("no")
        self.tried, self.session, self.closed_until = [], FakeSession(), 0

    def connect(self, settings):
        login = settings.cassandra_username, settings.cassandra_password.get_secret_value()
        self.tried.append(login)
        if self.passwords.get(login[0]) == login[1] and len(self.tried) > self.closed_until:
            return self.session
        error = CassandraUnreachable("no answer")
        error.__cause__ = NoHostAvailable("none", {"host": self.error})
        raise error

    @property
    def changed(self):
        """Return the roles whose password was changed."""
        return [query.split()[2] for query, _ in self.session.executed if query.startswith("ALTER ROLE")]


@pytest.fixture
def doors(monkeypatch):
    def put(**named):
        fake = Doors(**named)
        monkeypatch.setattr(prepare.cassandra, "connect", fake.connect)
        monkeypatch.setattr(prepare.cassandra, "close", lambda _: None)
        return fake

    return put


@pytest.mark.parametrize(
    ("passwords", "changed"),
    [
        ({"cassandra": "cassandra", "penstock": "ours"}, ["cassandra"]),
        ({"cassandra": "admins", "penstock": "ours"}, []),
        ({"cassandra": "admins", "penstock": "old"}, ["penstock"]),
        ({"cassandra": "former", "penstock": "ours"}, ["cassandra"]),
    ],
    ids=["new containers", "again", "another password of the role", "another password of the first role"],
)
def test_only_different_passwords_are_changed(doors, passwords, changed):
    """Only differing passwords are changed, because Cassandra rejects two changes within five seconds."""
    fake = doors(**passwords)
    prepare.update_roles(SETTINGS, ["admins", "former"])
    assert fake.changed == changed
    statements = [query for query, _ in fake.session.executed]
    assert statements[0].startswith("CREATE ROLE IF NOT EXISTS penstock")
    assert not any("ours" in query or "admins" in query for query in statements)


@pytest.fixture
def patient(monkeypatch):
    """A ready registry and a short timeout."""
    monkeypatch.setattr(prepare, "_set_compatibility", lambda _: None)
    monkeypatch.setattr(prepare, "wait_until", lambda probe, **more: wait_until(probe, **more | FAST))


FAST = {"timeout_s": 0.5, "every_s": 0.01}


@pytest.mark.usefixtures("patient")
def test_the_superuser_is_awaited(doors):
    """The superuser is awaited: Cassandra accepts queries ten seconds before it exists, and rejects every password."""
    fake = doors(cassandra="cassandra", penstock="ours")
    fake.closed_until = 7
    prepare.prepare_services(SETTINGS, ["admins"])
    assert fake.changed == ["cassandra"]


@pytest.mark.usefixtures("patient")
def test_a_superuser_with_an_unknown_password_is_an_error_after_the_timeout(doors):
    """If the superuser rejects all known passwords until the timeout, the error names the variable to set."""
    fake = doors(cassandra="somebody's")
    with pytest.raises(UsageError, match="rejected CASSANDRA_ADMIN_PASSWORD"):
        prepare.prepare_services(SETTINGS, ["admins"])
    assert len(fake.tried) > 4


def test_an_unavailable_cassandra_is_not_tried_with_another_password(doors):
    """If Cassandra is down, no other password is tried, because it has not rejected the first."""
    fake = doors(error=OSError("refused"))
    with pytest.raises(CassandraUnreachable):
        prepare.update_roles(SETTINGS, ["admins"])
    assert len(fake.tried) == 1
