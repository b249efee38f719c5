"""An id as a person types it: the text of a record's identity, or a value for each of its KEY fields."""

from typing import Any

from penstock import remedies
from penstock.contract.fields import DATE, SYMBOL, TIMESTAMP, UUID, Field
from penstock.contract.identity import Identity, identity_of
from penstock.errors import UsageError
from penstock.pipelines import Pipeline

_EXAMPLES = {
    UUID.cql: "123e4567-e89b-12d3-a456-426614174000",
    DATE.cql: "2026-01-31",
    TIMESTAMP.cql: "2026-01-31T12:00:00.000Z",
    "text": "{name}-1",
}
_NUMBER = "17"


def parse_id(pipeline: Pipeline, *texts: str) -> Any:
    """Return the identity that was typed: its text, or the value of each KEY field in declared order.

    Raises `UsageError` that says which fields an id has, their types, and an example.
    """
    identity = identity_of(pipeline.record)
    try:
        if len(texts) > 1 and len(texts) == len(identity.names):
            return identity.of_members(dict(zip(identity.names, texts, strict=True)))
        if len(texts) == 1:
            return identity.of_text(texts[0])
    except ValueError as error:
        raise _build_error(identity, texts, str(error)) from None
    raise _build_error(identity, texts, f"{len(texts)} values")


def parse_id_text(pipeline: Pipeline, *texts: str) -> str:
    """Return the one text of the identity that was typed (`Identity.text_of`), as `parse_id`."""
    return identity_of(pipeline.record).text_of(parse_id(pipeline, *texts))


def build_example(identity: Identity) -> list[str]:
    """Return an example of the value of each KEY field."""
    return [_build_example(field) for field in identity.fields]


def _build_error(identity: Identity, texts: tuple[str, ...], why: str) -> UsageError:
    expected = " and ".join(f"{field.name} ({_describe_type(field)})" for field in identity.fields)
    return UsageError(
        f"invalid id {' '.join(texts)!r}: {why}; expected {expected}",
        hint=f"{remedies.show_row(*build_example(identity))}, {remedies.show_rows()}",
    )


def _describe_type(field: Field) -> str:
    return f"one of {', '.join(field.symbols)}" if field.kind is SYMBOL else field.kind.cql


def _build_example(field: Field) -> str:
    if field.kind is SYMBOL:
        return field.symbols[0]
    return _EXAMPLES.get(field.kind.cql, _NUMBER).format(name=field.name)
