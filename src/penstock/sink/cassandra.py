"""The connection to Cassandra, configured from settings; keyspace and table."""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

from cassandra import ConsistencyLevel, DriverException, OperationTimedOut, Timeout, Unauthorized, Unavailable
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import dict_factory

from penstock import formats, remedies
from penstock.config import Settings
from penstock.contract import cql
from penstock.contract.evolution import Change
from penstock.contract.table import DERIVES, Table
from penstock.contract.table_evolution import TableDefinition, compare_table, define_table
from penstock.contract.ttl_change import compare_ttl
from penstock.errors import CassandraUnreachable, PenstockError
from penstock.pipelines import Pipeline

_TRUNCATE_S = 120.0
_SYNC_LAG = "periodic_commitlog_sync_lag_block"
_LONGEST_LAG_S = 0.1
_DENIED = re.compile(r"User (?P<role>\S+) has no (?P<permission>\w+) permission on <(?P<resource>[^>]+)>")
"""Format of Cassandra's message about a missing permission."""
_GRANTS = "docs/operations.md lists what each role needs"
TUPLES = "tuples"
"""Execution profile whose rows are tuples instead of dicts, for queries with many rows."""
KEYSPACE = ""
"""Key of the statement that creates the keyspace, among the statements that create its tables."""
TYPE = "type "
"""What the key of a statement that creates a user-defined type begins with; its name follows."""


def connect(settings: Settings) -> Session:
    """Open a session that routes each statement to a replica and returns rows as dicts. Raises `CassandraUnreachable`.

    Close it with `close`.
    """
    cluster = Cluster(**_build_cluster_options(settings))
    try:
        session = cluster.connect()
    except (NoHostAvailable, OSError) as error:
        cluster.shutdown()
        raise build_unreachable_error(settings, error) from error
    return session


def build_unreachable_error(settings: Settings, error: Exception) -> CassandraUnreachable:
    """Return the error for an unavailable Cassandra."""
    return CassandraUnreachable(
        f"Cassandra at {settings.cassandra_hosts}:{settings.cassandra_port} did not respond: {error}",
        hint=remedies.check_address("cassandra"),
    )


def _build_cluster_options(settings: Settings) -> dict[str, Any]:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.cassandra_datacenter)),
        consistency_level=ConsistencyLevel.name_to_value[settings.cassandra_consistency],
        serial_consistency_level=_serial_level(settings.cassandra_consistency),
        request_timeout=settings.cassandra_timeout_s,
        row_factory=dict_factory,
    )
    tuples = copy(profile)
    tuples.row_factory = _keep_tuples
    arguments: dict[str, Any] = {
        "contact_points": settings.cassandra_hosts.split(","),
        "port": settings.cassandra_port,
        "execution_profiles": {EXEC_PROFILE_DEFAULT: profile, TUPLES: tuples},
        "connect_timeout": settings.cassandra_timeout_s,
        "control_connection_timeout": settings.cassandra_timeout_s,
        "protocol_version": 5,
        # without it, the driver's 4 KiB segments go out 40 ms apart
        "sockopts": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    }
    if settings.cassandra_username:
        password = settings.cassandra_password.get_secret_value()
        arguments["auth_provider"] = PlainTextAuthProvider(settings.cassandra_username, password)
    if settings.cassandra_ca_file:
        arguments["ssl_context"] = ssl.create_default_context(cafile=str(settings.cassandra_ca_file))
    return arguments


