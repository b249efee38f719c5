"""The Kafka headers that penstock gives a record, apart from those of dead letters (`dead_letters.message`)."""

from confluent_kafka import Message

from penstock.contract.record import Headers

RUN = "penstock.run"
"""Id of the run that produced the record."""
FETCHED = "penstock.fetched"
"""When the API response with the record was fetched, in ms since the epoch."""
REDRIVEN = "penstock.redriven"
"""Identity of the dead letter from which the record was redriven."""
ORDER = "penstock.order"
"""Write timestamp of a redriven record's original position, as text. Spark reads only the first header."""

HARMLESS = frozenset({RUN, FETCHED, REDRIVEN, ORDER})
"""Names of the headers without personal data."""


def order(held: Headers) -> bytes | None:
    """Return the value of the header `ORDER`; None unless it is the first header."""
    return held[0][1] if held and held[0][0] == ORDER else None


def text(message: Message, name: str) -> str | None:
    """Return the first value of a message's header that is not null, as text; None if there is none."""
    return text_in(message.headers() or [], name)


def text_in(held: Headers, name: str) -> str | None:
    """Return the first value of a header that is not null, as text; None if there is none."""
    for found, value in held:
        if found == name and value is not None:
            return str(value, "utf-8", "replace")
    return None
