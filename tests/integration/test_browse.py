"""Topics are browsed and changed in the real Kafka."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock import pipelines
from penstock.broker import admin, kafka
from penstock.broker.registry import Registry
from penstock.broker.topics import Position
from penstock.codec.values import ContentReader
from penstock.config import Settings
from penstock.errors import KafkaUnreachable, UsageError
from penstock.pipeline import message_draft
from penstock.retry import wait_until
from penstock.web.topics import groups as observe_groups
from penstock.web.topics.browse import Browser, MessagePage, MessageQuery
from penstock.web.topics.content import MessageRenderer
from penstock.web.topics.inventory import Inventory, read_ranges

Look = Callable[..., MessagePage]


@pytest.fixture
def client(settings: Settings) -> Any:
    """An admin client."""
    return kafka.create_admin(settings)


@pytest.fixture
def find_page(settings: Settings, client: Any, unique: str) -> Look:
    """A viewer of a topic with three partitions and thirty messages, ten in each, a second apart."""
    admin.create_topic(client, settings, unique, 3)
    producer = kafka.create_producer(settings)
    began_ms = round(time.time() * 1000) - 60_000
    for at in range(30):
        value = b'{"n": %d}' % at
        producer.produce(unique, value, b"k%d" % at, partition=at % 3, timestamp=began_ms + at * 1000)
    assert producer.flush(30) == 0
    reader = ContentReader(Registry(settings))
    renderer = MessageRenderer(reader, pipelines.of(settings).record, False)
    browser = Browser(client, settings, unique)

    def find(question: MessageQuery) -> MessagePage:
        return browser.search(question, renderer)

    return find


def numbers(messages_page: MessagePage) -> list[int]:
    return [message.value["n"] for message in messages_page.messages]


def test_messages_are_listed_newest_first_and_from_a_position(find_page: Look) -> None:
    """By time across partitions, page by page; from an offset, from a time, and by search."""
    first = find_page(MessageQuery(most=20))
    assert numbers(first) == list(range(29, 9, -1))
    rest = find_page(MessageQuery(most=20, go_on=first.go_on))
    assert (numbers(rest), rest.go_on) == (list(range(9, -1, -1)), "")
    assert numbers(find_page(MessageQuery("offset", partition=1, offset=8))) == [25, 28]
    moment = datetime.fromisoformat(first.messages[4].at)
    assert numbers(find_page(MessageQuery("time", time=moment))) == [25, 26, 27, 28, 29]
    assert numbers(find_page(MessageQuery("time", time=datetime.now(UTC)))) == []
    assert numbers(find_page(MessageQuery(key="k7"))) == [7]
    assert numbers(find_page(MessageQuery(field="n", value="12"))) == [12]
    nothing = find_page(MessageQuery(text="nowhere"))
    assert (nothing.messages, nothing.looked_through, nothing.go_on) == ([], 30, "")


def test_a_record_with_a_wire_format_header_is_decoded_by_its_schema(settings: Settings, client: Any) -> None:
    """A message composed by hand is read back with its schema id, and its personal data is masked."""
    pipeline, registry = pipelines.of(settings), Registry(settings)
    draft = message_draft.validate_text(pipeline, registry, message_draft.build_template(pipeline.record))
    key, value = message_draft.encode_record(settings, pipeline, registry, draft)  # type: ignore[arg-type]
    place = message_draft.deliver_message(settings, pipeline.topic, key, value)
    renderer = MessageRenderer(ContentReader(registry), pipeline.record, True)
    seen = Browser(client, settings, pipeline.topic).read_message(place.partition, place.offset, renderer)
    assert seen is not None
    assert seen.schema_id is not None
    assert (seen.kind, seen.key, seen.value["email"]) == ("json", key.decode(), "•••")
    assert (
        Browser(client, settings, pipeline.topic).read_message(place.partition, place.offset + 10**6, renderer) is None
    )


def test_a_topic_is_created_changed_emptied_and_deleted(settings: Settings, client: Any, unique: str) -> None:
    """The inventory shows each step: settings, records, bytes, and that the topic is gone."""
    admin.create_topic(client, settings, unique, 2, {"retention.ms": "60000"})
    for _ in range(5):
        message_draft.deliver_message(settings, unique, b"same", b"x" * 1000)
    held = Inventory(client, settings).get_topic(unique)
    assert (held.partitions, held.records, held.retention_ms, held.is_internal) == (2, 5, 60_000, False)
    assert held.disk_bytes is not None
    assert held.disk_bytes > 0
    admin.alter_setting(client, settings, unique, "retention.ms", "70000")
    assert Inventory(client, settings).get_topic(unique).retention_ms == 70_000
    (part,) = [offset_range for offset_range in read_ranges(client, settings, unique) if offset_range.records]
    assert admin.delete_records(client, settings, unique, [Position(part.partition, 3)]) == {part.partition: 3}
    assert Inventory(client, settings).get_topic(unique).records == 2
    admin.delete_topic(client, settings, unique)

    def is_gone() -> None:
        try:
            read_ranges(client, settings, unique)
        except UsageError:
            return
        raise KafkaUnreachable("it is still there")

    wait_until(is_gone, timeout_s=30, what="the topic to be gone")


def test_what_kafka_rejects_is_a_usage_error(settings: Settings, client: Any, unique: str) -> None:
    """The message says what was requested and why Kafka rejected it."""
    admin.create_topic(client, settings, unique, 1)
    for message, ask in {
        "already exists": lambda: admin.create_topic(client, settings, unique, 1),
        "invalid": lambda: admin.create_topic(client, settings, "a b", 1),
        "Not a number": lambda: admin.alter_setting(client, settings, unique, "retention.ms", "x"),
        "Offset out of range": lambda: admin.delete_records(client, settings, unique, [Position(0, 5)]),
        "internal to Kafka": lambda: admin.delete_topic(client, settings, "__consumer_offsets"),
    }.items():
        with pytest.raises(UsageError, match=message):
            ask()


def test_the_registrys_consumer_group_is_distinguished(settings: Settings, client: Any) -> None:
    """The registry reads its topic in a group of its own."""
    groups = observe_groups.list_groups(client, settings)
    assert [item for item in groups if item.is_registry and item.members]
    assert all(item.lag is None for item in groups if item.is_stale)