def _keep_tuples(_names: list[str], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows as the driver decodes them."""
    return rows


def _serial_level(consistency: str) -> int:
    """Return the consistency of lightweight transactions: within the data centre if reads and writes stay there."""
    is_local = consistency.startswith("LOCAL_")
    return int(ConsistencyLevel.LOCAL_SERIAL if is_local else ConsistencyLevel.SERIAL)


def close(session: Session) -> None:
    """Close the session and its cluster's connections."""
    session.cluster.shutdown()


@contextmanager
def open_session(settings: Settings) -> Iterator[Session]:
    """Open a session for a `with` block, and translate Cassandra's errors in it to penstock's."""
    session = connect(settings)
    try:
        with translate_errors(settings):
            yield session
    finally:
        close(session)


@contextmanager
def translate_errors(settings: Settings) -> Iterator[None]:
    """Translate Cassandra's errors within a `with` block to `CassandraUnreachable` or another `PenstockError`."""
    try:
        yield
    except (NoHostAvailable, OperationTimedOut, Timeout, Unavailable) as error:
        raise build_unreachable_error(settings, error) from error
    except Unauthorized as error:
        raise PenstockError(f"Cassandra rejected the request: {error}", hint=grant_hint(error)) from error
    except DriverException as error:
        raise PenstockError(
            f"Cassandra rejected the request: {error}", hint=f"{remedies.verify()}, {remedies.show_logs('cassandra')}"
        ) from error


def grant_hint(error: Exception) -> str:
    """Return the CQL that grants the permission whose absence raised `error`, or '' for any other error."""
    if not isinstance(error, Unauthorized):
        return ""
    denied = _DENIED.search(str(error))
    if denied is None:
        return _GRANTS
    grant = f"GRANT {denied['permission']} ON {_format_resource(denied['resource'])} TO {denied['role']}"
    return f"an administrator can: {grant}; {_GRANTS}"


def _format_resource(name: str) -> str:
    """Return a resource named in an error, `table ks.t` or `all keyspaces`, in the syntax of GRANT."""
    if name.startswith("all tables in "):
        return f"KEYSPACE {name.removeprefix('all tables in ')}"
    if name.startswith("all "):
        return name.upper()
    kind, _, resource = name.partition(" ")
    return f"{kind.upper()} {resource}"


def keyspace_of(settings: Settings, pipeline: Pipeline) -> str:
    """Return the effective keyspace."""
    return settings.cassandra_keyspace or pipeline.keyspace


def sync_lag_s(session: Session) -> float:
    """Return by how many seconds a node's commit log may lag its acknowledgements; 0 if there is nothing to wait for.

    It is 0 if the log is synced before each acknowledgement, and if the lag is above `_LONGEST_LAG_S`: such a setting
    means that replicas are relied on when a node is killed.
    """
    query = "SELECT name, value FROM system_views.settings WHERE name IN ('commitlog_sync', %s)"
    settings = {row["name"]: row["value"] for row in session.execute(query, (_SYNC_LAG,))}
    lag = settings.get(_SYNC_LAG) or ""
    if settings.get("commitlog_sync") != "periodic" or not lag.endswith("ms"):
        return 0.0
    lag_s = int(lag.removesuffix("ms")) / 1000
    return lag_s if lag_s <= _LONGEST_LAG_S else 0.0


def has_table(session: Session, keyspace: str, table: str) -> bool:
    """Return whether the table exists now. The session's cached schema may be seconds old.

    Raises `FormatTooNew`.
    """
    return table in table_names(session, keyspace)


def table_names(session: Session, keyspace: str) -> set[str]:
    """Return the names of a keyspace's current tables. Raises `FormatTooNew` if a newer penstock created one."""
    query = "SELECT table_name, comment FROM system_schema.tables WHERE keyspace_name = %s"
    comments = {row["table_name"]: row.get("comment") for row in session.execute(query, (keyspace,))}
    formats.check_tables(keyspace, comments)
    return set(comments)


def has_column(session: Session, keyspace: str, table: str, column: str) -> bool:
    """Return whether a table currently has a column."""
    query = (
        "SELECT column_name FROM system_schema.columns "
        "WHERE keyspace_name = %s AND table_name = %s AND column_name = %s"
    )
    return session.execute(query, (keyspace, table, column)).one() is not None


def user_type_fields(session: Session, keyspace: str) -> dict[str, dict[str, str]]:
    """Return the current user-defined types of a keyspace: by name, the CQL type of each field in the type's order."""
    query = "SELECT type_name, field_names, field_types FROM system_schema.types WHERE keyspace_name = %s"
    rows = session.execute(query, (keyspace,))
    return {row["type_name"]: dict(zip(row["field_names"], row["field_types"], strict=True)) for row in rows}


def table_ttl(session: Session, keyspace: str, table: str) -> tuple[int, int] | None:
    """Return the table's `default_time_to_live` in s and the time it was last altered in ms, or None if it has none."""
    query = (
        "SELECT default_time_to_live AS ttl_s, WRITETIME(default_time_to_live) AS altered_us "
        "FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"
    )
    row = session.execute(query, (keyspace, table)).one()
    if row is None or row["altered_us"] is None:
        return None
    return int(row["ttl_s"] or 0), int(row["altered_us"]) // 1000


def find_ttl_change(session: Session, settings: Settings, pipeline: Pipeline) -> Change | None:
    """Return the change of the existing table's TTL to the declared one; None if it is as declared, or not declared."""
    declared = declared_table(settings, pipeline)
    if declared.ttl_s is None:
        return None
    ttl = table_ttl(session, declared.keyspace, declared.name)
    return None if ttl is None else compare_ttl(ttl[0], declared)


def create_missing(
    session: Session, keyspace: str, statements: Mapping[str, str], also: Mapping[str, str] | None = None
) -> None:
    """Execute the statements whose table or keyspace does not exist. Existing ones need no permission to create.

    Raises `PenstockError` if the role may not create, with the CQL of everything missing, including `also`;
    `FormatTooNew` if a newer penstock created the keyspace.
    """
    for statement in _list_missing(session, keyspace, statements):
        try:
            session.execute(statement)
        except Unauthorized as error:
            missing = _list_missing(session, keyspace, {**statements, **(also or {})})
            cql_text = "\n\n".join(f"{text.strip()};" for text in missing)
            raise PenstockError(
                f"{error}. An administrator can create what is missing:\n\n{cql_text}\n",
                hint=f"run this in cqlsh as an administrator, then start again; {_GRANTS}",
            ) from error


def _list_missing(session: Session, keyspace: str, statements: Mapping[str, str]) -> list[str]:
    there = table_names(session, keyspace)
    if KEYSPACE in statements and _has_keyspace(session, keyspace):
        there.add(KEYSPACE)
    if any(name.startswith(TYPE) for name in statements):
        there |= {f"{TYPE}{name}" for name in user_type_fields(session, keyspace)}
    return [formats.add_comment(name, statement) for name, statement in statements.items() if name not in there]


def _has_keyspace(session: Session, keyspace: str) -> bool:
    query = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = %s"
    return session.execute(query, (keyspace,)).one() is not None


def keyspace_statement(settings: Settings, pipeline: Pipeline) -> dict[str, str]:
    """Return the CQL that creates the pipeline's keyspace."""
    return {KEYSPACE: cql.render_create_keyspace(keyspace_of(settings, pipeline), settings.cassandra_replication)}


def declared_table(settings: Settings, pipeline: Pipeline) -> Table:
    """Return the pipeline's table as declared, in the keyspace that settings name."""
    return pipeline.build_table(keyspace_of(settings, pipeline))


def table_statement(settings: Settings, pipeline: Pipeline) -> dict[str, str]:
    """Return the CQL that creates the pipeline's table, after the user-defined types that it uses."""
    table = declared_table(settings, pipeline)
    types = cql.list_user_types(table.row)
    create_types = {f"{TYPE}{each.name}": cql.render_create_type(table.keyspace, each) for each in types}
    return create_types | {pipeline.table: cql.render_create_table(table)}


def create_keyspace(session: Session, settings: Settings, pipeline: Pipeline) -> None:
    """Create the pipeline's keyspace if it does not exist."""
    create_missing(session, keyspace_of(settings, pipeline), keyspace_statement(settings, pipeline))


def create_table(session: Session, settings: Settings, pipeline: Pipeline) -> None:
    """Create the pipeline's table if it does not exist."""
    create_missing(session, keyspace_of(settings, pipeline), table_statement(settings, pipeline))


def read_columns(session: Session, settings: Settings, pipeline: Pipeline) -> dict[str, str]:
    """Return the current columns of the pipeline's table with their types; none if there is no table."""
    query = "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s"
    rows = session.execute(query, (keyspace_of(settings, pipeline), pipeline.table))
    return {row["column_name"]: row["type"] for row in rows}


def table_of(session: Session, settings: Settings, pipeline: Pipeline) -> TableDefinition:
    """Return the current definition of the pipeline's table, without columns if there is no table."""
    declared = declared_table(settings, pipeline)
    place = declared.keyspace, declared.name
    query = (
        "SELECT column_name, type, kind, position, clustering_order FROM system_schema.columns "
        "WHERE keyspace_name = %s AND table_name = %s"
    )
    rows = list(session.execute(query, place))
    keys = sorted((row for row in rows if row["position"] >= 0), key=lambda row: row["position"])
    return TableDefinition(
        {row["column_name"]: row["type"] for row in rows},
        tuple(row["column_name"] for row in keys if row["kind"] == "partition_key"),
        tuple((row["column_name"], row["clustering_order"].upper()) for row in keys if row["kind"] == "clustering"),
        frozenset(row["column_name"] for row in rows if row["kind"] == "static"),
        _read_derivations(session, place),
        user_type_fields(session, declared.keyspace) if define_table(declared).types else {},
    )


def _read_derivations(session: Session, place: tuple[str, str]) -> str:
    """Return how a table derives columns, which penstock says in its comment; empty if it does not say."""
    query = "SELECT comment FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"
    row = session.execute(query, place).one()
    comment = str((row and row["comment"]) or "")
    return comment if comment.startswith(DERIVES) else ""


def find_table_problems(session: Session, settings: Settings, pipeline: Pipeline) -> list[str]:
    """Return why rows cannot be stored in the pipeline's table: columns that it lacks, other types, another key.

    It is the comparison of `schema plan`. An empty list means that rows can be stored.
    """
    table = table_of(session, settings, pipeline)
    if not table.columns:
        return ["the table does not exist"]
    return [change.why for change in compare_table(table, declared_table(settings, pipeline))]


def truncate_table(session: Session, settings: Settings, pipeline: Pipeline) -> None:
    """Delete every row of the pipeline's table."""
    session.execute(f"TRUNCATE {cql.quote_table(keyspace_of(settings, pipeline), pipeline.table)}", timeout=_TRUNCATE_S)
