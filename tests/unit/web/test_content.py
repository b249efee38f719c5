"""How a message is shown, whatever it contains."""

import json

from penstock.codec.values import ContentReader
from penstock.contract.masking import MASK
from penstock.web.topics.content import SHOWN_BYTES, MessageRenderer
from tests.unit.fakes import FakeSchemas, message
from tests.unit.records import Reading

ONE = Reading(sensor=7, celsius=21.5)
PLAIN = {"sensor": 7, "celsius": 21.5}


def seen(item, *, masks=False, schemas=None, record=Reading):
    return MessageRenderer(ContentReader(schemas or FakeSchemas.of(Reading)), record, masks).render(item)


def test_personal_data_are_hidden_by_default():
    """Fields that the contract does not know, text, bytes, unknown headers, and keys that are not ids."""
    kafka_message = message(
        5,
        b'{"sensor": 7, "celsius": 2.5, "name": "Ada", "inner": {"mail": "ada@x"}}',
        key=b"Ada",
        headers=[
            ("who", b"Ada"),
            ("penstock.run", b"r1"),
            ("penstock.who", b"Ada"),
            ("__penstock.errors.reason", b"why"),
            ("__penstock.errors.message", b"'Ada' stands twice"),
        ],
    )
    snapshot = seen(kafka_message, masks=True)
    assert snapshot.value == {"sensor": 7, "celsius": 2.5, "name": MASK, "inner": {"mail": MASK}}
    assert (snapshot.key, snapshot.key_is_hidden, snapshot.hex) == (None, True, None)
    assert [header.value for header in snapshot.headers] == [None, "r1", None, "why", None]
    assert "Ada" not in repr(snapshot)
    text = seen(message(6, b"Ada", key=b"7"), masks=True)
    assert (text.text, text.hidden) == (None, "3 bytes hidden, which may be personal data")
    assert text.key == "7"


def test_personal_data_are_shown_on_request():
    """Unchanged, as text and as hex."""
    snapshot = seen(message(6, b"Ada", key=b"\xff\x01", headers=[("who", b"Ada"), ("none", None)]))
    assert (snapshot.text, snapshot.hex, snapshot.key) == ("Ada", b"Ada".hex(), "0xff01")
    assert [header.value for header in snapshot.headers] == ["Ada", None]


def test_a_large_value_is_truncated_and_says_so():
    """What is shown of a message is bounded, decoded or not."""
    text = seen(message(1, b"x" * 50_000))
    assert (len(text.text), len(text.hex), text.is_cut, text.value_bytes) == (
        SHOWN_BYTES,
        2 * SHOWN_BYTES,
        True,
        50_000,
    )
    decoded = seen(message(1, json.dumps({"a": "x" * 50_000}).encode()))
    assert (decoded.value, len(decoded.text), decoded.is_cut) == (None, SHOWN_BYTES, True)
