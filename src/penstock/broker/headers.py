"""The Kafka headers that penstock gives a record, beside those of its dead letters (`broker.dlq`)."""

from confluent_kafka import Message

from penstock.contract.reject import Headers

RUN = "penstock.run"
"""The id of the run that produced it."""
FETCHED = "penstock.fetched"
"""When the API's answer that held it was fetched, in ms since the epoch."""
REDRIVEN = "penstock.redriven"
"""The identity of the dead letter that it was made of."""
ORDER = "penstock.order"
"""The write timestamp of the position that a redriven record had, as text. Spark reads no header but the first."""

HARMLESS = frozenset({RUN, FETCHED, REDRIVEN, ORDER})
"""The names of those that tell nothing of a person."""


def order(held: Headers) -> bytes | None:
    """Return the value of the header `ORDER`; None unless it is the first one."""
    return held[0][1] if held and held[0][0] == ORDER else None


def text(message: Message, name: str) -> str | None:
    """The value of the header of that name; None when there is none."""
    return text_in(message.headers() or [], name)


def text_in(held: Headers, name: str) -> str | None:
    """Return the value of the first header of that name that has one; None when there is none."""
    for found, value in held:
        if found == name and value is not None:
            return str(value, "utf-8", "replace")
    return None
