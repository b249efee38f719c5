import pytest
from confluent_kafka import KafkaError

from penstock.broker import kafka
from penstock.config import read
from penstock.errors import KafkaUnreachable, PenstockError
from tests.unit.fakes import kafka_error


def test_a_plain_connection_has_no_secrets(settings):
    """Without SASL and TLS there are only the address and the protocol."""
    conf = kafka.build_config(settings)
    conf["error_cb"](KafkaError(KafkaError._TRANSPORT, "away"))
    assert {name: value for name, value in conf.items() if name not in ("error_cb", "log_level")} == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "PLAINTEXT",
    }


def test_a_secured_connection_has_its_credentials(tmp_path):
    """User, password, mechanism and authority are passed to the client."""
    ca = tmp_path / "ca.pem"
    conf = kafka.build_config(
        read(
            kafka_security_protocol="SASL_SSL",
            kafka_username="me",
            kafka_password="secret",
            kafka_ca_file=ca,
            kafka_bootstrap="k1:9093,k2:9093",
        )
    )
    assert conf["bootstrap.servers"] == "k1:9093,k2:9093"
    assert (conf["sasl.mechanism"], conf["sasl.username"], conf["sasl.password"]) == ("SCRAM-SHA-512", "me", "secret")
    assert (conf["security.protocol"], conf["ssl.ca.location"]) == ("SASL_SSL", str(ca))


@pytest.fixture
def given_conf(monkeypatch):
    """The configuration that a client was created with."""
    made = []
    for name in ("Producer", "Consumer", "AdminClient"):
        monkeypatch.setattr(kafka, name, made.append)
    return made


def test_the_producer_loses_and_duplicates_nothing(given_conf, settings):
    """Idempotent, acks=all, and a delivery is reported within the configured timeout."""
    kafka.create_producer(settings)
    conf = given_conf[0]
    assert (conf["enable.idempotence"], conf["acks"], conf["compression.type"]) == (True, "all", "lz4")
    assert conf["delivery.timeout.ms"] == 30_000
    assert conf["request.timeout.ms"] < conf["delivery.timeout.ms"]


def test_the_reader_never_commits_and_never_skips(given_conf, settings):
    """Reading a topic changes nothing, and deleted offsets are an error."""
    kafka.create_reader(settings)
    assert (given_conf[0]["enable.auto.commit"], given_conf[0]["auto.offset.reset"]) == (False, "error")


def test_a_fast_reader_hardly_waits(given_conf, settings):
    """It requests more soon after it has consumed what was fetched: librdkafka's own pause is a second."""
    kafka.create_reader(settings)
    assert given_conf[0]["fetch.queue.backoff.ms"] == 10


def test_the_admin_client_uses_the_common_connection(given_conf, settings):
    """It has the connection settings and nothing else."""
    kafka.create_admin(settings)
    assert set(given_conf[0]) == set(kafka.build_config(settings))


@pytest.mark.parametrize("code", [KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError.BROKER_NOT_AVAILABLE])
def test_an_unavailable_broker_is_unreachable(settings, code):
    """A transient error is `KafkaUnreachable`, with what was done, where, and what to type."""
    error = kafka.translate_error(kafka_error(code, "gone"), "listing", settings)
    assert type(error) is KafkaUnreachable
    assert error.message == "listing on Kafka at 127.0.0.1:9092: gone"
    assert "./penstock status" in error.hint


def test_a_permanent_broker_error_is_a_failure(settings):
    """It is not reported as unreachable."""
    error = kafka.translate_error(kafka_error(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"), "listing", settings)
    assert type(error) is PenstockError
