import getpass
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock import config
from penstock.config import LEAST_SPARK_HEAP_MIB, PREFIX, Settings, read
from penstock.errors import WrongSettings


def test_a_setting_is_read_from_its_variable(monkeypatch):
    """A setting is read from PENSTOCK_ and its name in upper case. Other variables are ignored."""
    monkeypatch.setenv("PENSTOCK_WIRE_FORMAT", "avro")
    monkeypatch.setenv("PENSTOCK_KAFKA_PARTITIONS", "12")
    monkeypatch.setenv("PENSTOCK_NO_SUCH_SETTING", "x")
    monkeypatch.setenv("KAFKA_PARTITIONS", "7")
    settings = config.load()
    assert (settings.wire_format, settings.kafka_partitions) == ("avro", 12)


def test_settings_are_read_once(monkeypatch):
    """`load` returns the same settings throughout a process."""
    before = config.load()
    monkeypatch.setenv("PENSTOCK_WIRE_FORMAT", "avro")
    assert config.load() is before


def test_an_override_takes_precedence_over_a_variable(monkeypatch):
    """Overrides in code take precedence over the environment."""
    monkeypatch.setenv("PENSTOCK_WIRE_FORMAT", "avro")
    assert read(wire_format="json").wire_format == "json"


def test_addresses_follow_the_ports():
    """Addresses default to the effective ports of the local stack."""
    settings = read(kafka_port=19092, registry_port=18081, spark_port=17077, airflow_port=18080)
    assert settings.kafka_bootstrap == "127.0.0.1:19092"
    assert settings.registry_url == "http://127.0.0.1:18081/apis/ccompat/v7"
    assert settings.spark_master == "spark://127.0.0.1:17077"
    assert settings.airflow_url == "http://127.0.0.1:18080"


def test_an_explicit_address_is_used():
    """An explicit address is used instead of the local stack's."""
    settings = read(kafka_bootstrap="k1:9093,k2:9093", kafka_port=19092)
    assert settings.kafka_bootstrap == "k1:9093,k2:9093"


def test_the_local_stack_has_stable_and_distinct_ports():
    """Default ports do not change accidentally, and no two are the same."""
    ports = read().ports()
    assert {name: ports[name] for name in ("kafka_port", "zookeeper_port", "registry_port", "cassandra_port")} == {
        "kafka_port": 9092,
        "zookeeper_port": 2181,
        "registry_port": 8081,
        "cassandra_port": 9042,
    }
    assert (ports["spark_port"], ports["spark_ui_port"], ports["airflow_port"]) == (7077, 9090, 8080)
    assert len(set(ports.values())) == len(ports)


def test_every_invalid_variable_is_named(monkeypatch):
    """The error lists all invalid variables with what is expected."""
    monkeypatch.setenv("PENSTOCK_KAFKA_PARTITIONS", "none")
    monkeypatch.setenv("PENSTOCK_WIRE_FORMAT", "xml")
    monkeypatch.setenv("PENSTOCK_CASSANDRA_TIMEOUT_S", "0")
    with pytest.raises(WrongSettings) as wrong:
        config.load()
    message = wrong.value.message
    for part in (
        "PENSTOCK_KAFKA_PARTITIONS: ",
        "PENSTOCK_WIRE_FORMAT: ",
        "'json' or 'avro'",
        "PENSTOCK_CASSANDRA_TIMEOUT_S",
    ):
        assert part in message
    assert wrong.value.exit_code == 2


def test_an_invalid_port_is_named_alone(monkeypatch):
    """An invalid port causes no second error for the address derived from it."""
    monkeypatch.setenv("PENSTOCK_KAFKA_PORT", "70000")
    with pytest.raises(WrongSettings) as wrong:
        read()
    assert wrong.value.message.startswith("PENSTOCK_KAFKA_PORT: ")
    assert ";" not in wrong.value.message


def test_an_invalid_secret_is_not_shown(monkeypatch):
    """Errors never show the value of a secret."""
    monkeypatch.setenv("PENSTOCK_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("PENSTOCK_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(WrongSettings, match="PENSTOCK_KAFKA_USERNAME is required") as wrong:
        read()
    assert "hunter2" not in str(wrong.value)
    assert wrong.value.__cause__ is None


@pytest.mark.parametrize("name", ["spark_driver_memory_mib", "spark_executor_memory_mib"])
def test_a_heap_that_is_too_small_for_spark_is_rejected(name):
    """Heaps below 466 MiB are rejected: the serial collector leaves less than the 471,859,200 bytes Spark requires."""
    usable = LEAST_SPARK_HEAP_MIB * 2**20 * 29 / 30  # young is a third of the heap, a survivor space a tenth of that
    assert usable >= 1.5 * 300 * 2**20 > (LEAST_SPARK_HEAP_MIB - 1) * 2**20 * 29 / 30
    assert getattr(read(**{name: LEAST_SPARK_HEAP_MIB}), name) == LEAST_SPARK_HEAP_MIB
    with pytest.raises(WrongSettings, match=f"PENSTOCK_{name.upper()}: .*greater than or equal to 466"):
        read(**{name: LEAST_SPARK_HEAP_MIB - 1})


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "kafka_bootstrap",
            ["k:9092", "k-1.example:1,10.0.0.1:2", "[::1]:9092", "SSL://k:9093"],
            ["k", "k:", "a:1, b:2", "a:1,"],
        ),
        ("cassandra_hosts", ["c", "c-1,c-2", "10.0.0.1", "::1"], ["c:9042", "a, b", "http://c", ","]),
        (
            "cassandra_replication",
            ["{'class': 'NetworkTopologyStrategy', 'dc1': 3}"],
            ["3", "{", "{'dc1': 3}", "SimpleStrategy"],
        ),
        ("source_url", ["http://a", "https://a/b"], ["a:8000", "ftp://a", "file:///etc/passwd"]),
        ("registry_url", ["http://a", "https://a/b"], ["registry:8081"]),
        ("airflow_url", ["http://a", "https://a/b"], ["airflow:8080"]),
        ("kafka_sasl_mechanism", ["PLAIN", "SCRAM-SHA-256"], ["OAUTHBEARER", "scram"]),
    ],
)
def test_a_setting_that_cannot_work_is_rejected(name, right, wrong):
    """An invalid setting is reported when settings are read, not by the service or client that uses it."""
    for value in right:
        assert getattr(read(**{name: value}), name) == value
    for value in wrong:
        with pytest.raises(WrongSettings, match=f"PENSTOCK_{name.upper()}: "):
            read(**{name: value})


