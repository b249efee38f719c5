from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from cassandra import Unauthorized

import spark_stream
from penstock.errors import KafkaUnreachable, PenstockError
from tests.unit.fakes import FakeSession, created


@pytest.fixture(autouse=True)
def settings_in_force(settings, monkeypatch):
    """The job's settings, not those that were effective when its module was imported."""
    monkeypatch.setattr(spark_stream, "settings", lambda: settings)
    return settings


def test_the_file_is_short():
    """The user's file delegates: at most 60 lines, without blank ones."""
    lines = Path(spark_stream.__file__).read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


def test_the_well_known_functions_exist():
    """The functions of such jobs keep their names."""
    for name in (
        "create_spark_connection",
        "connect_to_kafka",
        "create_cassandra_connection",
        "create_keyspace",
        "create_table",
        "create_selection_df_from_kafka",
    ):
        assert callable(getattr(spark_stream, name))


def test_keyspace_and_tables_are_created():
    """Including the ledger's tables."""
    session = FakeSession()
    spark_stream.create_keyspace(session)
    spark_stream.create_table(session)
    made = [query.split("(")[0].strip() for query in created(session)]
    assert made[0].startswith("CREATE KEYSPACE IF NOT EXISTS spark_streams ")
    assert made[1:] == [
        f"CREATE TABLE IF NOT EXISTS spark_streams.{name}"
        for name in (
            "created_users",
            "ledger",
            "generations",
            "layouts",
            "batches",
            "failures",
            "failing_batches",
            "leases",
            "marks",
            "key_formats",
        )
    ]


def test_a_spark_session_has_the_settings(settings_in_force, monkeypatch):
    """The session is named after the topic, on the configured master."""
    monkeypatch.setattr(spark_stream.spark_session, "spark_session", lambda *arguments: arguments)
    assert spark_stream.create_spark_connection() == (settings_in_force, "penstock users_created")


def test_the_stream_reads_the_topic(settings_in_force, monkeypatch):
    """The stream reads the pipeline's topic."""
    monkeypatch.setattr(spark_stream.spark_session, "kafka_stream", lambda *arguments: arguments)
    assert spark_stream.connect_to_kafka("spark") == ("spark", settings_in_force, "users_created")


def test_the_selection_is_the_decoded_records(settings_in_force, monkeypatch):
    """Kafka's columns become the pipeline's."""
    monkeypatch.setattr(spark_stream.stream, "build_plan", lambda settings, epoch_us: (settings, epoch_us))
    monkeypatch.setattr(spark_stream.stream, "decode_records", lambda raw, plan: (raw, plan))
    kafka = SimpleNamespace(selectExpr=lambda *columns: columns)
    columns, plan = spark_stream.create_selection_df_from_kafka(kafka)
    assert columns == spark_stream.spark_session.RAW_COLUMNS
    assert plan == (settings_in_force, 0)


def test_the_job_waits_then_creates_tables_then_streams(monkeypatch):
    """First it waits for the services, then keyspace and tables are created, then the stream runs."""
    done = []
    for name in ("create_keyspace", "create_table", "connect_to_kafka"):
        monkeypatch.setattr(spark_stream, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(spark_stream, "create_spark_connection", lambda: nullcontext("spark"))
    monkeypatch.setattr(spark_stream, "create_cassandra_connection", lambda: done.append("connect") or "session")
    monkeypatch.setattr(spark_stream.job, "wait_for_services", lambda _settings: done.append("wait"))
    monkeypatch.setattr(spark_stream.job, "run", lambda spark, _read, session, _settings: done.append((spark, session)))
    spark_stream.main()
    assert done[:4] == ["wait", "connect", "create_keyspace", "create_table"]
    assert done[-1] == ("spark", "session")


def test_a_missing_permission_is_named(monkeypatch):
    """The job ends with our message instead of the driver's traceback."""

    def denied(*_):
        raise Unauthorized("User app has no SELECT permission on <table spark_streams.ledger> or any of its parents")

    monkeypatch.setattr(spark_stream.job, "wait_for_services", lambda _settings: None)
    monkeypatch.setattr(spark_stream, "create_cassandra_connection", FakeSession)
    monkeypatch.setattr(spark_stream, "create_spark_connection", lambda: nullcontext("spark"))
    monkeypatch.setattr(spark_stream.job, "run", denied)
    with pytest.raises(PenstockError) as failed:
        spark_stream.main()
    assert "GRANT SELECT ON TABLE spark_streams.ledger TO app" in failed.value.hint


def test_services_that_stay_unavailable_end_the_job(monkeypatch):
    """If Kafka does not become available, nothing is created and the error is raised."""

    def wait(_settings):
        raise KafkaUnreachable("away")

    monkeypatch.setattr(spark_stream.job, "wait_for_services", wait)
    monkeypatch.setattr(spark_stream, "create_cassandra_connection", lambda: pytest.fail("went on"))
    with pytest.raises(KafkaUnreachable):
        spark_stream.main()
