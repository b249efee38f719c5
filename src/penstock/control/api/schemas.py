"""The schema registry's subjects and versions, their differences, and where they are in use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query

from penstock.contract.evolution import Change
from penstock.control.desk import Desk
from penstock.observe import subjects
from penstock.observe import usage as sampling
from penstock.observe.difference import Line, difference
from penstock.observe.services import quick
from penstock.observe.subjects import LISTED, Catalogue, Subject, Subjects, Version
from penstock.observe.usage import Use


@dataclass(frozen=True)
class Difference:
    """What differs between two versions of a subject.

    `changes` is what that means for records and rows by penstock's rules; null when the schemas are of another form.
    """

    subject: str
    older: int
    newer: int
    lines: list[Line]
    changes: list[Change] | None


@dataclass(frozen=True)
class InUse:
    """Which schemas a sample of the subject's topic was written with: its newest and its oldest messages.

    `names` has the subjects and versions of each schema id. `is_cut`: the time was over before the sample's end.
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


def register(api: FastAPI, desk: Desk) -> None:
    """Serve /schemas and what is below it."""

    @api.get("/schemas")
    def listed(
        holding: Annotated[str, Query(description="Only subjects whose names hold this.")] = "",
        most: Annotated[int, Query(ge=1, le=500, description="So many at most.")] = LISTED,
    ) -> Subjects:
        """The subjects, with their versions and compatibility levels."""
        return catalogue(desk).subjects(holding, most)

    @api.get("/schemas/{subject}")
    def subject(subject: str) -> Subject:
        """One subject."""
        return catalogue(desk).subject(subject)

    @api.get("/schemas/{subject}/versions/{version}")
    def version(subject: str, version: int) -> Version:
        """One version of a subject, with its text."""
        return catalogue(desk).version(subject, version)

    @api.get("/schemas/{subject}/diff")
    def diff(
        subject: str,
        older: Annotated[int, Query(alias="from", description="The older version.")],
        newer: Annotated[int, Query(alias="to", description="The newer version.")],
    ) -> Difference:
        """What differs between two versions, line by line and field by field."""
        return differing(catalogue(desk), subject, older, newer)

    @api.get("/schemas/{subject}/usage")
    def usage(subject: str) -> InUse:
        """Which schemas the newest and the oldest messages of the subject's topic have; it takes five seconds at most.

        A version that is not named may still be in use between these.
        """
        catalogue(desk).subject(subject)
        return in_use(desk, subject)


def catalogue(desk: Desk) -> Catalogue:
    """The registry."""
    return Catalogue(desk.settings, desk.http)


def differing(held: Catalogue, subject: str, older: int, newer: int) -> Difference:
    """The difference of two versions. Raises as `Catalogue`."""
    before, after = held.version(subject, older), held.version(subject, newer)
    lines, changes = difference(before.text, after.text), subjects.changes(before.text, after.text)
    return Difference(subject, older, newer, lines, changes)


def in_use(desk: Desk, subject: str) -> InUse:
    """What a sample of the topic shows. Raises `KafkaUnreachable`, `RegistryUnreachable`."""
    found, held = sampling.usage(quick(desk.settings), subject), catalogue(desk)
    ids = sorted({use.schema_id for use in found.uses if use.schema_id is not None})
    names = {schema_id: held.named(schema_id) for schema_id in ids[:_NAMED]}
    return InUse(
        topic=found.topic,
        part=found.part,
        held=found.held,
        looked=found.looked,
        is_cut=found.is_cut,
        is_whole=found.is_whole,
        seconds=found.seconds,
        uses=found.uses,
        names=names,
    )


_NAMED = 50
"""So many ids are looked up: whoever writes to the topic may name any."""
