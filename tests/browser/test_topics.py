"""Topics in a browser: listed, searched, tailed, produced to, created and deleted."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from penstock import pipelines
from penstock.broker import admin, kafka
from penstock.config import Settings
from penstock.errors import KafkaUnreachable, UsageError
from penstock.pipeline import message_draft
from penstock.retry import wait_until


@pytest.fixture
def topic(settings: Settings, unique: str) -> Iterator[str]:
    """A topic with two partitions and one message."""
    client = kafka.create_admin(settings)
    admin.create_topic(client, settings, unique, 2)
    message_draft.deliver_message(settings, unique, b"first", b'{"colour": "green", "inner": {"size": 3}}')
    yield unique
    with suppress(UsageError):  # the test deleted it
        admin.delete_topic(client, settings, unique)


def visit(page: Page, path: str) -> None:
    """Open a page, and wait until its inputs accept text."""
    page.goto(path)
    page.wait_for_function("() => window.did_handshake")


def rows(page: Page, key: str) -> Locator:
    """The messages in the list whose key is displayed so."""
    return page.locator("li.message", has_text=key)


@pytest.fixture
def shown(page: Page) -> Page:
    """A page whose viewer sees personal data."""
    visit(page, "/topics")
    page.get_by_role("button", name="Personal data: hidden").click()
    expect(page.get_by_role("button", name="Personal data: shown")).to_be_visible()
    return page


def test_topics_are_listed_with_their_size(page: Page, settings: Settings, topic: str, shot: Callable[[str], None]):
    """Each topic with its records, bytes and retention; the Spark query's positions; the registry's groups apart."""
    visit(page, "/topics")
    line = page.get_by_role("row", name=topic)
    expect(line).to_contain_text("7.0 d")
    expect(line.get_by_role("cell").nth(1)).to_have_text("1")
    expect(line.get_by_role("cell").nth(3)).to_have_text(re.compile(r"^[0-9.]+ (B|KiB)$"))
    expect(page.get_by_text("Offsets of the query")).to_be_visible()
    expect(page.get_by_role("heading", name="Consumer groups")).to_be_visible()
    shot("topics")
    page.get_by_role("link", name=topic).click()
    expect(page).to_have_url(re.compile(f"/topics/{topic}$"))
    expect(page.locator("li.message")).to_have_count(1)


def test_a_message_is_found_by_key_text_and_field(shown: Page, settings: Settings, topic: str):
    """Each search filters the list, and is in the URL; an empty result says so."""
    message_draft.deliver_message(settings, topic, b"second", b'{"colour": "blue"}')
    visit(shown, f"/topics/{topic}?key=second")
    expect(shown.locator("li.message")).to_have_count(1)
    expect(rows(shown, "second")).to_be_visible()
    visit(shown, f"/topics/{topic}")
    expect(shown.locator("li.message")).to_have_count(2)
    shown.get_by_label("Text in key or value").fill("GREEN")
    shown.get_by_label("Text in key or value").press("Enter")
    expect(shown).to_have_url(re.compile("text=GREEN"))
    expect(rows(shown, "first")).to_be_visible()
    expect(shown.get_by_role("status").filter(has_text="2 scanned")).to_be_visible()
    visit(shown, f"/topics/{topic}?field=inner.size&value=3")
    expect(rows(shown, "first")).to_be_visible()
    expect(shown.locator("li.message")).to_have_count(1)
    visit(shown, f"/topics/{topic}?field=inner.size&value=4")
    expect(shown.get_by_text("No matching messages.")).to_be_visible()


def test_a_live_tail_shows_new_messages_and_can_be_paused(shown: Page, settings: Settings, topic: str):
    """New messages appear; none while paused; resuming shows those that arrived meanwhile."""
    visit(shown, f"/topics/{topic}")
    shown.get_by_role("button", name="Live tail").click()
    expect(shown.get_by_role("button", name="Pause")).to_be_visible()
    message_draft.deliver_message(settings, topic, b"while-on", b"{}")
    expect(rows(shown, "while-on")).to_be_visible()
    shown.get_by_role("button", name="Pause").click()
    expect(shown.get_by_text("Paused.")).to_be_visible()
    place = message_draft.deliver_message(settings, topic, b"while-off", b"{}")
    assert place.offset >= 0
    expect(rows(shown, "while-off")).to_have_count(0)
    shown.get_by_role("button", name="Resume").click()
    expect(rows(shown, "while-off")).to_be_visible()
    expect(rows(shown, "while-on")).to_have_count(1)


def test_personal_data_is_hidden_until_it_is_requested(page: Page, settings: Settings, topic: str):
    """Text, hex and a key that is not an id of the pipeline are hidden; then they are shown."""
    place = message_draft.deliver_message(settings, topic, b"somebody", b"Ada Lovelace")
    visit(page, f"/topics/{topic}/messages/{place.partition}/{place.offset}")
    expect(page.get_by_role("heading", name="Bytes")).to_be_visible()
    assert "Ada" not in page.content()
    assert "somebody" not in page.content()
    assert "41 64 61" not in page.content()
    page.get_by_role("button", name="Personal data: hidden").click()
    expect(page.get_by_label("Value", exact=True)).to_have_text("Ada Lovelace")
    expect(page.get_by_label("Bytes")).to_contain_text("41 64 61 20")
    expect(page.locator("dl.facts")).to_contain_text("somebody")


def test_a_valid_message_is_produced_and_opened(page: Page, settings: Settings, shot: Callable[[str], None]):
    """The template satisfies the contract; Kafka acknowledges it, and the link leads to it."""
    name = pipelines.of(settings).topic
    visit(page, f"/topics/{name}/produce")
    typed = json.loads(page.get_by_label("Value").input_value())
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_text("Kafka acknowledged it")).to_be_visible()
    shot("topics-produce")
    page.get_by_role("link", name=f"{name} ").click()
    expect(page.locator("dl.facts")).to_contain_text(typed["id"])
    expect(page.locator("dl.facts")).to_contain_text("schema")


def test_an_invalid_message_is_rejected_then_sent_as_typed_and_dead_lettered(
    page: Page, settings: Settings, address: str
):
    """Every broken rule is named, nothing is sent; sent anyway, the stream rejects it."""
    pipeline = pipelines.of(settings)
    visit(page, f"/topics/{pipeline.topic}/produce")
    typed = json.loads(page.get_by_label("Value").input_value())
    page.get_by_label("Value").fill(json.dumps(typed | {"email": "nobody", "nationality": "x"}))
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("listitem").filter(has_text="email:")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="nationality:")).to_be_visible()
    page.get_by_role("button", name="Send without validation").click()
    expect(page.get_by_text("Kafka acknowledged it")).to_be_visible()
    asked = f"{address}/api/v1/topics/{pipeline.dead_letter_topic}/messages?text={typed['id']}"

    def is_rejected() -> None:
        if not httpx2.get(asked, trust_env=False).json()["messages"]:
            raise KafkaUnreachable("not yet")

    wait_until(is_rejected, timeout_s=60, what="the dead letter")
    visit(page, f"/topics/{pipeline.dead_letter_topic}?text={typed['id']}")
    expect(page.locator("li.message")).to_have_count(1)
    page.locator("li.message summary").click()
    expect(page.locator("li.message")).to_contain_text("contract_broken")
    visit(page, "/rejected")
    page.get_by_role("row").filter(has_text="email:pattern nationality:").get_by_role("link").first.click()
    expect(page.get_by_text(typed["id"]).first).to_be_visible()


def test_a_value_is_checked_against_the_schema_of_its_topic(page: Page, settings: Settings, topic: str):
    """An invalid value is named and not sent; a valid one is sent with its header."""
    address = f"{settings.registry_url}/subjects/{topic}-value"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = {"schema": json.dumps(schema), "schemaType": "JSON"}
    made = httpx2.post(f"{address}/versions", json=body, trust_env=False).raise_for_status().json()
    try:
        visit(page, f"/topics/{topic}/produce")
        page.get_by_label("Value").fill('{"n": "three"}')
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.get_by_role("listitem").filter(has_text="is not of type 'integer'")).to_be_visible()
        page.get_by_label("Value").fill('{"n": 3}')
        page.get_by_role("button", name="Send", exact=True).click()
        page.get_by_role("link", name=f"{topic} ").click()
        expect(page.locator("dl.facts")).to_contain_text(f"JSON, schema {made['id']}")
    finally:
        httpx2.delete(address, trust_env=False).raise_for_status()
        httpx2.delete(address, params={"permanent": "true"}, trust_env=False)


def test_a_topic_is_created_changed_and_deleted_by_its_name(page: Page, unique: str):
    """Created with the settings from the form; deleted only once its name is typed."""
    visit(page, "/topics")
    page.get_by_role("button", name="Create a topic").click()
    page.get_by_label("Name").fill(unique)
    page.get_by_label("Partitions").fill("3")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page).to_have_url(re.compile(f"/topics/{unique}$"))
    expect(page.get_by_text("The topic is empty.")).to_be_visible()
    visit(page, f"/topics/{unique}/settings")
    page.get_by_label("Value").fill("60000")
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(page.get_by_role("row", name="retention.ms").first).to_contain_text("60000")
    page.get_by_role("button", name="Delete topic").click()
    delete = page.get_by_role("dialog").get_by_role("button", name="Delete")
    expect(delete).to_be_disabled()
    page.get_by_label(f"Type {unique} to confirm").fill(unique)
    delete.click()
    expect(page).to_have_url(re.compile("/topics$"))
    expect(page.get_by_role("row", name=unique)).to_have_count(0)


def test_records_are_deleted_up_to_an_offset(page: Page, settings: Settings, topic: str):
    """Once the topic's name is typed, the topic is empty."""
    visit(page, f"/topics/{topic}/settings")
    page.get_by_role("button", name="Delete records").click()
    page.get_by_label(f"Type {topic} to confirm").fill(topic)
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The topic is empty.")).to_be_visible()


def test_an_internal_topic_is_read_only(page: Page):
    """It cannot be produced to or deleted; its settings are shown."""
    visit(page, "/topics/kafkasql-journal/settings")
    expect(page.get_by_text("This topic is internal to a service")).to_be_visible()
    expect(page.get_by_role("button", name="Delete topic")).to_have_count(0)
    visit(page, "/topics/kafkasql-journal/produce")
    expect(page.get_by_role("alert")).to_contain_text("the schema registry")


def test_an_unknown_topic_is_an_error(page: Page):
    """An old link breaks nothing."""
    visit(page, "/topics/nowhere")
    expect(page.get_by_role("alert")).to_contain_text("there is no topic 'nowhere'")
