"""The registry's subjects, from a registry in memory."""

import json

import httpx2
import pytest

from penstock import config
from penstock.contract.evolution import ChangeKind
from penstock.errors import NotFound, PenstockError, RegistryUnreachable, UsageError
from penstock.web.schemas.subjects import Catalogue, compare_schema_texts

FIRST = {"type": "object", "properties": {"a": {"type": "string"}}}
SECOND = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}


class Server:
    """A registry with one subject of two versions; drafts that contain `good` are compatible."""

    def __init__(self) -> None:
        self.answer: httpx2.Response | Exception | None = None
        self.asked: list[httpx2.Request] = []
        self.names = ["t-value", "Another"]

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or self._found(request)

    def _found(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path.startswith("/compatibility"):
            good = "good" in json.loads(request.content)["schema"]
            return httpx2.Response(200, json={"is_compatible": good, "messages": [] if good else ["too narrow"]})
        result = {
            "/subjects": self.names,
            "/subjects/t-value/versions": [2, 1],
            "/subjects/t-value/versions/1": version(1, 11, FIRST),
            "/subjects/t-value/versions/2": version(2, 12, SECOND),
            "/subjects/t-value/versions/latest": version(2, 12, SECOND),
            "/subjects/Another/versions": [1],
            "/subjects/Another/versions/latest": {"version": 1, "id": 5, "schema": '"string"'},
            "/subjects/users_created-value/versions": [1],
            "/subjects/users_created-value/versions/latest": version(1, 11, FIRST),
            "/config": {"compatibilityLevel": "BACKWARD"},
            "/config/users_created-value": {"compatibilityLevel": "BACKWARD"},
            "/config/t-value": {"compatibilityLevel": "FULL"},
            "/config/Another": {"compatibilityLevel": "BACKWARD"},
            "/schemas/ids/11/versions": [{"subject": "t-value", "version": 1}],
        }
        if path in result:
            return httpx2.Response(200, json=result[path])
        return httpx2.Response(404, json={"error_code": 40401, "message": f"{path} not found"})


def version(number, schema_id, schema):
    return {"version": number, "id": schema_id, "schemaType": "JSON", "schema": json.dumps(schema)}


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def held(server):
    settings = config.read(registry_url="http://registry")
    return Catalogue(settings, httpx2.Client(transport=httpx2.MockTransport(server)))


def test_subjects_are_listed_with_versions_and_levels(held):
    """In the order of their names; one without a type is Avro."""
    subjects = held.list_subjects()
    assert [
        (subject.name, subject.type, subject.versions, subject.latest_id, subject.compatibility)
        for subject in subjects.subjects
    ] == [
        ("Another", "AVRO", [1], 5, "BACKWARD"),
        ("t-value", "JSON", [1, 2], 12, "FULL"),
    ]
    assert (subjects.found, subjects.compatibility) == (2, "BACKWARD")


def test_the_pipelines_own_subject_is_first(server, held):
    """However many others precede it in the alphabet."""
    server.names += ["users_created-value"]
    assert [subject.name for subject in held.list_subjects(most=2).subjects] == ["users_created-value", "Another"]


def test_subjects_are_found_by_a_part_of_their_names(held):
    """In any case; only a limited number is requested one by one."""
    assert [subject.name for subject in held.list_subjects("ANO").subjects] == ["Another"]
    some = held.list_subjects(most=1)
    assert (len(some.subjects), some.found) == (1, 2)


def test_the_text_of_a_version_is_indented(held):
    """It can be compared line by line."""
    assert held.read_version("t-value", 1).text == json.dumps(FIRST, indent=2)


def test_the_level_defaults_to_the_registrys_own(held, server):
    """Apicurio says NONE otherwise."""
    held.read_subject("t-value")
    assert server.asked[-1].url.params["defaultToGlobal"] == "true"


def test_a_schema_has_a_name_by_its_id(held):
    """An id that the registry does not have has no name."""
    assert held.find_names(11) == ["t-value version 1"]
    assert held.find_names(99) == []


@pytest.mark.parametrize("draft", ['{"type": "object", "title": "good"}', '{"type": "object"}'])
def test_a_draft_is_checked_and_not_registered(held, server, draft):
    """The result has the registry's messages, and what would change by the contract."""
    result = held.check_draft("t-value", draft)
    good = "good" in draft
    assert (result.against, result.is_compatible, result.messages) == (2, good, [] if good else ["too narrow"])
    assert result.changes is not None
    assert {change.field for change in result.changes if change.kind == ChangeKind.REMOVED_OPTIONAL} == {"a", "b"}
    posts = [request for request in server.asked if request.method == "POST"]
    assert [(post.url.path, post.url.params["verbose"]) for post in posts] == [
        ("/compatibility/subjects/t-value/versions/latest", "true")
    ]


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        ("", "no schema to check"),
        ("{\n  nope", "not JSON: .*line 2"),
        ("[1]", "not a JSON schema"),
        ("7", "not a JSON schema"),
        ("[" * 100_000, "nested|not JSON"),
        (" " * 1_000_001, "1,000,001 characters"),
    ],
)
def test_an_unreadable_draft_is_a_usage_error(held, server, draft, words):
    """It says where; the registry is not asked."""
    with pytest.raises(UsageError, match=words):
        held.check_draft("t-value", draft)
    assert not [request for request in server.asked if request.method == "POST"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (409, UsageError), (422, UsageError), (401, RegistryUnreachable), (500, RegistryUnreachable)],
)
def test_rejections_of_the_registry_are_distinguished(held, server, status, kind):
    """Each has its own error, with the registry's message."""
    server.answer = httpx2.Response(status, json={"error_code": 1, "message": "its words"})
    with pytest.raises(kind, match="its words"):
        held.list_subjects()


