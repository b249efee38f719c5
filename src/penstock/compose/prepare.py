"""What the pipeline needs once in new containers: its role in Cassandra, and a registry that refuses what breaks.

Cassandra begins with the role `cassandra` and the password `cassandra`. The pipeline's own role may make keyspaces, and
owns those that it makes; the first one is given a password of yours. Done again it changes nothing.
"""

import os

from cassandra import AuthenticationFailed
from cassandra.cluster import NoHostAvailable, Session
from pydantic import SecretStr

from penstock import config
from penstock.config import Settings
from penstock.errors import CassandraUnreachable, WrongUse, exits_by_kind
from penstock.log import configure, get_logger
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.stack import probes

log = get_logger(__name__)

ADMIN = "cassandra"
ADMIN_PASSWORD = "CASSANDRA_ADMIN_PASSWORD"  # noqa: S105  the name of the variable
_WAIT_S = 120.0


def prepare(settings: Settings, admin_password: str) -> None:
    """Return when role and compatibility are as they should be. Raises an `Unreachable`, or `WrongUse`."""
    wait_until(lambda: settle_roles(settings, admin_password), timeout_s=_WAIT_S, every_s=2.0, what="Cassandra's roles")
    wait_until(lambda: _settle_registry(settings), timeout_s=_WAIT_S, every_s=2.0, what="the schema registry")


def _settle_registry(settings: Settings) -> None:
    probes.refuse_what_breaks(settings.registry_url, settings.registry_timeout_s)


def settle_roles(settings: Settings, admin_password: str) -> None:
    """Make the pipeline's role, and give the first role `admin_password`.

    A password is changed only when it is another one: Cassandra lets it be changed every five seconds at most.
    """
    if not settings.cassandra_username or not admin_password:
        raise WrongUse("PENSTOCK_CASSANDRA_USERNAME and CASSANDRA_ADMIN_PASSWORD are needed")
    role, password = settings.cassandra_username, settings.cassandra_password.get_secret_value()
    session, is_first_time = _as_admin(settings, admin_password)
    try:
        with cassandra.asking(settings):
            session.execute(f"CREATE ROLE IF NOT EXISTS {role} WITH LOGIN = true AND PASSWORD = %s", (password,))
            session.execute(f"GRANT CREATE ON ALL KEYSPACES TO {role}")
            session.execute(f"GRANT SELECT ON KEYSPACE system_views TO {role}")
            if _login(settings) is None:
                session.execute(f"ALTER ROLE {role} WITH PASSWORD = %s", (password,))
            if is_first_time:
                session.execute(f"ALTER ROLE {ADMIN} WITH PASSWORD = %s", (admin_password,))
    finally:
        cassandra.close(session)
    log.info("roles_settled", role=role)


def _as_admin(settings: Settings, password: str) -> tuple[Session, bool]:
    """A session of the first role; and whether its password is still the one that it began with."""
    for one in (password, ADMIN):
        login = {"cassandra_username": ADMIN, "cassandra_password": SecretStr(one)}
        session = _login(settings.model_copy(update=login), keep=True)
        if session is not None:
            return session, one == ADMIN
    raise WrongUse(f"Cassandra's role {ADMIN} has another password than {ADMIN_PASSWORD}", hint="see .env")


def _login(settings: Settings, *, keep: bool = False) -> Session | None:
    """A session, closed unless it is to be kept; None when Cassandra does not take the password."""
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
    """Whether Cassandra answered, and did not take the password."""
    cause = error.__cause__
    found = cause.errors.values() if isinstance(cause, NoHostAvailable) else ()
    return any(isinstance(one, AuthenticationFailed) for one in found)


def main() -> None:
    """As the container `pipeline-init` does it."""
    settings = config.load()
    configure(settings.log_level, json=settings.log_json)
    prepare(settings, os.environ.get(ADMIN_PASSWORD, ""))


if __name__ == "__main__":
    with exits_by_kind("penstock.compose.prepare"):
        main()
