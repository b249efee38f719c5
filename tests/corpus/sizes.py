"""Values of the maximum size, and larger."""

from penstock.contract.fault import Reason
from penstock.contract.rules import MAX_VALUE_BYTES
from tests.corpus.case import Case, Rejected, Sender, Stored


def _sized(sender: Sender, length: int) -> bytes:
    """A user as JSON of this many bytes."""
    return sender.with_raw("x", b'"%b"' % (b"y" * (length - len(sender.with_raw("x", b'""')))))


def _too_large(length: int) -> Rejected:
    return Rejected(Reason.VALUE_TOO_LARGE, f"{length} bytes", (":size",))


def _escapes(sender: Sender) -> bytes:
    room = MAX_VALUE_BYTES - len(sender.with_raw("x", b'""'))
    return sender.with_raw("x", b'"%b"' % (rb"\\" * (room // 2)))


CASES = [
    Case("as large as may be", lambda sender: _sized(sender, MAX_VALUE_BYTES), Stored()),
    Case("as large as may be, of spaces", lambda sender: sender.json().ljust(MAX_VALUE_BYTES), Stored()),
    Case("a byte too large", lambda sender: _sized(sender, MAX_VALUE_BYTES + 1), _too_large(MAX_VALUE_BYTES + 1)),
    Case("a byte too large, of spaces", lambda _: b" " * (MAX_VALUE_BYTES + 1), _too_large(MAX_VALUE_BYTES + 1)),
    Case(
        "a byte too large with its frame",
        lambda sender: sender.framed("json", _sized(sender, MAX_VALUE_BYTES - 4)),
        _too_large(MAX_VALUE_BYTES + 1),
    ),
    Case("3 MB", lambda sender: _sized(sender, 3_000_000), _too_large(3_000_000)),
    Case("3 MB of NULs", lambda _: b"\0" * 3_000_000, _too_large(3_000_000)),
    Case("as large as may be, of backslashes", _escapes, Stored()),
]
