"""Schema registry: subjects, versions, diffs, and which versions messages use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query

from penstock.contract.evolution import Change
from penstock.monitoring.services import with_short_timeouts
from penstock.web.app_context import AppContext
from penstock.web.schemas import schema_usage as sampling
from penstock.web.schemas import subjects
from penstock.web.schemas.difference import DiffLine, diff_lines
from penstock.web.schemas.schema_usage import Use
from penstock.web.schemas.subjects import LISTED, Catalogue, Subject, Subjects, Version


@dataclass(frozen=True)
class SchemaDifference:
    """The differences between two versions of a subject.

    `changes` is their effect on records and rows under penstock's rules; null if it cannot be derived from the schemas.
    """

    subject: str
    older: int
    newer: int
    lines: list[DiffLine]
    changes: list[Change] | None


@dataclass(frozen=True)
class InUse:
    """The schemas used by a sample of the subject's topic: its newest and its oldest messages.

    `names` maps each schema id to its subjects and versions. `is_cut` means sampling hit its time limit.
    """

    topic: str
    part: str
    held: int
    looked: int
    is_cut: bool
    is_whole: bool
    seconds: float
    uses: list[Use]
    names: dict[int, list[str]]


def register(api: FastAPI, context: AppContext) -> None:
    """Add the routes under /schemas."""

    @api.get("/schemas")
    def listed(
        holding: Annotated[str, Query(description="Only subjects whose names contain this text, ignoring case.")] = "",
        most: Annotated[int, Query(ge=1, le=500, description="Maximum number of subjects.")] = LISTED,
    ) -> Subjects:
        """List subjects with their versions and compatibility levels."""
        return create_catalogue(context).list_subjects(holding, most)

    @api.get("/schemas/{subject}")
    def subject(subject: str) -> Subject:
        """Get a subject."""
        return create_catalogue(context).read_subject(subject)

    @api.get("/schemas/{subject}/versions/{version}")
    def version(subject: str, version: int) -> Version:
        """Get a version of a subject, with its text."""
        return create_catalogue(context).read_version(subject, version)

    @api.get("/schemas/{subject}/diff")
    def diff(
        subject: str,
        older: Annotated[int, Query(alias="from", description="The older version.")],
        newer: Annotated[int, Query(alias="to", description="The newer version.")],
    ) -> SchemaDifference:
        """Compare two versions, line by line and field by field."""
        return compare_versions(create_catalogue(context), subject, older, newer)

    @api.get("/schemas/{subject}/usage")
    def usage(subject: str) -> InUse:
        """Sample the newest and the oldest messages of the subject's topic for their schemas, for at most 5 s.

        A version missing from the result may still be in use by messages in between.
        """
        create_catalogue(context).read_subject(subject)
        return sample_usage(context, subject)


def create_catalogue(context: AppContext) -> Catalogue:
    """Return a client of the schema registry."""
    return Catalogue(context.settings, context.http)


def compare_versions(held: Catalogue, subject: str, older: int, newer: int) -> SchemaDifference:
    """Compare two versions of a subject. Raises as `Catalogue` does."""
    old, new = held.read_version(subject, older), held.read_version(subject, newer)
    lines, changes = diff_lines(old.text, new.text), subjects.compare_schema_texts(old.text, new.text)
    return SchemaDifference(subject, older, newer, lines, changes)


def sample_usage(context: AppContext, subject: str) -> InUse:
    """Sample the topic for the schemas in use. Raises `KafkaUnreachable`, `RegistryUnreachable`."""
    sample = sampling.sample_schemas(with_short_timeouts(context.settings), subject)
    registry = create_catalogue(context)
    ids = sorted({use.schema_id for use in sample.uses if use.schema_id is not None})
    names = {schema_id: registry.find_names(schema_id) for schema_id in ids[:_NAMED]}
    return InUse(
        topic=sample.topic,
        part=sample.part,
        held=sample.held,
        looked=sample.looked,
        is_cut=sample.is_cut,
        is_whole=sample.is_whole,
        seconds=sample.seconds,
        uses=sample.uses,
        names=names,
    )


_NAMED = 50
"""Limit on schema ids looked up, since producers can put arbitrary ids into messages."""
