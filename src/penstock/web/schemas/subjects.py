"""Contents of the schema registry: subjects, versions, changes between two, and whether a draft is compatible.

Queried over its Confluent-compatible API, without a cache: a subject may be deleted and recreated. Nothing is
registered.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2

from penstock import pipelines, remedies
from penstock.config import Settings
from penstock.contract.evolution import Change, compare_schemas
from penstock.errors import NotFound, PenstockError, RegistryUnreachable, UsageError
from penstock.web.schemas.schema_usage import parse_subject

T = TypeVar("T")
LISTED = 100
"""Maximum number of subjects per listing: each takes three requests."""
MOST_CHARACTERS = 1_000_000
_NOT_FOUND, _WRONG, _DENIED = 404, {409, 422}, {401, 403}


@dataclass(frozen=True)
class Subject:
    """A subject. `compatibility` is its own level, or the registry's if it has none."""

    name: str
    type: str
    versions: list[int]
    latest_id: int
    compatibility: str


@dataclass(frozen=True)
class Subjects:
    """The first subjects whose names contain a text. `found` is the number of all such subjects."""

    subjects: list[Subject]
    found: int
    compatibility: str
    """The compatibility level of subjects without their own."""


@dataclass(frozen=True)
class Version:
    """A version of a subject. `text` is indented if it is JSON."""

    subject: str
    version: int
    id: int
    type: str
    text: str


@dataclass(frozen=True)
class DraftVerdict:
    """Whether a draft could be the subject's next version, according to the registry and to the contract."""

    subject: str
    against: int
    compatibility: str
    is_compatible: bool
    messages: list[str]
    changes: list[Change] | None
    """What changes for records and rows; None if it cannot be determined for schemas of this kind."""


class Catalogue:
    """The registry at `settings.registry_url`, queried through `http`. Methods may be called from any thread.

    They raise `RegistryUnreachable`, `NotFound` for what it does not hold, and `UsageError` for what it cannot read.
    """

    def __init__(self, settings: Settings, http: httpx2.Client) -> None:
        self._url = settings.registry_url
        self._topic = pipelines.of(settings).topic
        self._http = http
        self._auth: tuple[str, str] | None = None
        if settings.registry_username:
            self._auth = settings.registry_username, settings.registry_password.get_secret_value()

    def list_subjects(self, holding: str = "", most: int = LISTED) -> Subjects:
        """Return the subjects whose names contain `holding`, by name, the pipeline's own first."""
        names = self._call_registry("GET", "subjects", lambda names: sorted(map(str, names), key=self._get_sort_key))
        names = [name for name in names if holding.lower() in name.lower()]
        return Subjects([self.read_subject(name) for name in names[:most]], len(names), self._fetch_level())

    def _get_sort_key(self, name: str) -> tuple[bool, str]:
        return parse_subject(name)[0] != self._topic, name

    def read_subject(self, name: str) -> Subject:
        """Return a subject."""
        versions = self._call_registry(
            "GET", f"subjects/{_quote_name(name)}/versions", lambda numbers: sorted(map(int, numbers))
        )
        latest = self.read_version(name, "latest")
        return Subject(name, latest.type, versions, latest.id, self._fetch_level(name))

    def read_version(self, name: str, version: int | str) -> Version:
        """Return a version of a subject, or its `latest`."""
        return self._call_registry(
            "GET", f"subjects/{_quote_name(name)}/versions/{version}", lambda response: _parse_version(name, response)
        )

    def find_names(self, schema_id: int) -> list[str]:
        """Return the subjects and versions that have the schema: `users_created-value version 1`."""
        try:
            return self._call_registry("GET", f"schemas/ids/{schema_id}/versions", _parse_names)
        except NotFound:
            return []

    def check_draft(self, name: str, draft: str) -> DraftVerdict:
        """Return whether `draft`, a schema as text, could be the subject's next version. Nothing is registered."""
        latest = self.read_version(name, "latest")
        _check_draft(draft, latest.type)
        body = {"schema": draft, "schemaType": latest.type}
        path = f"compatibility/subjects/{_quote_name(name)}/versions/latest"
        is_compatible, messages = self._call_registry(
            "POST", path, _parse_check_result, params={"verbose": "true"}, json=body
        )
        level = self._fetch_level(name)
        return DraftVerdict(
            name, latest.version, level, is_compatible, messages, compare_schema_texts(latest.text, draft)
        )

    def _fetch_level(self, name: str = "") -> str:
        """Return the level of a subject, or the level of subjects without their own."""
        path = f"config/{_quote_name(name)}" if name else "config"
        # otherwise Apicurio returns NONE for a subject without its own level
        return self._call_registry(
            "GET", path, lambda response: str(response["compatibilityLevel"]), params={"defaultToGlobal": "true"}
        )

    def _call_registry(self, method: str, path: str, take: Callable[[Any], T], **more: Any) -> T:
        """Return the registry's response, converted by `take`."""
        address = httpx2.URL(f"{self._url}/{path}")
        shown = str(address.copy_with(userinfo=b""))
        try:
            answer = self._http.request(method, address, auth=self._auth, **more)
        except httpx2.HTTPError as error:
            raise _make_unreachable(f"no response from {shown}: {str(error) or type(error).__name__}") from None
        try:
            if answer.is_success:
                return take(answer.json())
            reason = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _make_unreachable(
                f"{shown} returned status {answer.status_code}, not as a schema registry does"
            ) from None
        raise _make_status_error(shown, answer.status_code, reason, is_check=method == "POST")


