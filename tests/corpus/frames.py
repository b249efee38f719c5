"""The wire-format header: malformed, or with an unknown schema."""

from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Reason
from tests.corpus.case import Case, Rejected, Sender, Stored
from tests.corpus.schemas import UNKNOWN_ID


def _cut(length: int) -> Case:
    return Case(
        f"a frame of {length} bytes",
        lambda sender: sender.framed("json", sender.json())[:length],
        Rejected(Reason.FRAME_BROKEN, f"{length} of 5 bytes"),
    )


def _unknown(name: str, schema_id: int) -> Case:
    return Case(
        f"a schema id that nobody gave: {name}",
        lambda sender: encode_header(schema_id) + sender.json(),
        Rejected(Reason.SCHEMA_UNKNOWN, f"schema {schema_id}"),
    )


def _twice_framed(sender: Sender) -> bytes:
    return sender.framed("json", sender.framed("json", sender.json()))


CASES = [
    *(_cut(length) for length in range(1, 5)),
    _unknown("some", UNKNOWN_ID),
    _unknown("0", 0),
    _unknown("the last of 31 bits", 2**31 - 1),
    _unknown("2^31", 2**31),
    _unknown("all ones", 2**32 - 1),
    _unknown("with a quote in it", 0x22222222),
    Case("a frame alone, of no schema", lambda _: encode_header(UNKNOWN_ID), Rejected(Reason.SCHEMA_UNKNOWN)),
    Case("a frame in a frame", _twice_framed, Rejected(Reason.JSON_MALFORMED)),
    Case("nothing but NULs", lambda _: b"\0" * 100, Rejected(Reason.SCHEMA_UNKNOWN, "schema 0")),
    Case(
        "another magic byte",
        lambda sender: b"\x01" + sender.framed("json", sender.json())[1:],
        Rejected(Reason.JSON_MALFORMED),
    ),
    Case("framed JSON", lambda sender: sender.framed("json", sender.json()), Stored()),
]