def test_a_registry_that_fails_on_a_draft_is_not_unavailable(held, server, monkeypatch):
    """Apicurio does, for a type that JSON Schema does not have."""
    latest = held.read_version("t-value", 2)
    monkeypatch.setattr(held, "read_version", lambda *_: latest)
    server.answer = httpx2.Response(500, json={"error_code": 500, "message": "unknown type"})
    with pytest.raises(PenstockError, match="failed on this schema: unknown type") as caught:
        held.check_draft("t-value", "{}")
    assert not isinstance(caught.value, RegistryUnreachable)


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.ConnectError("refused"),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, json={"no": "list"}),
        httpx2.Response(502, text="bad gateway"),
        httpx2.Response(404, json=[]),
    ],
)
def test_with_any_other_response_the_registry_is_unavailable(held, server, answer):
    """Only the registry's own errors count."""
    server.answer = answer
    with pytest.raises(RegistryUnreachable):
        held.read_subject("t-value")


def test_a_name_is_escaped_in_the_path(held, server):
    """Whatever it contains."""
    with pytest.raises(NotFound):
        held.read_subject("../config")
    assert server.asked[0].url.raw_path == b"/subjects/..%2Fconfig/versions"


def test_changes_are_returned_for_schemas_of_a_known_format():
    """Other schemas in a registry may have any format."""
    assert [item.kind for item in compare_schema_texts(json.dumps(FIRST), json.dumps(SECOND)) or ()] == [
        ChangeKind.ADDED_OPTIONAL
    ]
    avro = '{"type": "record", "name": "R", "fields": []}'
    assert compare_schema_texts(avro, avro) == []
    assert compare_schema_texts(avro, json.dumps(FIRST)) is None
    assert compare_schema_texts('"string"', '"string"') is None
    assert compare_schema_texts("message T {}", "message T {}") is None
    assert compare_schema_texts('{"type": "record"}', '{"type": "record"}') is None
    deep = '{"not": ' * 5000 + "true" + "}" * 5000
    assert compare_schema_texts(deep, deep) is None
