"""Numbers beyond 64 bits, and values that are not numbers; users have no number fields, so they are in other fields or
invalid.
"""

from penstock.contract.fault import Reason
from tests.corpus.case import Case, Rejected, Stored, broken

_FINE = {
    "the largest of 64 bits": b"18446744073709551615",
    "beyond 64 bits": b"18446744073709551616",
    "beyond 64 bits, negative": b"-9223372036854775809",
    "hundreds of digits": b"1" * 400,
    "thousands of digits": b"9" * 10_000,
    "beyond a double": b"1e999",
    "beyond a double, negative": b"-1e999",
    "a fraction of thousands of digits": b"0." + b"3" * 10_000,
    "smaller than a double": b"1e-999",
    "an exponent of thousands of digits": b"1e" + b"9" * 5_000,
    "minus zero": b"-0",
}
_NONE = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "a leading zero": b"007",
    "a plus": b"+1",
    "a lone minus": b"-",
    "no digit after the point": b"1.",
    "no digit before the point": b".5",
    "an exponent without digits": b"1e",
    "hexadecimal": b"0x1F",
    "underscores": b"1_000",
}
_OUT_OF_RANGE = Rejected(Reason.JSON_MALFORMED, "out of range")

CASES = [
    *(
        Case(f"a number: {name}", lambda sender, r=raw: sender.with_raw("x", r), Stored())
        for name, raw in _FINE.items()
    ),
    *(
        Case(f"a number: {name}", lambda sender, r=raw: sender.with_raw("x", r), Rejected(Reason.JSON_MALFORMED))
        for name, raw in _NONE.items()
    ),
    Case("NaN where a text belongs", lambda sender: sender.with_raw("phone", b"NaN"), Rejected(Reason.JSON_MALFORMED)),
    *(
        Case(
            f"{name} where a text belongs",
            lambda sender, r=raw: sender.with_raw("post_code", r),
            broken("post_code:type"),
        )
        for name, raw in {
            "a number beyond 64 bits": b"18446744073709551616",
            "a number of hundreds of digits": b"1" * 400,
            "a float": b"1.5",
        }.items()
    ),
    *(
        Case(f"{name} where a text belongs", lambda sender, r=raw: sender.with_raw("post_code", r), _OUT_OF_RANGE)
        for name, raw in {"1e999": b"1e999", "a number of thousands of digits": b"9" * 10_000}.items()
    ),
    Case("a number of thousands of digits as the value", lambda _: b"9" * 10_000, Rejected(Reason.JSON_MALFORMED)),
]
