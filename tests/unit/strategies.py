"""Hypothesis strategies for records, and the number of examples."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from penstock.contract.record import Digits
from penstock.pipelines.users import User
from tests.unit.records import Everything, Scalars, Side

few_examples = settings(max_examples=settings().max_examples // 4)
"""For an expensive property: an example that is a verification takes a fifth of a second."""
many_examples = settings(max_examples=settings().max_examples * 6)
"""For a cheap property with a large space of examples."""

_DAY = timedelta(days=1)

zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
"""Offsets of whole minutes: RFC 3339 has no others."""


def _in_zone(moment: datetime, zone: timezone) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(zone)


def _moments(until: datetime) -> st.SearchStrategy[datetime]:
    return st.one_of(
        st.datetimes(max_value=until, timezones=st.just(UTC)),
        st.builds(_in_zone, st.datetimes(datetime.min + _DAY, until - _DAY), zones),
    )


moments = _moments(datetime.max)
"""Moments of the years 1 to 9999 by UTC, in UTC or in another zone."""
past_moments = _moments(datetime(2026, 1, 1))
"""Moments that nobody's clock puts into the future."""


_characters = st.characters(codec="utf-8", exclude_characters="\0")


def _words(max_size: int, min_size: int = 1) -> st.SearchStrategy[str]:
    return st.text(_characters, min_size=min_size, max_size=max_size)


_solid = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="@"), min_size=1)


def users(when: st.SearchStrategy[datetime] = past_moments) -> st.SearchStrategy[User]:
    """Users that satisfy the contract."""
    return st.builds(
        User,
        id=st.uuids(),
        first_name=_words(500),
        last_name=_words(500),
        gender=st.sampled_from(["female", "male"]),
        address=_words(2000),
        post_code=_words(20),
        email=st.builds("{}@{}".format, _solid, _solid),
        username=_words(500),
        dob=when,
        registered_date=when,
        phone=_words(50),
        picture=st.builds("https://{}".format, _solid),
        nationality=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2),
    )


def everything(when: st.SearchStrategy[datetime] = moments) -> st.SearchStrategy[Everything]:
    """Records with every type."""
    numbers: dict[str, Any] = {
        "text": _words(50, 0),
        "id": st.uuids(),
        "moment": when,
        "small": st.integers(-(2**31), 2**31 - 1),
        "big": st.integers(-(2**63), 2**63 - 1),
        "ratio": st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.booleans(),
    }
    return st.builds(
        Everything,
        **numbers,
        other_id=st.uuids(),
        **{f"maybe_{name}": st.none() | strategy for name, strategy in numbers.items()},
    )


def decimals(digits: Digits) -> st.SearchStrategy[Decimal]:
    """Decimals that fit, with zeros at the end or without, zeros with large exponents too."""
    most = 10**digits.precision - 1
    exact = st.integers(-most, most).map(lambda unscaled: Decimal(unscaled).scaleb(-digits.scale, Context(prec=38)))
    zeros = st.integers(-50, 50).map(lambda exponent: Decimal((0, (0,), exponent)))
    return st.one_of(exact, exact.map(lambda value: Decimal(f"{value:f}{'.' if not digits.scale else ''}000")), zeros)


durations = st.integers(-(2**63), 2**63 - 1).map(lambda us: timedelta(microseconds=us))
"""Durations of at most 64 bits of microseconds."""


def scalars() -> st.SearchStrategy[Scalars]:
    """Records with the other types."""
    required: dict[str, Any] = {
        "price": decimals(Digits(10, 2)),
        "day": st.dates(),
        "opens": st.times(),
        "lasts": durations,
        "hash": st.binary(max_size=64),
        "size": st.sampled_from(["S", "M", "L"]),
        "side": st.sampled_from(Side),
        "count": st.integers(-(2**63), 2**63 - 1),
    }
    optional = required | {"price": decimals(Digits(5, 0)), "count": st.integers(0, 2**63 - 1)}
    return st.builds(
        Scalars,
        id=st.uuids(),
        ratio=decimals(Digits(38, 38)),
        born=st.dates(max_value=date(2026, 1, 1)),
        **required,
        **{f"maybe_{name}": st.none() | strategy for name, strategy in optional.items()},
    )


def to_ms(moment: datetime) -> datetime:
    """The time without the fraction of a millisecond."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def _json_texts(depth: int) -> st.SearchStrategy[str]:
    """JSON texts whose objects may have duplicate names, spelt in different ways."""
    names = st.sampled_from(['"a"', '"b"', '"id"', r'"\u0061"', r'"\u0069d"', r'"\""', r'"\u0022"', '""', '"text"'])
    simple = st.sampled_from(["1", "null", "true", '"a"', r'"\"a\": 1, \"a\": 2"', "1e999", "9" * 40, "[]", "{}"])
    inner = simple if depth == 0 else simple | _json_texts(depth - 1)
    spaces = st.sampled_from(["", " ", "\n\t"])
    members = st.lists(st.builds("{0}{1}:{1}{2}".format, names, spaces, inner), max_size=3)
    return st.builds("{{{}}}".format, members.map(",".join)) | st.lists(inner, max_size=2).map(
        lambda items: f"[{','.join(items)}]"
    )


json_texts = _json_texts(2)
"""JSON texts, nested, in which a name may stand twice."""


@st.composite
def changed_bytes(draw: st.DrawFn, values: st.SearchStrategy[bytes]) -> bytes:
    """A value with bytes changed, inserted and removed, and possibly truncated."""
    value = bytearray(draw(values))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(value[: draw(st.none() | st.integers(0, len(value)))])
