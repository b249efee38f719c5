"""Rejected records on the page: found under their reason, mended, sent again, given up, exported."""

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from penstock import pipelines
from penstock.broker.kafka import create_producer
from penstock.dead_letters.message import DeadLetter
from penstock.dead_letters.topic import read_dead_letters
from penstock.errors import KafkaUnreachable
from penstock.pipelines import users
from penstock.retry import wait_until
from tests.conftest import Stack

expect.set_options(timeout=20_000)

SECRET = "nobody knows this"


class Aside:
    """A record that the stream set aside."""

    def __init__(self, stack: Stack, entry: dict[str, Any], **changes: Any) -> None:
        self.stack = stack
        self.id = str(uuid.uuid4())
        fields = users.from_source(entry) | {"id": self.id, "email": SECRET} | changes
        client = create_producer(stack.settings)
        client.produce(users.PIPELINE.topic, value=json.dumps(fields).encode(), key=self.id.encode())
        assert client.flush(30) == 0
        self.letter = wait_until(self._letter, timeout_s=60, every_s=0.5, what="the record to be set aside")

    def _letter(self) -> DeadLetter:
        for letter in read_dead_letters(self.stack.settings, pipelines.of(self.stack.settings)):
            if letter.key == self.id.encode():
                return letter
        raise KafkaUnreachable("not yet")

    @property
    def path(self) -> str:
        return f"/rejected/{self.letter.partition}/{self.letter.offset}"

    def discard(self) -> None:
        self.stack.cli("dlq", "discard", "--place", self.letter.place, "--yes")


@pytest.fixture
def aside(stack: Stack, captured: list[dict[str, Any]]) -> Any:
    """Makes records that were set aside; those that still wait at the end are given up."""
    made: list[Aside] = []

    def make(**changes: Any) -> Aside:
        made.append(Aside(stack, captured[len(made)], **changes))
        return made[-1]

    yield make
    for one in made:
        one.discard()


def show_personal(page: Page) -> None:
    page.get_by_role("button", name="Personal data: hidden").click()
    expect(page.get_by_role("button", name="Personal data: shown")).to_be_visible()


def test_a_record_is_found_under_its_reason_mended_and_sent_again(
    page: Page, aside: Callable[..., Aside], stack: Stack, shot: Callable[[str], None]
) -> None:
    """Group, record, rule, edit with the rules checked as typed, send: the row is there, and the record is redriven."""
    one = aside(phone="")
    page.goto("/rejected")
    page.get_by_role("row").filter(has_text="email:pattern phone:length").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Samples, beside the rules that they break")).to_be_visible()
    shot("rejected-group")
    page.get_by_role("link", name=one.letter.place, exact=True).click()
    rules = page.locator("ul.rules")
    expect(rules).to_contain_text("email:pattern")
    expect(rules).to_contain_text("text of 1 to 50 characters")
    assert SECRET not in page.content()
    page.get_by_role("button", name="Show personal data and edit").click()
    editor = page.get_by_label("Record as JSON")
    expect(editor).to_have_value(re.compile(SECRET))
    expect(page.get_by_text("Still broken")).to_be_visible()
    fields = json.loads(editor.input_value())
    editor.fill(json.dumps(fields | {"email": "mended@example.org"}))
    expect(page.get_by_text("Still broken")).to_be_visible()
    editor.fill(json.dumps(fields | {"email": "mended@example.org", "phone": "1"}))
    expect(page.get_by_text("No rule is broken")).to_be_visible()
    shot("rejected-record")
    page.get_by_role("button", name="Send the edited record").click()
    page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(page.locator("dl.facts").first).to_contain_text("redriven")

    def stored() -> Any:
        row = stack.cli("row", one.id, "--json")
        if row.returncode:
            raise KafkaUnreachable(row.stderr)
        return json.loads(row.stdout)

    assert wait_until(stored, timeout_s=60, what="the row")["email"] == "mended@example.org"


def test_a_field_is_set_for_all_records_of_a_group(page: Page, aside: Callable[..., Aside]) -> None:
    """A trial tells how many would be sent; then they are, and none waits in the group."""
    one, other = aside(email="e@example.org", nationality="zz"), aside(email="e@example.org", nationality="xx")
    page.goto("/rejected?reason=contract_broken&rules=nationality:pattern&state=waiting")
    page.get_by_label("Field").click()
    page.get_by_role("option", name="nationality").click()
    page.get_by_label("New value").fill("wrong")
    page.get_by_role("button", name="Try", exact=True).click()
    outcome = page.locator(".outcome")
    expect(outcome.get_by_role("alert")).to_contain_text("^[A-Z]{2}$")
    page.get_by_label("New value").fill("SE")
    page.get_by_role("button", name="Try", exact=True).click()
    expect(outcome).to_contain_text("would be sent2")
    page.get_by_role("button", name="Mend and send").click()
    page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(outcome).to_contain_text("What happened")
    expect(page.get_by_text("No rejected record fits")).to_be_visible()
    for each in (one, other):
        page.goto(each.path)
        expect(page.locator("dl.facts").first).to_contain_text("redriven")


def test_a_record_is_given_up_with_a_note(page: Page, aside: Callable[..., Aside]) -> None:
    """Its place has to be typed; then it says who gave it up and why, and cannot be sent."""
    one = aside()
    page.goto(one.path)
    page.get_by_label("Why (kept with who and when)").fill("a test")
    page.get_by_role("button", name="Discard").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Discard")).to_be_disabled()
    dialog.get_by_label(f"Type {one.letter.place} to confirm").fill(one.letter.place)
    dialog.get_by_role("button", name="Discard").click()
    expect(page.locator("dl.facts").first).to_contain_text("a test")
    page.goto(one.path)
    expect(page.locator("dl.facts").first).to_contain_text("discarded")
    expect(page.get_by_role("button", name="Redrive")).to_have_count(0)


def test_an_export_needs_personal_data_to_be_shown(page: Page, aside: Callable[..., Aside], tmp_path: Path) -> None:
    """Hidden: the button is off and nothing personal is in the page. Shown: the file is as the command writes it."""
    one = aside()
    page.goto("/rejected?rule=email:pattern")
    expect(page.get_by_role("button", name="Export")).to_be_disabled()
    assert SECRET not in page.content()
    show_personal(page)
    expect(page.get_by_role("link", name=one.letter.place, exact=True).first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "rejected.jsonl"
    download.value.save_as(file)
    (line,) = [found for found in map(json.loads, file.read_text().splitlines()) if found["place"] == one.letter.place]
    assert (line["value"]["email"], line["reason"]) == (SECRET, "contract_broken")


def test_a_place_without_a_record_says_where_some_are(page: Page) -> None:
    """A link to a record that is gone does not break the page."""
    page.goto("/rejected/0/999999")
    expect(page.get_by_role("alert")).to_contain_text("no dead letter at 0:999999")
