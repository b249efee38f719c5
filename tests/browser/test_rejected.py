"""Dead letters on the page: found by reason, repaired, redriven, discarded, exported."""

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


class Rejected:
    """A record that the stream rejected."""

    def __init__(self, stack: Stack, entry: dict[str, Any], **changes: Any) -> None:
        self.stack = stack
        self.id = str(uuid.uuid4())
        fields = users.from_source(entry) | {"id": self.id, "email": SECRET} | changes
        client = create_producer(stack.settings)
        client.produce(users.PIPELINE.topic, value=json.dumps(fields).encode(), key=self.id.encode())
        assert client.flush(30) == 0
        self.letter = wait_until(self._letter, timeout_s=60, every_s=0.5, what="the dead letter")

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
def reject(stack: Stack, captured: list[dict[str, Any]]) -> Any:
    """Return a factory of rejected records; those still pending at the end are discarded."""
    made: list[Rejected] = []

    def make(**changes: Any) -> Rejected:
        made.append(Rejected(stack, captured[len(made)], **changes))
        return made[-1]

    yield make
    for item in made:
        item.discard()


def show_personal(page: Page) -> None:
    page.get_by_role("button", name="Personal data: hidden").click()
    expect(page.get_by_role("button", name="Personal data: shown")).to_be_visible()


def test_a_record_is_found_by_its_reason_repaired_and_redriven(
    page: Page, reject: Callable[..., Rejected], stack: Stack, shot: Callable[[str], None]
) -> None:
    """Group, record, rule, edit with validation as typed, redrive: the row is stored, and the record is redriven."""
    dead_letter = reject(phone="")
    page.goto("/rejected")
    page.get_by_role("row").filter(has_text="email:pattern phone:length").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Samples and violated rules")).to_be_visible()
    shot("rejected-group")
    page.get_by_role("link", name=dead_letter.letter.place, exact=True).click()
    rules = page.locator("ul.rules")
    expect(rules).to_contain_text("email:pattern")
    expect(rules).to_contain_text("text of 1 to 50 characters")
    assert SECRET not in page.content()
    page.get_by_role("button", name="Show personal data and edit").click()
    editor = page.get_by_label("Record as JSON")
    expect(editor).to_have_value(re.compile(SECRET))
    expect(page.get_by_text("Still invalid")).to_be_visible()
    fields = json.loads(editor.input_value())
    editor.fill(json.dumps(fields | {"email": "mended@example.org"}))
    expect(page.get_by_text("Still invalid")).to_be_visible()
    editor.fill(json.dumps(fields | {"email": "mended@example.org", "phone": "1"}))
    expect(page.get_by_text("Valid: it can be redriven")).to_be_visible()
    shot("rejected-record")
    page.get_by_role("button", name="Redrive the edited record").click()
    page.get_by_role("dialog").get_by_role("button", name="Redrive").click()
    expect(page.locator("dl.facts").first).to_contain_text("redriven")

    def stored() -> Any:
        row = stack.cli("row", dead_letter.id, "--json")
        if row.returncode:
            raise KafkaUnreachable(row.stderr)
        return json.loads(row.stdout)

    assert wait_until(stored, timeout_s=60, what="the row")["email"] == "mended@example.org"


def test_a_field_is_set_for_all_records_of_a_group(page: Page, reject: Callable[..., Rejected]) -> None:
    """A dry run shows how many would be sent; then they are, and none of the group is pending."""
    first, other = reject(email="e@example.org", nationality="zz"), reject(email="e@example.org", nationality="xx")
    page.goto("/rejected?reason=contract_broken&rules=nationality:pattern&state=waiting")
    page.get_by_label("Field").click()
    page.get_by_role("option", name="nationality").click()
    page.get_by_label("New value").fill("wrong")
    page.get_by_role("button", name="Dry run", exact=True).click()
    outcome = page.locator(".outcome")
    expect(outcome.get_by_role("alert")).to_contain_text("^[A-Z]{2}$")
    page.get_by_label("New value").fill("SE")
    page.get_by_role("button", name="Dry run", exact=True).click()
    expect(outcome).to_contain_text("would be sent2")
    page.get_by_role("button", name="Repair and redrive").click()
    page.get_by_role("dialog").get_by_role("button", name="Redrive").click()
    expect(outcome).to_contain_text("Result")
    expect(page.get_by_text("No matching dead letters")).to_be_visible()
    for each in (first, other):
        page.goto(each.path)
        expect(page.locator("dl.facts").first).to_contain_text("redriven")


def test_a_record_is_discarded_with_a_reason(page: Page, reject: Callable[..., Rejected]) -> None:
    """Its position has to be typed; then it shows by whom and why, and cannot be redriven."""
    dead_letter = reject()
    page.goto(dead_letter.path)
    page.get_by_label("Reason (stored with user and time)").fill("a test")
    page.get_by_role("button", name="Discard").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Discard")).to_be_disabled()
    dialog.get_by_label(f"Type {dead_letter.letter.place} to confirm").fill(dead_letter.letter.place)
    dialog.get_by_role("button", name="Discard").click()
    expect(page.locator("dl.facts").first).to_contain_text("a test")
    page.goto(dead_letter.path)
    expect(page.locator("dl.facts").first).to_contain_text("discarded")
    expect(page.get_by_role("button", name="Redrive")).to_have_count(0)


def test_an_export_needs_personal_data_to_be_shown(page: Page, reject: Callable[..., Rejected], tmp_path: Path) -> None:
    """Hidden: the button is disabled and the page has no personal data. Shown: the file is that of the command."""
    dead_letter = reject()
    page.goto("/rejected?rule=email:pattern")
    expect(page.get_by_role("button", name="Export")).to_be_disabled()
    assert SECRET not in page.content()
    show_personal(page)
    expect(page.get_by_role("link", name=dead_letter.letter.place, exact=True).first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "rejected.jsonl"
    download.value.save_as(file)
    (line,) = [
        item for item in map(json.loads, file.read_text().splitlines()) if item["place"] == dead_letter.letter.place
    ]
    assert (line["value"]["email"], line["reason"]) == (SECRET, "contract_broken")


def test_a_position_without_a_record_is_an_error(page: Page) -> None:
    """A link to a deleted record does not break the page."""
    page.goto("/rejected/0/999999")
    expect(page.get_by_role("alert")).to_contain_text("no dead letter at 0:999999")
