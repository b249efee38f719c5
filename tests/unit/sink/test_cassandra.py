import socket
from dataclasses import replace

import pytest
from cassandra import ConsistencyLevel, InvalidRequest, OperationTimedOut, Unauthorized, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable
from cassandra.query import dict_factory

from penstock.config import read
from penstock.contract import cql
from penstock.contract.evolution import Table
from penstock.errors import CassandraUnreachable, PenstockError, StoreFailed
from penstock.pipelines.users import PIPELINE, User
from penstock.sink import cassandra
from tests.unit.fakes import FakeSession, created
from tests.unit.records import Composites


class FakeDriver:
    """Stands for the driver's Cluster: records its arguments, and returns a session or raises an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.arguments, self.shutdowns = error, {}, 0
        self.session = FakeSession()

    def __call__(self, **arguments):
        self.arguments = arguments
        return self

    def connect(self):
        if self.error:
            raise self.error
        return self.session

    def shutdown(self):
        self.shutdowns += 1


@pytest.fixture
def driver(monkeypatch):
    """Return the driver that connections are created with."""

    def make(error=None):
        driver = FakeDriver(error)
        monkeypatch.setattr(cassandra, "Cluster", driver)
        return driver

    return make


def test_a_session_is_created_from_the_settings(driver):
    """Hosts, port, consistency and timeouts are those of the settings; rows are dicts."""
    made = driver()
    settings = read(cassandra_hosts="a,b", cassandra_port=9142, cassandra_consistency="QUORUM", cassandra_timeout_s=7)
    assert cassandra.connect(settings) is made.session
    assert (made.arguments["contact_points"], made.arguments["port"]) == (["a", "b"], 9142)
    profile = made.arguments["execution_profiles"][EXEC_PROFILE_DEFAULT]
    assert (profile.consistency_level, profile.request_timeout) == (ConsistencyLevel.QUORUM, 7)
    assert profile.row_factory is dict_factory
    assert not {"auth_provider", "ssl_context"} & set(made.arguments)


def test_messages_are_sent_without_delay(driver):
    """The kernel does not hold back the end of a message until the node has acknowledged its beginning."""
    made = driver()
    cassandra.connect(read())
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in made.arguments["sockopts"]


def test_a_configured_user_is_signed_in(driver):
    """With a user, the connection is that user's."""
    made = driver()
    cassandra.connect(read(cassandra_username="me", cassandra_password="secret"))
    provider = made.arguments["auth_provider"]
    assert (provider.username, provider.password) == ("me", "secret")


@pytest.mark.parametrize("error", [NoHostAvailable("none", {}), OSError("no route")], ids=repr)
def test_an_unavailable_cassandra_is_unreachable(driver, error):
    """The error names the address, and the partly connected cluster is shut down."""
    made = driver(error)
    with pytest.raises(CassandraUnreachable, match=r"127.0.0.1:9042") as failed:
        cassandra.connect(read())
    assert "PENSTOCK_CASSANDRA_HOSTS" in failed.value.hint
    assert made.shutdowns == 1


def test_a_session_ends_with_its_block(driver):
    """Leaving the block closes every connection, after an error too."""
    session = driver().session
    with cassandra.open_session(read()) as given:
        assert given is session
        assert not session.cluster.is_shutdown
    assert session.cluster.is_shutdown


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (NoHostAvailable("gone", {}), CassandraUnreachable),
        (OperationTimedOut("late"), CassandraUnreachable),
        (Unavailable("too few"), CassandraUnreachable),
        (InvalidRequest("table created_users does not exist"), PenstockError),
        (StoreFailed("ours"), StoreFailed),
        (KeyError("not Cassandra's"), KeyError),
    ],
    ids=repr,
)
def test_a_driver_error_in_the_block_is_translated(driver, raised, kind):
    """It is raised as an error of penstock's with the driver's message; others are unchanged."""
    session = driver().session
    with pytest.raises(kind) as failed, cassandra.open_session(read()):
        raise raised
    assert type(failed.value) is kind
    assert str(raised) in str(failed.value)
    assert session.cluster.is_shutdown


