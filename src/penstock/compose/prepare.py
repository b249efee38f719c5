"""Initialize new containers for the pipeline: its role in Cassandra, and the registry's compatibility level.

Cassandra creates its default superuser, `cassandra` with the password `cassandra`, about ten seconds after it accepts
queries. Until then it rejects every password. The pipeline's role may create keyspaces, and owns those that it creates.
The default superuser gets a new password. Idempotent.
"""

import json
from collections.abc import Sequence

from cassandra import AuthenticationFailed
from cassandra.cluster import NoHostAvailable, Session
from pydantic import SecretStr

from penstock import config
from penstock.compose import preflight
from penstock.config import Settings
from penstock.errors import CassandraUnreachable, Unreachable, UsageError, exits_by_kind
from penstock.log import configure, get_logger
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.stack import probes

log = get_logger(__name__)

ADMIN = "cassandra"
_ADMIN_PASSWORDS = "cassandra_admin_passwords"
_WAIT_S = 120.0


class _AdminLoginRejected(Unreachable):
    """Cassandra rejects every known password of the superuser."""


def prepare_services(settings: Settings, admin_passwords: Sequence[str]) -> None:
    """Set up role and compatibility level, waiting for the services.

    `admin_passwords` are the superuser's, newest first. Raises `Unreachable` if a service does not respond within two
    minutes, and `UsageError` if Cassandra still rejects every password then.
    """
    try:
        wait_until(
            lambda: update_roles(settings, admin_passwords), timeout_s=_WAIT_S, every_s=2.0, what="Cassandra's roles"
        )
    except _AdminLoginRejected:
        raise UsageError(
            f"Cassandra rejected CASSANDRA_ADMIN_PASSWORD for its role {ADMIN}",
            hint="set CASSANDRA_ADMIN_PASSWORD in .env to the role's password",
        ) from None
    wait_until(lambda: _set_compatibility(settings), timeout_s=_WAIT_S, every_s=2.0, what="the schema registry")


def _set_compatibility(settings: Settings) -> None:
    probes.ensure_backward_compatibility(settings.registry_url, settings.registry_timeout_s)


def update_roles(settings: Settings, admin_passwords: Sequence[str]) -> None:
    """Create the pipeline's role, and set the superuser's password to the first of `admin_passwords`.

    Passwords are changed only if they differ, because Cassandra allows one change in five seconds. Raises
    `CassandraUnreachable`, and `Unreachable` as long as Cassandra rejects every password of the superuser.
    """
    role, password = settings.cassandra_username, settings.cassandra_password.get_secret_value()
    session, current = _connect_as_admin(settings, admin_passwords)
    try:
        with cassandra.asking(settings):
            session.execute(f"CREATE ROLE IF NOT EXISTS {role} WITH LOGIN = true AND PASSWORD = %s", (password,))
            session.execute(f"GRANT CREATE ON ALL KEYSPACES TO {role}")
            session.execute(f"GRANT SELECT ON KEYSPACE system_views TO {role}")
            if _try_login(settings) is None:
                session.execute(f"ALTER ROLE {role} WITH PASSWORD = %s", (password,))
            if current != admin_passwords[0]:
                session.execute(f"ALTER ROLE {ADMIN} WITH PASSWORD = %s", (admin_passwords[0],))
    finally:
        cassandra.close(session)
    log.info("roles_updated", role=role)


def _connect_as_admin(settings: Settings, passwords: Sequence[str]) -> tuple[Session, str]:
    """Return a session of the superuser and its current password. Raises `_AdminLoginRejected`."""
    for password in (*passwords, ADMIN):
        login = {"cassandra_username": ADMIN, "cassandra_password": SecretStr(password)}
        session = _try_login(settings.model_copy(update=login), keep=True)
        if session is not None:
            return session, password
    raise _AdminLoginRejected(f"Cassandra rejects every known password of its role {ADMIN}")


def _try_login(settings: Settings, *, keep: bool = False) -> Session | None:
    """Return a session, closed unless `keep`, or None if Cassandra rejects the password."""
    try:
        session = cassandra.connect(settings)
    except CassandraUnreachable as error:
        if _is_login_rejected(error):
            return None
        raise
    if not keep:
        cassandra.close(session)
    return session


def _is_login_rejected(error: CassandraUnreachable) -> bool:
    """Return whether Cassandra responded and rejected the password."""
    cause = error.__cause__
    failures = cause.errors.values() if isinstance(cause, NoHostAvailable) else ()
    return any(isinstance(failure, AuthenticationFailed) for failure in failures)


def main() -> None:
    """Run the container `pipeline-init`."""
    settings = config.load()
    configure(settings.log_level, json=settings.log_json)
    prepare_services(settings, json.loads((preflight.FOLDER / _ADMIN_PASSWORDS).read_text(encoding="utf-8")))


if __name__ == "__main__":
    with exits_by_kind("pipeline-init"):
        main()
