"""The Kafka headers that penstock gives a record, beside those of its dead letters (`broker.dlq`)."""

from confluent_kafka import Message

RUN = "penstock.run"
"""The id of the run that produced it."""
FETCHED = "penstock.fetched"
"""When the API's answer that held it was fetched, in ms since the epoch."""
REDRIVEN = "penstock.redriven"
"""The identity of the dead letter that it was made of."""

HARMLESS = frozenset({RUN, FETCHED, REDRIVEN})
"""The names of those that tell nothing of a person."""


def text(message: Message, name: str) -> str | None:
    """The value of the header of that name; None when there is none."""
    for found, value in message.headers() or []:
        if found == name and value is not None:
            return str(value, "utf-8", "replace")
    return None