@pytest.mark.parametrize(
    ("sync", "lag", "expected_s"),
    [
        ("periodic", "10ms", 0.01),
        ("periodic", "100ms", 0.1),
        ("periodic", "101ms", 0),
        ("periodic", "15000ms", 0),
        ("periodic", None, 0),
        ("batch", "10ms", 0),
        ("batch", None, 0),
        ("group", "10ms", 0),
    ],
)
def test_the_commit_log_lag_is_the_nodes_own(sync, lag, expected_s):
    """The job waits until acknowledged data is synced, unless the lag is so long that no one relies on it."""
    name = "periodic_commitlog_sync_lag_block"
    session = FakeSession(lambda *_: [{"name": "commitlog_sync", "value": sync}, {"name": name, "value": lag}])
    assert cassandra.sync_lag_s(session) == expected_s
    ((query, values),) = session.executed
    assert "system_views.settings" in query
    assert values == (name,)


def test_a_node_without_commit_log_settings_has_no_lag():
    """It is not waited for."""
    assert cassandra.sync_lag_s(FakeSession()) == 0
    assert cassandra.sync_lag_s(FakeSession(lambda *_: [{"name": "commitlog_sync", "value": "periodic"}])) == 0


def test_keyspace_and_table_are_the_pipelines():
    """They are created as rendered if they do not exist."""
    session, settings = FakeSession(), read(cassandra_replication="{'class': 'X'}")
    cassandra.create_keyspace(session, settings, PIPELINE)
    cassandra.create_table(session, settings, PIPELINE)
    keyspace, table = created(session)
    assert keyspace == "CREATE KEYSPACE IF NOT EXISTS spark_streams WITH replication = {'class': 'X'}"
    assert table.startswith("CREATE TABLE IF NOT EXISTS spark_streams.created_users (")


class Guarded:
    """A Cassandra with `existing` tables, whose role may create only what `allowed` names."""

    def __init__(self, *existing: str, allowed: str = "nothing") -> None:
        self.existing, self.allowed = set(existing), allowed

    def __call__(self, query, values):
        if "system_schema.keyspaces" in query:
            return [{"keyspace_name": name} for name in values if name in self.existing]
        if "system_schema.tables" in query:
            return [{"table_name": name, "comment": ""} for name in self.existing - {values[0]}]
        if self.allowed not in query:
            raise Unauthorized("User app has no CREATE permission on <all keyspaces> or any of its parents")
        return []


ALL = {cassandra.KEYSPACE: "CREATE KEYSPACE lab", "a": "\nCREATE TABLE lab.a\n", "b": "CREATE TABLE lab.b"}


def test_existing_tables_are_not_created():
    """A role without CREATE works if an administrator has created everything."""
    session = FakeSession(Guarded("lab", "a", "b"))
    cassandra.create_missing(session, "lab", ALL)
    assert created(session) == []


def test_only_missing_tables_are_created():
    """In the given order, keyspace first."""
    session = FakeSession(Guarded("a", allowed="CREATE"))
    cassandra.create_missing(session, "lab", ALL)
    assert created(session) == ["CREATE KEYSPACE lab", "CREATE TABLE lab.b"]


COMPOSITE = replace(PIPELINE, record=Composites, keyspace="lab", table="t")


def test_types_of_nested_records_are_created_before_the_table():
    """Only those that do not exist: a role without CREATE works if an administrator has created everything."""
    session = FakeSession()
    cassandra.create_table(session, read(), COMPOSITE)
    names = [statement.partition(" (")[0].rpartition(".")[2] for statement in created(session)]
    assert names == ["home_address", "line", "t"]
    there = [{"type_name": name, "field_names": ["a"], "field_types": ["text"]} for name in ("home_address", "line")]
    session = FakeSession(lambda query, _: there if "system_schema.types" in query else [])
    cassandra.create_table(session, read(), COMPOSITE)
    (statement,) = created(session)
    assert "CREATE TABLE" in statement


def test_tables_that_may_not_be_created_are_named_with_their_cql():
    """All missing ones at once, in order, including those that other commands would create, ready to be pasted."""
    session = FakeSession(Guarded("a"))
    with pytest.raises(PenstockError, match="User app has no CREATE permission on <all keyspaces>") as failed:
        cassandra.create_missing(session, "lab", ALL, {"b": "CREATE TABLE lab.b", "c": "CREATE TABLE lab.c"})
    _, *statements = failed.value.message.strip().split("\n\n")
    assert statements == ["CREATE KEYSPACE lab;", "CREATE TABLE lab.b;", "CREATE TABLE lab.c;"]
    assert "administrator" in failed.value.hint