def test_a_port_that_is_used_twice_names_both_settings():
    """Two services cannot share a port. The error names both settings."""
    with pytest.raises(WrongSettings, match="PENSTOCK_REGISTRY_PORT and PENSTOCK_KAFKA_PORT both use port 9092"):
        read(registry_port=9092)


@pytest.mark.parametrize("name", ["CACHE", "KAFKA_CA_FILE", "CASSANDRA_CA_FILE", "KAFKA_PARTITIONS", "PIPELINE"])
def test_an_empty_variable_counts_as_unset(monkeypatch, name):
    """An empty variable, as in an env file, leaves the default."""
    default = getattr(read(), name.lower())
    monkeypatch.setenv(PREFIX + name, "")
    assert getattr(read(), name.lower()) == default


def test_paths_are_absolute(monkeypatch, tmp_path):
    """Paths are absolute, so that they are independent of a process' working directory."""
    monkeypatch.chdir(tmp_path)
    settings = read(
        home="here", cache="~/jars", kafka_ca_file="ca.pem", cassandra_ca_file="/etc/ca.pem", pipeline="mine.py"
    )
    assert settings.home == tmp_path / "here"
    assert settings.cache == Path.home() / "jars"
    assert settings.kafka_ca_file == tmp_path / "ca.pem"
    assert settings.cassandra_ca_file == Path("/etc/ca.pem")
    assert settings.pipeline == str(tmp_path / "mine.py")


def test_the_checkpoint_is_in_the_data_directory_by_default(tmp_path):
    """The checkpoint is in the data directory by default."""
    assert read(home=tmp_path).checkpoint == str(tmp_path / "data" / "checkpoint-kraft")
    assert read(spark_checkpoint="s3://b/c").checkpoint == "s3://b/c"


def test_secrets_are_hidden():
    """Passwords are hidden when settings are printed or logged."""
    settings = read(kafka_password="one-secret", cassandra_password="two-secret", airflow_password="three-secret")
    assert "secret'" not in repr(settings)
    assert "-secret" not in f"{settings}{settings!r}{dict(settings)}"
    assert settings.kafka_password.get_secret_value() == "one-secret"


def test_passwords_are_secrets():
    """Every setting named password is a secret."""
    names = [name for name in Settings.model_fields if "password" in name]
    assert names
    assert all("SecretStr" in str(Settings.model_fields[name].annotation) for name in names)


def test_settings_are_immutable():
    """Settings are immutable, so they stay valid and can be cache keys."""
    settings = read()
    with pytest.raises(ValidationError):
        settings.kafka_port = 1
    assert hash(settings) == hash(read())


def test_every_setting_is_described():
    """Every setting has a description for docs/config.md."""
    assert all(field.description for field in Settings.model_fields.values())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "kafka_password": st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1),
            "source_url": st.sampled_from(["http://a/?x=1&y=2", "https://ü.example/"]),
            "log_json": st.booleans(),
            "cassandra_keyspace": st.sampled_from(["", "mine"]),
            "cache": st.sampled_from([None, "/var/cache"]),
            "spark_wait_s": st.floats(0.001, 1e6),
            "kafka_port": st.integers(10_000, 65_535),
        },
    )
)
def test_a_child_process_reads_the_same_settings(overrides):
    """A child process reads the same settings from environment variables or text, including secrets."""
    settings = read(**overrides)
    assert read(**settings.plain()) == settings
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.environment().items():
            patch.setenv(name, value)
        assert read() == settings
        assert set(settings.environment()) <= set(os.environ)


@pytest.mark.parametrize("error", [KeyError("uid"), OSError("no user")])
def test_a_user_without_a_name_is_unknown(monkeypatch, error):
    """A user of a container may have none."""

    def raise_unknown():
        raise error

    monkeypatch.setattr(getpass, "getuser", raise_unknown)
    assert config.current_user() == "unknown"
