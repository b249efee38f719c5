"""Generate users in the format of the random user API 1.4, deterministic per seed and position.

Faker fills a pool of values per nationality once. Users are drawn from the pools, which is fast.
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
TODAY = datetime(2026, 1, 1, tzinfo=UTC)  # ages refer to this date, so that a seed's users never change
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
    """Pool of values of one nationality."""

    first: dict[str, list[str]]  # by gender
    last: list[str]
    streets: Sequence[str]
    cities: Sequence[str]
    regions: Sequence[str]


@cache
def pool_of(nat: str) -> Pool:
    """Return the pool of a nationality. Deterministic, filled by Faker at the first call."""
    nationality = NATIONALITIES[nat]
    fake = Faker(nationality.locale)
    fake.seed_instance(nat)
    return Pool(
        first={"male": _draw_distinct(fake.first_name_male), "female": _draw_distinct(fake.first_name_female)},
        last=_draw_distinct(fake.last_name),
        streets=nationality.streets or _draw_distinct(fake.street_name),
        cities=nationality.cities or _draw_distinct(fake.city),
        regions=nationality.regions or _draw_distinct(getattr(fake, nationality.region)),
    )


@cache
def draw_words() -> list[str]:
    """Return the words that passwords consist of."""
    fake = Faker("en_US")
    fake.seed_instance("words")
    return _draw_distinct(fake.word)


def fill_pools() -> None:
    """Fill all pools in advance, so that no request has to."""
    draw_words()
    for nat in NATIONALITIES:
        pool_of(nat)


def make_user(seed: str, position: int, nats: Sequence[str], genders: Sequence[str]) -> dict[str, Any]:
    """Generate the user at `position` (from 0) of `seed`, with one of `nats` and of `genders`."""
    rng = random.Random(f"{seed}:{position}")  # noqa: S311 - must be reproducible
    nat, gender = rng.choice(nats), rng.choice(genders)
    nationality, pool = NATIONALITIES[nat], pool_of(nat)
    first, last = rng.choice(pool.first[gender]), rng.choice(pool.last)
    return {
        "gender": gender,
        "name": {
            "title": "Mr" if gender == "male" else rng.choice(("Miss", "Mrs", "Ms")),
            "first": first,
            "last": last,
        },
        "location": _draw_location(rng, nationality, pool),
        "email": f"{to_latin(first)}.{to_latin(last)}@example.com",
        "login": _draw_login(rng, seed, position),
        "dob": _draw_date(rng, *BORN),
        "registered": _draw_date(rng, *REGISTERED),
        "phone": fill_pattern(rng, nationality.phone),
        "cell": fill_pattern(rng, nationality.cell),
        "id": {
            "name": nationality.id_name,
            "value": fill_pattern(rng, nationality.id_value) if nationality.id_value else None,
        },
        "picture": _draw_picture(rng, gender),
        "nat": nat,
    }


def fill_pattern(rng: random.Random, pattern: str) -> str:
    """Replace `#`, `%` and `@` in a pattern of `nationalities`."""
    return "".join([_FILL[char](rng) if char in _FILL else char for char in pattern])


_FILL: dict[str, Callable[[random.Random], str]] = {
    "#": lambda rng: "0123456789"[int(rng.random() * 10)],
    "%": lambda rng: "123456789"[int(rng.random() * 9)],
    "@": lambda rng: CAPITALS[int(rng.random() * 26)],
}


def _draw_distinct(draw: Callable[[], str]) -> list[str]:
    """Draw values and return the distinct ones in order."""
    return list(dict.fromkeys(draw() for _ in range(POOL_DRAWS)))


def _draw_location(rng: random.Random, nationality: Nationality, pool: Pool) -> dict[str, Any]:
    post_code = nationality.post_code
    offset, description = rng.choice(TIMEZONES)
    return {
        "street": {"number": rng.randint(1, 9999), "name": rng.choice(pool.streets)},
        "city": rng.choice(pool.cities),
        "state": rng.choice(pool.regions),
        "country": nationality.country,
        "postcode": fill_pattern(rng, post_code) if isinstance(post_code, str) else rng.randint(*post_code),
        "coordinates": {"latitude": f"{rng.uniform(-90, 90):.4f}", "longitude": f"{rng.uniform(-180, 180):.4f}"},
        "timezone": {"offset": offset, "description": description},
    }


def _draw_login(rng: random.Random, seed: str, position: int) -> dict[str, str]:
    password = rng.choice(draw_words())
    salt = "".join(rng.choices(SALT_LETTERS, k=8))
    secret = (password + salt).encode()
    digest = hashlib.sha256(f"{seed}:{position}".encode()).digest()
    return {
        "uuid": str(UUID(bytes=digest[:16], version=4)),
        "username": f"{rng.choice(_COLOURS)}{rng.choice(_ANIMALS)}{rng.randint(100, 999)}",
        "password": password,
        "salt": salt,
        "md5": hashlib.md5(secret, usedforsecurity=False).hexdigest(),
        "sha1": hashlib.sha1(secret, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(secret).hexdigest(),
    }


_COLOURS, _ANIMALS = COLOURS.split(), ANIMALS.split()


def _draw_date(rng: random.Random, earliest: datetime, latest: datetime) -> dict[str, Any]:
    """Draw a date and return it in the API's format, UTC with milliseconds, with the full years since."""
    date = earliest + timedelta(milliseconds=int(rng.random() * ((latest - earliest) / timedelta(milliseconds=1))))
    years = TODAY.year - date.year - ((TODAY.month, TODAY.day) < (date.month, date.day))
    return {"date": f"{date:%Y-%m-%dT%H:%M:%S}.{date.microsecond // 1000:03d}Z", "age": years}


def _draw_picture(rng: random.Random, gender: str) -> dict[str, str]:
    file = f"{'men' if gender == 'male' else 'women'}/{rng.randint(0, 96)}.jpg"
    return {
        "large": f"{PORTRAITS}/{file}",
        "medium": f"{PORTRAITS}/med/{file}",
        "thumbnail": f"{PORTRAITS}/thumb/{file}",
    }
