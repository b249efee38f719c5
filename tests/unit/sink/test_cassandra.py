import socket
from dataclasses import replace

import pytest
from cassandra import ConsistencyLevel, InvalidRequest, OperationTimedOut, Unauthorized, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable
from cassandra.query import dict_factory

from penstock.config import read
from penstock.contract.table_evolution import TableDefinition, define_table
from penstock.errors import CassandraUnreachable, PenstockError, StoreFailed
from penstock.pipelines.users import PIPELINE, User
from penstock.sink import cassandra
from tests.unit.fakes import FakeSession, created
from tests.unit.keyed import SAMPLES
from tests.unit.records import Composites

COLUMNS = PIPELINE.build_table("ks").columns
"""The types of the columns of a user's table."""


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


def session_with(columns, partition=("id",), clustering=(), static=()):
    """A session whose table has these columns; `clustering` are pairs of a column and its order."""
    kinds = dict.fromkeys(columns, ("regular", -1, "none")) | dict.fromkeys(static, ("static", -1, "none"))
    kinds |= {name: ("partition_key", at, "none") for at, name in enumerate(partition)}
    kinds |= {name: ("clustering", at, order) for at, (name, order) in enumerate(clustering)}
    names = ("column_name", "type", "kind", "position", "clustering_order")
    rows = [dict(zip(names, (name, kind, *kinds[name]), strict=True)) for name, kind in sorted(columns.items())]
    return FakeSession(lambda query, _: rows if "system_schema.columns" in query else [])


def test_a_table_definition_is_cassandras():
    """Its columns, their types, and its complete key in its order are read from Cassandra; it is looked up by name."""
    columns = {"a": "text", "b": "int", "c": "map<text, int>", "d": "date", "e": "int"}
    session = session_with(columns, partition=("e", "b"), clustering=(("d", "desc"), ("a", "asc")), static=("c",))
    assert cassandra.table_of(session, read(cassandra_keyspace="mine"), PIPELINE) == TableDefinition(
        columns, ("e", "b"), (("d", "DESC"), ("a", "ASC")), frozenset({"c"})
    )
    assert {values for _, values in session.executed} == {("mine", "created_users")}
    assert cassandra.table_of(FakeSession(), read(), PIPELINE) == TableDefinition({})


def test_user_types_are_read_if_a_row_has_any(monkeypatch):
    """Each type's fields are in the order in which its values have them."""
    needed = TableDefinition({}, types={"address": {"city": "text"}})
    monkeypatch.setattr(cassandra, "define_table", lambda _: needed)
    types = [{"type_name": "address", "field_names": ["city", "at"], "field_types": ["text", "frozen<point>"]}]
    session = FakeSession(lambda query, _: types if "system_schema.types" in query else [])
    assert cassandra.table_of(session, read(), PIPELINE).types == {"address": {"city": "text", "at": "frozen<point>"}}


def test_rows_can_be_stored_in_a_table_that_fits():
    """Columns that the record does not have are ignored."""
    session = session_with(COLUMNS | {"old": "text"})
    assert cassandra.find_table_problems(session, read(), PIPELINE) == []


def test_each_column_that_does_not_fit_is_named():
    """One that does not exist, one of another type, and the key, each with what is needed."""
    columns = COLUMNS | {"phone": "int"}
    del columns["kafka_offset"]
    problems = cassandra.find_table_problems(session_with(columns, ("id",), (("email", "asc"),)), read(), PIPELINE)
    assert [problem.split(";")[0].split(":")[0] for problem in problems] == [
        "column `phone` is int, the record needs text",
        "column `kafka_offset` bigint is new",
        "the key is `id`, but the table's is `(id, email)`",
    ]


def test_a_missing_table_is_a_problem():
    """The job creates it before it checks."""
    assert cassandra.find_table_problems(FakeSession(), read(), PIPELINE) == ["the table does not exist"]


def test_a_row_that_a_transform_widened_is_what_counts():
    """The stored row decides, not the record that is sent."""

    class Row(User, frozen=True, kw_only=True):
        full_name: str

    wider = replace(PIPELINE, row=Row)
    (problem,) = cassandra.find_table_problems(session_with(COLUMNS), read(), wider)
    assert "column `full_name` text is new" in problem


@pytest.mark.parametrize(
    ("comment", "is_other"),
    [
        ('penstock derives at_day = day_of("at")', False),
        ('penstock derives at_day = day_of("at"), b = bucket("sensor", 8)', True),
        ("penstock derives ", True),
        ("", False),
        (None, False),
        ("our readings", False),
    ],
)
def test_a_table_says_how_its_columns_are_derived(comment, is_other):
    """In its comment. A comment of somebody else's says nothing about it."""
    declared = define_table(cassandra.declared_table(read(), SAMPLES))
    columns = session_with(declared.columns, declared.partition, declared.clustering)
    session = FakeSession(lambda query, _: [{"comment": comment}] if "comment" in query else columns.execute(query))
    problems = cassandra.find_table_problems(session, read(), SAMPLES)
    assert [comment in problem for problem in problems] == ([True] if is_other else [])


def test_columns_that_are_no_longer_derived_are_found():
    """A pipeline without derived columns cannot write to a table that has some."""
    comment = 'penstock derives at_day = day_of("at")'
    plain = replace(SAMPLES, primary_key=None)
    declared = define_table(cassandra.declared_table(read(), plain))
    columns = session_with(declared.columns, declared.partition, declared.clustering)
    session = FakeSession(lambda query, _: [{"comment": comment}] if "comment" in query else columns.execute(query))
    (problem,) = cassandra.find_table_problems(session, read(), plain)
    assert comment in problem
