"""The pages of the schema registry."""

import json
from collections.abc import Callable, Iterator

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Stack

FIRST = {"type": "object", "title": "T", "properties": {"a": {"type": "string"}}, "required": ["a"]}
SECOND = {"type": "object", "title": "T", "properties": {"a": {"type": "string"}}}


@pytest.fixture
def subject(stack: Stack, unique: str) -> Iterator[str]:
    """A subject with two versions, deleted at the end."""
    name = f"{unique}-value"
    address = f"{stack.settings.registry_url}/subjects/{name}"
    for schema in (FIRST, SECOND):
        body = {"schema": json.dumps(schema), "schemaType": "JSON"}
        httpx2.post(f"{address}/versions", json=body).raise_for_status()
    yield name
    httpx2.delete(address).raise_for_status()
    httpx2.delete(address, params={"permanent": "true"})


def test_a_subject_shows_the_differences_between_versions(
    page: Page, subject: str, shot: Callable[[str], None]
) -> None:
    """From the list to the diff, line by line, and its effect; the URL contains the versions."""
    page.goto(f"/schemas?find={subject}")
    page.get_by_role("link", name=subject).click()
    diff = page.locator(".table.diff")
    expect(diff.locator("tr.removed").filter(has_text='"required"')).to_have_count(1)
    expect(page.locator(".table.changes")).to_contain_text("`a` was required and is now optional")
    expect(page.get_by_text("does not exist or is empty")).to_be_visible()
    shot("schemas-diff")
    page.goto(f"/schemas/{subject}?from=2&to=1")
    expect(page.locator(".table.diff tr.added").filter(has_text='"required"')).to_have_count(1)
    page.goto(f"/schemas/{subject}?from=2&to=2")
    expect(page.get_by_text("Versions 2 and 2 have the same text.")).to_be_visible()
    page.goto(f"/schemas/{subject}?from=1&to=9")
    expect(page.get_by_role("alert")).to_contain_text("has no version '9' (available: 1, 2)")


def test_a_draft_is_checked_and_not_registered(page: Page, subject: str, stack: Stack) -> None:
    """Invalid JSON is an error; a schema that older records violate is rejected."""
    page.goto(f"/schemas/{subject}")
    field, result = page.get_by_label("Schema", exact=True), page.locator(".draft-result")
    field.fill('{"type": "object"')
    page.get_by_role("button", name="Check").click()
    expect(result.get_by_role("alert")).to_contain_text("the schema is not JSON")
    field.fill(json.dumps(FIRST | {"properties": {"a": {"type": "integer"}}}))
    page.get_by_role("button", name="Check").click()
    expect(result).to_contain_text("The registry would reject it (version 2, level BACKWARD)")
    expect(result).to_contain_text("type_changed")
    field.fill(json.dumps(SECOND | {"title": "Another"}))
    page.get_by_role("button", name="Check").click()
    expect(result).to_contain_text("The registry would accept it")
    assert httpx2.get(f"{stack.settings.registry_url}/subjects/{subject}/versions").json() == [1, 2]


def test_the_use_of_a_version_is_shown(page: Page, stack: Stack, shot: Callable[[str], None]) -> None:
    """The schema of the pipeline's records, with the messages that have it."""
    stack.json("run", "--records", "20")
    page.goto("/schemas")
    page.get_by_role("link", name="users_created-value").click()
    use = page.get_by_role("region", name="Schemas of the values in users_created")
    expect(use.get_by_text("version 1").first).to_be_visible()
    expect(use.locator('a[href^="/topics/users_created/messages/"]').first).to_be_visible()
    shot("schemas-in-use")


def test_an_unknown_subject_is_an_error(page: Page) -> None:
    """The page says so, and so does the list."""
    page.goto("/schemas/nobody-value")
    expect(page.get_by_role("alert")).to_contain_text("nobody-value")
    page.goto("/schemas?find=nobody")
    expect(page.get_by_text("No subjects match 'nobody'.")).to_be_visible()
