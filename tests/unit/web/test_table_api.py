"""What the API shows of rows, and what it hides."""

from types import SimpleNamespace
from urllib.parse import quote
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from penstock.config import read
from penstock.errors import NotFound, PenstockError
from penstock.pipelines.users import PIPELINE
from penstock.web.api import handle_error
from penstock.web.schemas import api as schemas
from penstock.web.table import api as table
from penstock.web.table.api import RecordPassages, mask_page
from penstock.web.table.table_reader import Page, TableRow

COLUMNS = {"id": UUID(int=1), "first_name": "Ada", "gender": "female", "kafka_offset": 3, "odd": "secret"}


class FakeTable:
    """A table with one row; `penstock.web.table.table_reader.Table`."""

    def __init__(self, *_: object) -> None:
        self.name = "k.t"

    def read_page(self, after, rows):
        return Page(list(COLUMNS), [COLUMNS], [str(COLUMNS["id"])], "12", 0.5)

    def read_row(self, text):
        if text != str(COLUMNS["id"]):
            raise NotFound("no such row", hint="./penstock trace")
        return TableRow(text, COLUMNS, 5)


@pytest.fixture
def noted():
    return []


@pytest.fixture
def client(monkeypatch, noted):
    monkeypatch.setattr(table, "TableReader", FakeTable)
    api = FastAPI(exception_handlers={PenstockError: handle_error})
    audit_log = SimpleNamespace(record=lambda *what: noted.append(what))
    context = SimpleNamespace(settings=read(), pipeline=PIPELINE, cassandra=lambda: None, audit_log=audit_log)
    api.state.context = context
    schemas.register(api, context)
    table.register(api, context)
    return TestClient(api)


def test_personal_data_are_hidden(client, noted):
    """In pages and in single rows; also what the contract does not know."""
    shown = {**COLUMNS, "id": str(COLUMNS["id"]), "first_name": "•••", "odd": "•••"}
    page = {"columns": list(COLUMNS), "rows": [shown], "ids": [shown["id"]], "next": "12", "passed": 0.5}
    assert client.get("/table/rows").json() == page
    assert client.get(f"/table/rows/{COLUMNS['id']}").json()["columns"] == shown
    assert noted == []


def test_personal_data_are_shown_on_request(client, noted):
    """The audit log records it."""
    assert client.get("/table/rows?personal=true").json()["rows"][0]["first_name"] == "Ada"
    assert client.get(f"/table/rows/{COLUMNS['id']}?personal=true").json()["columns"]["first_name"] == "Ada"
    assert [what[1:] for what in noted] == [
        ("personal_data", "/table/rows", "shown"),
        ("personal_data", f"/table/rows/{COLUMNS['id']}", "shown"),
    ]


@pytest.mark.parametrize("path", ["/table/rows/", "/trace/"])
def test_an_id_may_have_any_character(client, monkeypatch, path):
    """Slashes too, in a path in which they are quoted."""
    asked = []
    monkeypatch.setattr(FakeTable, "read_row", lambda _self, text: asked.append(text) or TableRow(text, COLUMNS, 5))
    monkeypatch.setattr(table, "trace_row", lambda _context, text: asked.append(text) or RecordPassages(text, [], True))
    text = '{"sensor":"a/b?#+ %","at":"2026-01-31T12:00:00.000Z"}'
    assert client.get(path + quote(text, safe="")).status_code == 200
    assert asked == [text]


def test_an_id_without_a_row_is_not_found(client):
    """404, with what to type."""
    answer = client.get(f"/table/rows/{UUID(int=2)}")
    assert (answer.status_code, answer.json()) == (404, {"error": "no such row", "hint": "./penstock trace"})


@pytest.mark.parametrize("size", ["0", "501", "x"])
def test_a_page_has_a_limited_size(client, size):
    """From 1 to 500."""
    assert client.get(f"/table/rows?size={size}").status_code == 422


def test_a_page_is_masked_only_if_requested():
    """It is the same page otherwise."""
    page = Page(list(COLUMNS), [COLUMNS], [str(COLUMNS["id"])], None, 1.0)
    context = SimpleNamespace(pipeline=PIPELINE)
    assert mask_page(page, context, masks=False) is page
    assert mask_page(page, context, masks=True).rows[0]["first_name"] == "•••"
    assert page.rows[0]["first_name"] == "Ada"


def test_the_documentation_has_a_model_of_each_response(client):
    """Each route has a description and a model."""
    document = client.get("/openapi.json").json()
    assert "/trace/{record_id}" in document["paths"]
    for path, asked in document["paths"].items():
        assert asked.keys() == {"get"}, path
        assert asked["get"]["description"], path
        assert "$ref" in asked["get"]["responses"]["200"]["content"]["application/json"]["schema"], path


def test_at_most_two_searches_run_at_once(client, monkeypatch):
    """Each reads the whole topic: a third is rejected until one has finished."""
    asked = []

    class Counting:
        def __init__(self, *_):
            asked.append(len(asked))
            self.is_whole, self.read, self.held = True, 0, 0

        def carry_out(self):
            return []

    monkeypatch.setattr(table.trace, "TraceSearch", Counting)
    url = f"/trace/{UUID(int=1)}?whole=true"
    with table._SEARCHES, table._SEARCHES:
        assert client.get(url).status_code == 503
    assert client.get(url).status_code == 200
    assert asked == [0]
