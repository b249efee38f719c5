"""Hypothesis strategies for records, and the number of examples."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import inspect

from penstock.contract import kinds
from penstock.contract.composites import JSON
from penstock.contract.fields import Field, FieldKind, fields
from penstock.contract.kinds import Form, Shape
from penstock.contract.record import Digits, build_null
from penstock.pipelines.users import User
from tests.unit.records import Composites, Everything, Scalars, Side

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


_ms_moments = past_moments.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
_json_leaves = st.sampled_from(["1e400", "-0.10", "12345678901234567890.123456789", '"\\u00e9"', "true", '""', "0"])
json_raw = st.recursive(
    _json_leaves | st.text(_characters, max_size=5).map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(_words(3), inner, max_size=2).map(
            lambda members: f"{{{','.join(f'{json.dumps(name)} :{value}' for name, value in members.items())}}}"
        )
    ),
    max_leaves=4,
).map(lambda text: msgspec.Raw(text.encode()))
"""JSON texts other than null, with digits that no float has, and spaces."""
_SCALARS: dict[FieldKind, st.SearchStrategy[Any]] = {
    kinds.UUID: st.uuids(),
    kinds.TIMESTAMP: _ms_moments,
    kinds.DATE: st.dates(max_value=date(2026, 1, 1)),
    kinds.TIME: st.times(),
    kinds.DURATION: durations,
    kinds.BYTES: st.binary(max_size=8),
    kinds.INT: st.integers(-100, 100),
    kinds.BIGINT: st.integers(-(2**63), 2**63 - 1),
    kinds.DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    kinds.FINITE: st.floats(allow_nan=False, allow_infinity=False),
    kinds.BOOLEAN: st.booleans(),
    JSON: json_raw,
}


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Values of a field of a small record, or of an item of a composite one."""
    values = _values_of_type(field)
    return st.just(build_null() if field.kind is JSON else None) | values if field.nullable else values


def _values_of_type(field: Field) -> st.SearchStrategy[Any]:
    if field.shape is not None:
        return _values_of_shape(field, field.shape)
    if field.symbols:
        cls = getattr(field.info, "cls", str)
        return st.sampled_from(field.symbols).map(cls)
    if field.digits is not None:
        return decimals(field.digits)
    if isinstance(field.info, inspect.UnionType):
        types = {type(member) for member in field.info.types}
        numbers = st.integers(-(2**63), 2**63 - 1)
        if inspect.StrType in types:
            return (
                numbers | st.sampled_from(["", "007", "1.50", "true", '"x"', "null"]) | st.text("bcd\u00e9", max_size=5)
            )
        return numbers | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    if field.kind is kinds.TEXT:
        return st.text(st.characters(codec="utf-8", exclude_characters="\0a\n"), min_size=1, max_size=6)
    return _SCALARS[field.kind]


def _values_of_shape(field: Field, shape: Shape) -> st.SearchStrategy[Any]:
    if shape.record is not None:
        return st.builds(shape.record, **{item.column: values_of(item) for item in shape.items})
    if shape.form is Form.TUPLE:
        return st.tuples(*map(values_of, shape.items))
    item = values_of(shape.items[0])
    if shape.form is Form.MAP:
        return st.dictionaries(st.text(_characters, max_size=4), item, max_size=3)
    if shape.form is Form.SET:
        return (
            st.frozensets(item, max_size=3)
            if isinstance(field.info, inspect.FrozenSetType)
            else st.sets(item, max_size=3)
        )
    return st.lists(item, max_size=3).map(tuple if isinstance(field.info, inspect.VarTupleType) else list)


def composites() -> st.SearchStrategy[Composites]:
    """Records with every composite type."""
    return st.builds(Composites, **{field.column: values_of(field) for field in fields(Composites)})


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
