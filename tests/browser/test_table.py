"""The pages of the table."""

import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from penstock.sink import cassandra
from tests.conftest import Stack


@pytest.fixture(scope="module")
def record_id(stack: Stack) -> str:
    """Return the id of one of at least 60 rows."""
    stack.json("run", "--records", "60")
    with cassandra.open_session(stack.settings) as session:
        return str(session.execute("SELECT id FROM spark_streams.created_users LIMIT 1").one()["id"])


def ids(page: Page) -> set[str]:
    """Return the ids of the rows on the page."""
    expect(page.locator(".table.rows")).to_be_visible()
    return set(page.locator(".table.rows tbody td:first-child").all_inner_texts())


def test_a_record_is_found_by_its_id_and_traced(page: Page, record_id: str, shot: Callable[[str], None]) -> None:
    """Fetched, produced, recorded, stored, in this order, each with its time; the whole topic has no other."""
    page.goto("/table")
    page.get_by_label("Record id").fill(record_id)
    page.get_by_label("Record id").press("Enter")
    stages = page.locator("ol.trace li")
    expect(stages.locator("strong")).to_have_text(["fetched", "produced", "recorded", "stored"])
    times = stages.locator("local-time").evaluate_all("all => all.map(time => time.getAttribute('datetime'))")
    assert len(times) == 4
    assert times == sorted(times)
    page.get_by_role("button", name="Search the whole topic").click()
    expect(page.get_by_text("records read.")).to_be_visible()
    expect(page.locator("ol.trace")).to_have_count(2)
    shot("table-row")


def test_each_page_of_rows_has_its_own_rows(page: Page, record_id: str, shot: Callable[[str], None]) -> None:
    """Each URL shows its own rows, and the browser's back button works."""
    page.goto("/table?size=20")
    first = ids(page)
    assert len(first) == 20
    assert record_id in first
    page.get_by_role("link", name="Next page").first.click()
    page.wait_for_url("**page=**")
    second = ids(page)
    assert len(second) == 20
    assert not first & second
    shot("table-rows")
    page.go_back()
    expect(page.get_by_role("link", name=record_id)).to_be_visible()


def test_personal_data_in_rows_is_hidden_until_shown(page: Page, record_id: str) -> None:
    """What is not personal is visible."""
    page.goto(f"/table/rows/{record_id}")
    facts = page.locator("dl.facts")
    expect(facts).to_contain_text("male")
    expect(facts.get_by_label("hidden").first).to_be_visible()
    page.get_by_role("button", name="Personal data: hidden").click()
    expect(facts).to_contain_text("@example.com")


def test_an_id_without_a_row_and_an_invalid_id(page: Page, record_id: str) -> None:
    """The page says what the reason may be; the search has no result."""
    other = uuid.uuid4()
    page.goto(f"/table/rows/{other}")
    expect(page.get_by_text(f"has no row with the id {other}")).to_be_visible()
    page.get_by_role("button", name="Search the whole topic").click()
    expect(page.get_by_text("No record with this id in the topic or among the dead letters.")).to_be_visible()
    page.goto("/table/rows/nobody")
    expect(page.get_by_role("alert")).to_contain_text("invalid id 'nobody'")
    page.goto("/table?page=nothing")
    expect(page.get_by_role("alert")).to_contain_text("invalid page")


def test_node_facts_and_the_definition_are_shown(page: Page, record_id: str) -> None:
    """Writes, compactions, SSTables, disk; the CREATE TABLE statement."""
    page.goto("/table")
    for fact in ("row writes since node start", "pending compactions", "SSTables", "table size on disk"):
        expect(page.locator(".big").get_by_text(fact)).to_be_visible()
    page.get_by_text("CREATE TABLE statement").click()
    expect(page.get_by_label("Definition in CQL")).to_contain_text("CREATE TABLE spark_streams.created_users")