def _parse_version(name: str, response: Any) -> Version:
    kind = str(response.get("schemaType") or "AVRO")  # the API leaves it out
    return Version(name, int(response["version"]), int(response["id"]), kind, _indent_json(str(response["schema"])))


def _parse_names(response: Any) -> list[str]:
    return [f"{version['subject']} version {version['version']}" for version in response]


def _parse_check_result(response: Any) -> tuple[bool, list[str]]:
    return bool(response["is_compatible"]), [str(message) for message in response.get("messages") or ()]


def _make_status_error(address: str, status: int, reason: str, *, is_check: bool) -> PenstockError:
    if status == _NOT_FOUND:
        return NotFound(f"the schema registry: {reason}", hint=remedies.plan_schema())
    if status in _WRONG:
        return UsageError(f"the schema registry cannot read this schema: {reason}")
    if status in _DENIED:
        hint = "set PENSTOCK_REGISTRY_USERNAME and PENSTOCK_REGISTRY_PASSWORD"
        return RegistryUnreachable(f"{address} returned status {status}: {reason}", hint=hint)
    if is_check:  # Apicurio fails on JSON that is not a schema, e.g. with an unknown type
        return PenstockError(
            f"the schema registry failed on this schema: {reason}", hint=remedies.show_logs("registry")
        )
    return _make_unreachable(f"{address} returned status {status}: {reason}")


def _make_unreachable(text: str) -> RegistryUnreachable:
    return RegistryUnreachable(text, hint=remedies.check_address("registry"))


def _quote_name(name: str) -> str:
    return quote(name, safe="")


def _indent_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _check_draft(draft: str, kind: str) -> None:
    """Raise `UsageError`, which says where `draft` cannot be read, unless it can be a schema of that kind."""
    if len(draft) > MOST_CHARACTERS:
        raise UsageError(f"the schema has {len(draft):,} characters, more than {MOST_CHARACTERS:,}")
    if not draft.strip():
        raise UsageError("no schema to check", hint="paste a schema")
    if kind == "PROTOBUF":
        return
    try:
        parsed = json.loads(draft)
    except ValueError as error:
        raise UsageError(f"the schema is not JSON: {error}") from None
    except RecursionError:
        raise UsageError("the schema is nested too deeply to be read") from None
    if not isinstance(parsed, dict | bool | str | list) or (kind == "JSON" and not isinstance(parsed, dict | bool)):
        raise UsageError(f"the schema is JSON, but not a {kind} schema: expected an object, {{...}}")


def compare_schema_texts(older: str, newer: str) -> list[Change] | None:
    """Return what changes for records and rows from one schema to the other, or None if it cannot be determined.

    It can be for the JSON objects and Avro records of pipelines; other schemas in a registry may have another form.
    """
    try:
        before, after = json.loads(older), json.loads(newer)
        is_known = all(
            isinstance(schema, dict) and schema.get("type") in ("object", "record") for schema in (before, after)
        )
        return compare_schemas(before, after) if is_known and before["type"] == after["type"] else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
