"""What the pipeline needs once in new containers: its role in Cassandra, and a registry that refuses what breaks.

Cassandra creates its first role, `cassandra` with the password `cassandra`, about ten seconds after it takes queries;
until then it refuses every password. The pipeline's own role may create keyspaces, and owns those that it creates; the
first role is given a password of ours. Done again it changes nothing.
"""

import json
from collections.abc import Sequence

from cassandra import AuthenticationFailed
from cassandra.cluster import NoHostAvailable, Session
from pydantic import SecretStr

from penstock import config
from penstock.compose import preflight
from penstock.config import Settings
from penstock.errors import CassandraUnreachable, Unreachable, WrongUse, exits_by_kind
from penstock.log import configure, get_logger
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.stack import probes

log = get_logger(__name__)

ADMIN = "cassandra"
_ADMIN_PASSWORDS = "cassandra_admin_passwords"
_WAIT_S = 120.0


class _AdminRefused(Unreachable):
    """Cassandra refuses every password that the first role may have."""


def prepare(settings: Settings, admin_passwords: Sequence[str]) -> None:
    """Return when role and compatibility are as they should be.

    `admin_passwords` are those of the first role, the newest first. Raises an `Unreachable` when a service does not
    answer within two minutes, and `WrongUse` when Cassandra still refuses every password then.
    """
    try:
        wait_until(
            lambda: settle_roles(settings, admin_passwords), timeout_s=_WAIT_S, every_s=2.0, what="Cassandra's roles"
        )
    except _AdminRefused:
        raise WrongUse(
            f"Cassandra's role {ADMIN} has another password than CASSANDRA_ADMIN_PASSWORD",
            hint="set CASSANDRA_ADMIN_PASSWORD in .env to the password that it has",
        ) from None
    wait_until(lambda: _settle_registry(settings), timeout_s=_WAIT_S, every_s=2.0, what="the schema registry")


def _settle_registry(settings: Settings) -> None:
    probes.refuse_what_breaks(settings.registry_url, settings.registry_timeout_s)


def settle_roles(settings: Settings, admin_passwords: Sequence[str]) -> None:
    """Create the pipeline's role, and give the first role the first of `admin_passwords`.

    A password is changed only when it is another one: Cassandra lets it be changed every five seconds at most.
    Raises `CassandraUnreachable`, and `Unreachable` as long as Cassandra refuses every password of the first role.
    """
    role, password = settings.cassandra_username, settings.cassandra_password.get_secret_value()
    session, current = _as_admin(settings, admin_passwords)
    try:
        with cassandra.asking(settings):
            session.execute(f"CREATE ROLE IF NOT EXISTS {role} WITH LOGIN = true AND PASSWORD = %s", (password,))
            session.execute(f"GRANT CREATE ON ALL KEYSPACES TO {role}")
            session.execute(f"GRANT SELECT ON KEYSPACE system_views TO {role}")
            if _login(settings) is None:
                session.execute(f"ALTER ROLE {role} WITH PASSWORD = %s", (password,))
            if current != admin_passwords[0]:
                session.execute(f"ALTER ROLE {ADMIN} WITH PASSWORD = %s", (admin_passwords[0],))
    finally:
        cassandra.close(session)
    log.info("roles_settled", role=role)


def _as_admin(settings: Settings, passwords: Sequence[str]) -> tuple[Session, str]:
    """Return a session of the first role, and the password that it has. Raises `_AdminRefused`."""
    for password in (*passwords, ADMIN):
        login = {"cassandra_username": ADMIN, "cassandra_password": SecretStr(password)}
        session = _login(settings.model_copy(update=login), keep=True)
        if session is not None:
            return session, password
    raise _AdminRefused(f"Cassandra refuses every known password of its role {ADMIN}")


def _login(settings: Settings, *, keep: bool = False) -> Session | None:
    """Return a session, closed unless it is to be kept; None when Cassandra refuses the password."""
    try:
        session = cassandra.connect(settings)
    except CassandraUnreachable as error:
        if _is_refused(error):
            return None
        raise
    if not keep:
        cassandra.close(session)
    return session


def _is_refused(error: CassandraUnreachable) -> bool:
    """Return whether Cassandra answered, and refused the password."""
    cause = error.__cause__
    found = cause.errors.values() if isinstance(cause, NoHostAvailable) else ()
    return any(isinstance(one, AuthenticationFailed) for one in found)


def main() -> None:
    """Do what the container `pipeline-init` is there for."""
    settings = config.load()
    configure(settings.log_level, json=settings.log_json)
    prepare(settings, json.loads((preflight.FOLDER / _ADMIN_PASSWORDS).read_text(encoding="utf-8")))


if __name__ == "__main__":
    with exits_by_kind("pipeline-init"):
        main()
