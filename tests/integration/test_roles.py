"""Roles without CREATE, in a real Cassandra that requires passwords and permissions."""

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra.cluster import Session
from pydantic import SecretStr

from penstock import pipelines
from penstock.config import Settings
from penstock.contract.batch import Decoded
from penstock.errors import PenstockError
from penstock.files import write_atomically
from penstock.pipeline import job
from penstock.retry import wait_until
from penstock.sink import cassandra, lease, ledger
from penstock.sink.rows import RowWriter
from penstock.stack import jars
from penstock.stack.environment import read_environment
from penstock.stack.service import Service
from penstock.stack.services.cassandra import build_services
from tests.conftest import Stack

_START_S = 180.0
_ADMIN = {"cassandra_username": "cassandra", "cassandra_password": SecretStr("cassandra")}
_APP = {"cassandra_username": "app", "cassandra_password": SecretStr("word")}


def _port() -> int:
    while True:
        port = random.randint(26_000, 29_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def _guarded(text: str) -> str:
    changes = {
        "authenticator: AllowAllAuthenticator": "authenticator: PasswordAuthenticator",
        "authorizer: AllowAllAuthorizer": "authorizer: CassandraAuthorizer\npermissions_validity: 0ms",
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    return text


@contextlib.contextmanager
def _running(service: Service, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            service.command, env={**os.environ, **service.env}, cwd=service.directory, stdout=out, stderr=out
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="module")
def guarded(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a separate Cassandra with PasswordAuthenticator and CassandraAuthorizer."""
    home = tmp_path_factory.mktemp("guarded")
    ports = {"cassandra_port": _port(), "cassandra_storage_port": _port()}
    cache = stack.settings.cache or stack.settings.home / "cache"
    settings = stack.settings.model_copy(
        update={"home": home, "cache": cache, "cassandra_heap_mib": 512, "cassandra_keyspace": "shared", **ports}
    )
    here = read_environment(settings)
    (service,) = build_services(here)
    jars.install_group(here.layout, "cassandra")
    for folder in (*service.folders, here.layout.temporary):
        folder.mkdir(parents=True, exist_ok=True)
    for file in service.files:
        write_atomically(file.path, _guarded(file.text) if file.path.name == "cassandra.yaml" else file.text, file.mode)

    def answers() -> None:
        cassandra.close(cassandra.connect(settings.model_copy(update=_ADMIN)))

    with _running(service, home / "cassandra.log"):
        wait_until(answers, timeout_s=_START_S, every_s=2.0, what="the guarded Cassandra")
        with cassandra.open_session(settings.model_copy(update=_ADMIN)) as session:
            session.execute("CREATE ROLE app WITH LOGIN = true AND PASSWORD = 'word'")
            session.execute("GRANT SELECT ON KEYSPACE system_views TO app")
        yield settings


@pytest.fixture
def admin(guarded: Settings) -> Iterator[Session]:
    """A session of the administrator; the keyspace does not exist before and after."""
    with cassandra.open_session(guarded.model_copy(update=_ADMIN)) as session:
        session.execute("DROP KEYSPACE IF EXISTS shared")
        yield session
        session.execute("DROP KEYSPACE IF EXISTS shared")


@pytest.fixture
def app(guarded: Settings) -> Settings:
    """Settings of a role that may create nothing."""
    return guarded.model_copy(update=_APP)


def _statements(error: PenstockError) -> list[str]:
    return [item for item in error.message.split("\n\n") if item.lstrip().startswith("CREATE ")]


def _create_as_told(session: Session, app: Settings) -> None:
    with cassandra.open_session(app) as own, pytest.raises(PenstockError) as failed:
        job.create_keyspace(own, app)
    for statement in _statements(failed.value):
        session.execute(statement)


def test_missing_tables_are_named_and_existing_ones_used(admin: Session, app: Settings) -> None:
    """An administrator only has to run the printed CQL; with SELECT and MODIFY the job then has what it needs."""
    _create_as_told(admin, app)
    admin.execute("GRANT SELECT, MODIFY ON KEYSPACE shared TO app")
    pipeline = pipelines.of(app)
    with cassandra.open_session(app) as own:
        job.create_keyspace(own, app)
        job.create_tables(own, app)
        with lease.hold_lease(lease.Lease(own, "shared", "checkpoint"), wait_s=0):
            epoch_us = ledger.begin_generation(own, "shared", pipeline.topic, "id-1")
            RowWriter(own, pipeline.build_table("shared"), epoch_us=epoch_us, concurrency=1).write(Decoded())
        assert cassandra.find_table_problems(own, app, pipeline) == []


def test_a_missing_permission_is_named(admin: Session, app: Settings) -> None:
    """The hint is a GRANT that Cassandra accepts."""
    _create_as_told(admin, app)
    with pytest.raises(PenstockError, match="SELECT permission") as failed, cassandra.open_session(app) as own:
        own.execute("SELECT * FROM shared.ledger LIMIT 1")
    admin.execute(failed.value.hint.partition("can: ")[2].partition(";")[0])
    with cassandra.open_session(app) as own:
        own.execute("SELECT * FROM shared.ledger LIMIT 1")
