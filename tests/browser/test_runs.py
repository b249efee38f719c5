"""The Runs page: a run is triggered, followed and its log is read."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page, expect

from penstock.airflow.api_client import Airflow
from penstock.pipelines import started
from tests.conftest import Stack


@pytest.fixture
def unpaused(stack: Stack) -> Iterator[None]:
    """The DAG is not paused, before and after."""
    with Airflow(stack.settings) as airflow:
        airflow.unpause_dag()
        yield
        airflow.unpause_dag()


@pytest.mark.usefixtures("unpaused")
def test_a_run_is_triggered_followed_and_its_log_read(page: Page, shot: Callable[[str], None]) -> None:
    """From the form to the rows: its own page counts its records, shows its log and creates its receipt."""
    page.goto("/runs")
    page.get_by_label("Records", exact=True).fill("50")
    page.get_by_role("button", name="Trigger").click()
    page.wait_for_url("**/runs/manual__*")
    expect(page.locator("#way-asked strong")).to_have_text("50")
    expect(page.locator("#way-produced strong")).to_have_text("50", timeout=120_000)
    expect(page.locator("#way-handled strong")).to_have_text("50", timeout=120_000)
    expect(page.get_by_role("log")).to_contain_text("run_finished", timeout=30_000)
    page.get_by_label("Search").fill("response_fetched")
    expect(page.get_by_role("log")).not_to_contain_text("run_finished")
    expect(page.get_by_role("log")).to_contain_text("fetched=50")
    page.get_by_role("button", name="Create receipt").click()
    expect(page.get_by_text("nothing is missing")).to_be_visible(timeout=60_000)
    shot("run")
    page.reload()
    expect(page.get_by_label("Search")).to_have_value("response_fetched")
    run_id = unquote(page.url.partition("/runs/")[2].partition("?")[0])
    page.get_by_role("link", name="All runs").click()
    row = page.get_by_role("row").filter(has_text=run_id)
    expect(row).to_contain_text("success", timeout=30_000)
    expect(row).to_contain_text("records=50")
    shot("runs")


def test_an_invalid_run_form_is_rejected(page: Page, stack: Stack) -> None:
    """It says why, and triggers no run."""
    with Airflow(stack.settings) as airflow:
        before = len(airflow.list_runs(100))
    page.goto("/runs?records=5")
    for value, why in (("-1", "more than 0"), ("2.5", "whole number"), ("2000000", "at most 1,000,000")):
        page.get_by_label("Records", exact=True).fill(value)
        page.get_by_role("button", name="Trigger").click()
        expect(page.get_by_role("alert").filter(has_text=why)).to_be_visible()
    page.get_by_label("Records", exact=True).fill("20000")
    page.get_by_role("button", name="Trigger").click()
    expect(page.get_by_label("Type 20000 to confirm")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    with Airflow(stack.settings) as airflow:
        assert len(airflow.list_runs(100)) == before


def test_a_run_of_another_pipeline_is_rejected(page: Page, stack: Stack) -> None:
    """The form names what differs and what to restart, and triggers no run."""
    note = started.path_of(stack.settings, "spark-job")
    noted = note.read_text()
    with Airflow(stack.settings) as airflow:
        before = len(airflow.list_runs(100))
        try:
            note.write_text(noted.replace("users_created", "orders"))
            page.goto("/runs")
            page.get_by_role("button", name="Trigger").click()
            alert = page.get_by_role("alert").filter(has_text="spark-job was started with topic 'orders'")
            expect(alert).to_contain_text("./penstock restart spark-job control-center")
        finally:
            note.write_text(noted)
        assert len(airflow.list_runs(100)) == before


@pytest.mark.usefixtures("unpaused")
def test_the_dag_is_paused_and_unpaused(page: Page, stack: Stack) -> None:
    """Both need confirmation; a run triggered while paused says that it would stay queued."""
    page.goto("/runs")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Unpause", exact=True)).to_be_enabled(timeout=30_000)
    page.get_by_role("button", name="Trigger").click()
    expect(page.get_by_role("dialog")).to_contain_text("The run would stay queued", timeout=30_000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Unpause", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Unpause").click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_enabled(timeout=30_000)
    with Airflow(stack.settings) as airflow:
        assert airflow.describe_dag()["is_paused"] is False


def test_an_unknown_run_is_an_error(page: Page) -> None:
    """The page says so, and keeps its navigation."""
    page.goto("/runs/manual__nothing")
    expect(page.get_by_role("alert")).to_contain_text("no run manual__nothing")
    expect(page.get_by_role("link", name=re.compile("Runs"))).to_be_visible()
