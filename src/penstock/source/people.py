"""Made-up users in the shape of the random user API 1.4: the same user for the same seed and place, at any time.

Faker fills a pool of values per nationality once; a user is a draw from the pools, which is what makes it fast.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from faker import Faker

from penstock.source.latin import to_latin
from penstock.source.nationalities import NATIONALITIES, Nationality

POOL_DRAWS = 150
GENDERS = ("male", "female")
TODAY = datetime(2026, 1, 1, tzinfo=UTC)  # ages are counted from here, so that a seed's users never change
BORN = (datetime(1944, 8, 26, tzinfo=UTC), datetime(2001, 5, 28, tzinfo=UTC))
REGISTERED = (datetime(2002, 3, 21, tzinfo=UTC), datetime(2022, 5, 23, tzinfo=UTC))
PORTRAITS = "https://randomuser.me/api/portraits"
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SALT_LETTERS = CAPITALS + CAPITALS.lower() + "0123456789"
COLOURS = "angry beautiful big black blue brown crazy golden green happy lazy orange purple red sad silver tiny white"
ANIMALS = "bear bird butterfly cat dog duck elephant fish frog goose gorilla koala lion mouse panda snake swan tiger"
TIMEZONES = (
    ("-9:00", "Alaska"),
    ("-7:00", "Mountain Time (US & Canada)"),
    ("-6:00", "Central Time (US & Canada), Mexico City"),
    ("-4:00", "Atlantic Time (Canada), Caracas, La Paz"),
    ("-3:30", "Newfoundland"),
    ("0:00", "Western Europe Time, London, Lisbon, Casablanca"),
    ("+1:00", "Brussels, Copenhagen, Madrid, Paris"),
    ("+2:00", "Kaliningrad, South Africa"),
    ("+3:30", "Tehran"),
    ("+4:30", "Kabul"),
    ("+5:30", "Bombay, Calcutta, Madras, New Delhi"),
    ("+5:45", "Kathmandu"),
    ("+6:00", "Almaty, Dhaka, Colombo"),
    ("+8:00", "Beijing, Perth, Singapore, Hong Kong"),
    ("+9:00", "Tokyo, Seoul, Osaka, Sapporo, Yakutsk"),
    ("+9:30", "Adelaide, Darwin"),
    ("+10:00", "Eastern Australia, Guam, Vladivostok"),
)


@dataclass(frozen=True)
class Pool:
    """Values of one nationality to draw from."""

    first: dict[str, list[str]]  # by gender
    last: list[str]
    streets: Sequence[str]
    cities: Sequence[str]
    regions: Sequence[str]


@cache
def pool_of(nat: str) -> Pool:
    """The pool of a nationality, filled by Faker at the first call, always the same."""
    kind = NATIONALITIES[nat]
    fake = Faker(kind.locale)
    fake.seed_instance(nat)
    return Pool(
        first={"male": _draws(fake.first_name_male), "female": _draws(fake.first_name_female)},
        last=_draws(fake.last_name),
        streets=kind.streets or _draws(fake.street_name),
        cities=kind.cities or _draws(fake.city),
        regions=kind.regions or _draws(getattr(fake, kind.region)),
    )


@cache
def words() -> list[str]:
    """Words that passwords are made of."""
    fake = Faker("en_US")
    fake.seed_instance("words")
    return _draws(fake.word)


def fill_pools() -> None:
    """Fill every pool now, so that no request waits for it."""
    words()
    for nat in NATIONALITIES:
        pool_of(nat)


def make_user(seed: str, position: int, nats: Sequence[str], genders: Sequence[str]) -> dict[str, Any]:
    """The user at `position` (from 0) among the users of `seed`, of one of `nats` and `genders`."""
    rng = random.Random(f"{seed}:{position}")  # noqa: S311 - made to be repeatable
    nat, gender = rng.choice(nats), rng.choice(genders)
    kind, pool = NATIONALITIES[nat], pool_of(nat)
    first, last = rng.choice(pool.first[gender]), rng.choice(pool.last)
    return {
        "gender": gender,
        "name": {
            "title": "Mr" if gender == "male" else rng.choice(("Miss", "Mrs", "Ms")),
            "first": first,
            "last": last,
        },
        "location": _location(rng, kind, pool),
        "email": f"{to_latin(first)}.{to_latin(last)}@example.com",
        "login": _login(rng, seed, position),
        "dob": _moment(rng, *BORN),
        "registered": _moment(rng, *REGISTERED),
        "phone": filled(rng, kind.phone),
        "cell": filled(rng, kind.cell),
        "id": {"name": kind.id_name, "value": filled(rng, kind.id_value) if kind.id_value else None},
        "picture": _picture(rng, gender),
        "nat": nat,
    }


def filled(rng: random.Random, pattern: str) -> str:
    """`pattern` with its `#`, `%` and `@` replaced, see `nationalities`."""
    return "".join([_FILL[sign](rng) if sign in _FILL else sign for sign in pattern])


_FILL: dict[str, Callable[[random.Random], str]] = {
    "#": lambda rng: "0123456789"[int(rng.random() * 10)],
    "%": lambda rng: "123456789"[int(rng.random() * 9)],
    "@": lambda rng: CAPITALS[int(rng.random() * 26)],
}


def _draws(draw: Callable[[], str]) -> list[str]:
    """Distinct values, in the order drawn."""
    return list(dict.fromkeys(draw() for _ in range(POOL_DRAWS)))


def _location(rng: random.Random, kind: Nationality, pool: Pool) -> dict[str, Any]:
    post_code = kind.post_code
    offset, description = rng.choice(TIMEZONES)
    return {
        "street": {"number": rng.randint(1, 9999), "name": rng.choice(pool.streets)},
        "city": rng.choice(pool.cities),
        "state": rng.choice(pool.regions),
        "country": kind.country,
        "postcode": filled(rng, post_code) if isinstance(post_code, str) else rng.randint(*post_code),
        "coordinates": {"latitude": f"{rng.uniform(-90, 90):.4f}", "longitude": f"{rng.uniform(-180, 180):.4f}"},
        "timezone": {"offset": offset, "description": description},
    }


def _login(rng: random.Random, seed: str, position: int) -> dict[str, str]:
    password = rng.choice(words())
    salt = "".join(rng.choices(SALT_LETTERS, k=8))
    secret = (password + salt).encode()
    place = hashlib.sha256(f"{seed}:{position}".encode()).digest()
    return {
        "uuid": str(UUID(bytes=place[:16], version=4)),
        "username": f"{rng.choice(_COLOURS)}{rng.choice(_ANIMALS)}{rng.randint(100, 999)}",
        "password": password,
        "salt": salt,
        "md5": hashlib.md5(secret, usedforsecurity=False).hexdigest(),
        "sha1": hashlib.sha1(secret, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(secret).hexdigest(),
    }


_COLOURS, _ANIMALS = COLOURS.split(), ANIMALS.split()


def _moment(rng: random.Random, earliest: datetime, latest: datetime) -> dict[str, Any]:
    """A date as the API writes it, UTC to the millisecond, and the full years since."""
    moment = earliest + timedelta(milliseconds=int(rng.random() * ((latest - earliest) / timedelta(milliseconds=1))))
    years = TODAY.year - moment.year - ((TODAY.month, TODAY.day) < (moment.month, moment.day))
    return {"date": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z", "age": years}


def _picture(rng: random.Random, gender: str) -> dict[str, str]:
    file = f"{'men' if gender == 'male' else 'women'}/{rng.randint(0, 96)}.jpg"
    return {
        "large": f"{PORTRAITS}/{file}",
        "medium": f"{PORTRAITS}/med/{file}",
        "thumbnail": f"{PORTRAITS}/thumb/{file}",
    }
