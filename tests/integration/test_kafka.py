"""Topics and producer against the real Kafka."""

import os

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import ConfigResource, ResourceType

from penstock import config
from penstock.broker import topics
from penstock.broker.kafka import MAX_MESSAGE_BYTES, build_config, create_admin, create_producer
from penstock.config import Settings
from penstock.errors import DeliveryFailed, KafkaUnreachable
from penstock.produce.send import Sender
from penstock.retry import wait_until


def test_a_topic_is_created_with_the_configured_partitions_and_settings(settings: Settings, unique: str) -> None:
    """Nothing about a topic is left to the broker's defaults."""
    topics.ensure_topic(settings, unique)
    topics.ensure_topic(settings, unique)
    assert len(topics.fetch_offset_ranges(settings, unique)) == settings.kafka_partitions
    client, resource = create_admin(settings), ConfigResource(ResourceType.TOPIC, unique)
    result = client.describe_configs([resource])[resource].result()
    assert {name: result[name].value for name in topics.topic_settings(settings)} == topics.topic_settings(settings)


def test_a_topic_is_not_created_by_accident(settings: Settings, unique: str) -> None:
    """Asking about a missing topic does not create it."""
    assert topics.fetch_offset_ranges(settings, unique) == []
    assert topics.fetch_offset_ranges(settings, unique) == []


def test_a_recreated_topic_has_another_id(settings: Settings, unique: str) -> None:
    """Incarnations of a topic can be distinguished."""
    topics.ensure_topic(settings, unique)
    first = topics.fetch_topic_id(settings, unique)
    client = create_admin(settings)
    client.delete_topics([unique])[unique].result()
    wait_until(lambda: _is_gone(settings, unique), timeout_s=30, what="the topic to be gone")
    topics.ensure_topic(settings, unique)
    assert topics.fetch_topic_id(settings, unique) != first


def _is_gone(settings: Settings, topic: str) -> None:
    if topics.fetch_offset_ranges(settings, topic):
        raise KafkaUnreachable(f"{topic} is still there")


def test_sent_records_are_acknowledged_and_read_back_in_order(settings: Settings, unique: str) -> None:
    """The sender's counts and offsets match the topic's, and key, value and headers are unchanged."""
    topics.ensure_topic(settings, unique)
    with Sender(create_producer(settings), unique, 30) as sender:
        for number in range(5000):
            sender.send(b"key-%d" % (number % 50), b"value-%d" % number, [("h", b"x")])
    delivered = sender.delivered
    spans = topics.fetch_offset_ranges(settings, unique)
    assert delivered.records == 5000 == sum(span.records for span in spans)
    assert delivered.offsets == {span.partition: (0, span.end - 1) for span in spans if span.records}
    read = list(topics.read_records(settings, unique, spans))
    assert len(read) == 5000
    assert read[0].headers() == [("h", b"x")]
    by_key: dict[bytes, list[int]] = {}
    for message in read:
        by_key.setdefault(message.key(), []).append(int(message.value()[6:]))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_records_are_read_from_the_middle(settings: Settings, unique: str) -> None:
    """A range contains exactly its own records."""
    topics.ensure_topic(settings, unique)
    with Sender(create_producer(settings), unique, 30) as sender:
        for number in range(100):
            sender.send(b"one-key", b"%d" % number, [])
    partition = next(iter(sender.delivered.offsets))
    read = list(topics.read_records(settings, unique, [topics.OffsetRange(partition, 10, 20)]))
    assert [message.offset() for message in read] == list(range(10, 20))


def test_a_record_that_is_too_large_is_a_failed_delivery(settings: Settings, unique: str) -> None:
    """A record that Kafka rejects is never counted as sent."""
    topics.ensure_topic(settings, unique)
    with pytest.raises(DeliveryFailed, match=unique), Sender(create_producer(settings), unique, 30) as sender:
        sender.send(b"key", os.urandom(MAX_MESSAGE_BYTES + 1), [])
    assert sender.delivered.records == 0


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip"])
def test_a_message_is_measured_uncompressed(settings: Settings, unique: str, codec: str) -> None:
    """A message that is small only because it is compressed could exceed the reader's memory."""
    topics.ensure_topic(settings, unique)
    client = Producer(build_config(settings) | {"compression.type": codec, "message.max.bytes": 1_000_000_000})
    errors: list[KafkaError | None] = []
    client.produce(unique, value=bytes(10 * MAX_MESSAGE_BYTES), on_delivery=lambda error, _: errors.append(error))
    assert client.flush(60) == 0
    (error,) = errors
    assert error is not None
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert sum(span.records for span in topics.fetch_offset_ranges(settings, unique)) == 0


def test_an_id_has_the_partition_that_java_clients_choose(settings: Settings, unique: str) -> None:
    """Murmur2 of the key, as in Kafka's own producer; the hashes are those of Kafka's `UtilsTest.testMurmur2`."""
    topics.ensure_topic(settings, unique)
    client, places = create_producer(settings), {}
    for key in (b"21", b"foobar", b"a-little-bit-long-string", b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"):
        client.produce(
            unique, value=b"x", key=key, on_delivery=lambda _, item: places.update({item.key(): item.partition()})
        )
    assert client.flush(30) == 0
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    hashes[b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"] = -58897971
    assert places == {key: (value & 0x7FFFFFFF) % settings.kafka_partitions for key, value in hashes.items()}


def test_an_unavailable_kafka_is_reported_as_unreachable(free_port: int) -> None:
    """The error names the address and the setting."""
    away = config.read(kafka_bootstrap=f"127.0.0.1:{free_port}", kafka_timeout_s=2)
    with pytest.raises(KafkaUnreachable, match=str(free_port)) as caught:
        topics.ensure_topic(away, "users_created")
    assert "PENSTOCK_KAFKA_BOOTSTRAP" in caught.value.hint