@pytest.mark.parametrize(
    ("resource", "grant"),
    [
        ("table lab.a", "GRANT MODIFY ON TABLE lab.a TO app;"),
        ("keyspace lab", "GRANT MODIFY ON KEYSPACE lab TO app;"),
        ("all tables in lab", "GRANT MODIFY ON KEYSPACE lab TO app;"),
        ("all keyspaces", "GRANT MODIFY ON ALL KEYSPACES TO app;"),
    ],
)
def test_a_missing_permission_is_named(driver, resource, grant):
    """The hint is the GRANT that an administrator types."""
    driver()
    denied = Unauthorized(f"User app has no MODIFY permission on <{resource}> or any of its parents")
    refused = pytest.raises(PenstockError, match="Cassandra rejected the request: User app has no MODIFY permission")
    with refused as failed, cassandra.open_session(read()):
        raise denied
    assert grant in failed.value.hint
    assert "docs/operations.md" in failed.value.hint


def test_another_permission_error_of_a_role_has_a_hint():
    """A message of another form is shown unchanged; another error has no such hint."""
    assert (
        cassandra.grant_hint(Unauthorized("You have to be logged in"))
        == "docs/operations.md lists what each role needs"
    )
    assert cassandra.grant_hint(InvalidRequest("no table")) == ""


@pytest.mark.parametrize(
    ("consistency", "serial"),
    [
        ("LOCAL_QUORUM", ConsistencyLevel.LOCAL_SERIAL),
        ("LOCAL_ONE", ConsistencyLevel.LOCAL_SERIAL),
        ("ONE", ConsistencyLevel.SERIAL),
        ("QUORUM", ConsistencyLevel.SERIAL),
        ("EACH_QUORUM", ConsistencyLevel.SERIAL),
        ("ALL", ConsistencyLevel.SERIAL),
    ],
)
def test_lightweight_transactions_use_the_same_data_centre_as_reads_and_writes(driver, consistency, serial):
    """With a local consistency level, leases and claims do not wait for another data centre, which may be
    unavailable.
    """
    made = driver()
    cassandra.connect(read(cassandra_consistency=consistency))
    assert made.arguments["execution_profiles"][EXEC_PROFILE_DEFAULT].serial_consistency_level == serial


def test_another_keyspace_can_be_configured():
    """A setting puts the pipeline's tables in another keyspace."""
    assert cassandra.keyspace_of(read(), PIPELINE) == "spark_streams"
    assert cassandra.keyspace_of(read(cassandra_keyspace="mine"), PIPELINE) == "mine"


def session_with(columns, keys=("id",), clustering=()):
    """A session whose table has these columns."""
    kinds = dict.fromkeys(keys, "partition_key") | dict.fromkeys(clustering, "clustering")
    rows = [{"column_name": name, "type": kind, "kind": kinds.get(name, "regular")} for name, kind in columns.items()]
    return FakeSession(lambda *_: rows)


def test_a_table_definition_is_cassandras():
    """Its columns, their types, and its complete key are read from Cassandra; it is looked up by its name."""
    session = session_with({"a": "text", "b": "int", "c": "map<text, int>"}, keys=("b",), clustering=("a",))
    result = cassandra.table_of(session, read(cassandra_keyspace="mine"), PIPELINE)
    assert result.columns == {"a": "text", "b": "int", "c": "map<text, int>"}
    assert set(result.key) == {"a", "b"}
    ((query, values),) = session.executed
    assert "system_schema.columns" in query
    assert values == ("mine", "created_users")
    assert cassandra.table_of(FakeSession(), read(), PIPELINE) == Table({}, ())


def test_a_table_that_fits_lacks_nothing():
    """Columns that the record does not have are ignored."""
    assert (
        cassandra.find_missing_columns(session_with(cql.column_types(User) | {"old": "text"}), read(), PIPELINE) == []
    )


def test_missing_columns_are_named_with_their_type():
    """One that does not exist, and one of another type, in the order of a row."""
    columns = cql.column_types(User) | {"phone": "int"}
    del columns["kafka_offset"], columns["email"]
    assert cassandra.find_missing_columns(session_with(columns), read(), PIPELINE) == [
        "email text",
        "phone text",
        "kafka_offset bigint",
    ]


def test_a_missing_table_lacks_every_column():
    """Every column is named."""
    needed = [f"{name} {kind}" for name, kind in cql.column_types(User).items()]
    assert cassandra.find_missing_columns(FakeSession(), read(), PIPELINE) == needed


def test_a_row_that_a_transform_widened_is_what_counts():
    """The stored row decides, not the record that is sent."""

    class Row(User, frozen=True, kw_only=True):
        full_name: str

    wider = replace(PIPELINE, row=Row)
    assert cassandra.find_missing_columns(session_with(cql.column_types(User)), read(), wider) == ["full_name text"]
