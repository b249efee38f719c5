"""The API's responses about topics: what is hidden, what is not found, which requests are invalid."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from penstock.config import read
from penstock.errors import KafkaUnreachable, NotFound
from penstock.web import api
from penstock.web.topics import api as topics
from penstock.web.topics.browse import MessagePage, MessageQuery
from penstock.web.topics.content import MessageRenderer, ShownMessage
from tests.unit.fakes import FakeSchemas, message
from tests.unit.web import contexts


class FakeBrowser:
    """A browser of a topic with one message at 0:0; it records its requests."""

    asked: ClassVar[list[MessageQuery]] = []

    def __init__(self, _client: Any, _settings: Any, topic: str) -> None:
        if topic == "away":
            raise KafkaUnreachable("no answer", hint="./penstock status")
        if topic != "t":
            raise NotFound(f"there is no topic {topic!r}")

    def search(self, question: MessageQuery, renderer: MessageRenderer) -> MessagePage:
        self.asked.append(question)
        return MessagePage([renderer.render(message(0, b"Ada"))], 1, 2, "")

    def read_message(self, partition: int, offset: int, renderer: MessageRenderer) -> ShownMessage | None:
        return renderer.render(message(0, b"Ada")) if (partition, offset) == (0, 0) else None


@pytest.fixture(scope="module")
def shared_client() -> Iterator[Any]:
    """The API on that topic."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topics, "Browser", FakeBrowser)
        context = contexts.context(read(home="unused"), contexts.state())
        context.registry, context.noted = FakeSchemas(), []
        context.audit_log = SimpleNamespace(record=lambda *entry: context.noted.append(entry))
        app = FastAPI()
        api.register(app, context)
        client: Any = TestClient(app)
        client.noted = context.noted
        yield client


@pytest.fixture
def client(shared_client: Any) -> Any:
    """The API on that topic; its context's audit_log keeps the actions."""
    shared_client.noted.clear()
    return shared_client


@pytest.mark.parametrize("path", ["messages/0/0", "messages"])
def test_personal_data_are_hidden_unless_requested(client: Any, path: str) -> None:
    """A request for them is recorded."""
    address = f"/api/v1/topics/t/{path}"
    assert "Ada" not in client.get(address).text
    assert client.noted == []
    assert "Ada" in client.get(f"{address}?personal=true").text
    assert client.noted[0][1:] == ("personal_data", address, "shown")


@pytest.mark.parametrize("path", ["nix/messages", "t/messages/0/1", "t/messages/7/0"])
def test_missing_topics_and_messages_are_not_found(client: Any, path: str) -> None:
    """404, and which it is."""
    answer = client.get(f"/api/v1/topics/{path}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error", "hint"}


def test_an_unavailable_kafka_is_an_error(client: Any) -> None:
    """503, with what to type."""
    answer = client.get("/api/v1/topics/away/messages")
    assert (answer.status_code, answer.json()["hint"]) == (503, "./penstock status")


def test_a_query_is_passed_on(client: Any) -> None:
    """As in the page's URL; a time without a zone is rejected."""
    query = "from=time&time=2026-01-01T00:00:00Z&partition=1&key=k&text=x&field=a.b&value=3&most=7&go_on=0:1"
    assert client.get(f"/api/v1/topics/t/messages?{query}").status_code == 200
    asked = FakeBrowser.asked[-1]
    assert (asked.start, asked.partition, asked.key, asked.text) == ("time", 1, "k", "x")
    assert (asked.field, asked.value, asked.most, asked.go_on) == ("a.b", "3", 7, "0:1")
    assert client.get("/api/v1/topics/t/messages?from=time&time=2026-01-01T00:00:00").status_code == 400
