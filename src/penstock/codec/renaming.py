"""JSON objects whose fields have former names (`Alias`), rewritten to the names that the record has now."""

import re
from collections.abc import Callable
from functools import cache

import msgspec

from penstock.contract.aliases import find_doubled_names, former_names, rename_fields
from penstock.contract.json_text import count_names
from penstock.contract.record import Record
from penstock.contract.violation import Violation

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ESCAPED_NAME = rb"\\u00[3-7]"
"""A character that names consist of, as an escape."""


@cache
def build_name_search(record: type[Record]) -> Callable[[bytes], object] | None:
    """Return a function that searches a JSON text for a former name; None if `record` has none.

    It finds each occurrence, and sometimes a text that only looks like one.
    """
    names = b"|".join(name.encode() for name in former_names(record))
    return re.compile(rb'"(?:%b)"|%b' % (names, _ESCAPED_NAME)).search if names else None


def rename_json(body: bytes, record: type[Record]) -> bytes | list[Violation]:
    """Return the JSON object in `body` with the names of `record`, or the fields that occur under two names.

    Values stay as they are written. Raises one of `MALFORMED_JSON`, also if `body` is not an object.
    """
    body = bytes(body)
    count_names(body)  # the decoder keeps the last of two members with one name
    members = _decode_members(body)
    return find_doubled_names(members, record) or msgspec.json.encode(rename_fields(members, record))
