"""The random users: from https://randomuser.me (API 1.4) to spark_streams.created_users.

To carry records of your own, copy this file, change the three parts, and set PENSTOCK_PIPELINE to its module.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from penstock.contract.record import KEY, PAST, PERSONAL, Record
from penstock.pipelines.definition import Pipeline

# 1. The record: field, type, rules, marks.

Text = Annotated[str, Meta(min_length=1, max_length=500)]
Moment = Annotated[datetime, Meta(tz=True)]


class User(Record, frozen=True, kw_only=True):
    """A user as it is sent through Kafka and stored in Cassandra. Times are UTC."""

    id: Annotated[UUID, Meta(description="The API's login.uuid.", extra=KEY)]
    first_name: Annotated[Text, Meta(description="Given name, in the user's own script.", extra=PERSONAL)]
    last_name: Annotated[Text, Meta(description="Family name, in the user's own script.", extra=PERSONAL)]
    gender: Annotated[str, Meta(pattern="^(female|male)$", description="female or male.")]
    address: Annotated[
        str,
        Meta(
            min_length=1, max_length=2000, description="{number} {street}, {city}, {state}, {country}", extra=PERSONAL
        ),
    ]
    post_code: Annotated[
        str, Meta(min_length=1, max_length=20, description="As text: some countries use letters.", extra=PERSONAL)
    ]
    email: Annotated[
        str, Meta(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$", description="E-mail address.", extra=PERSONAL)
    ]
    username: Annotated[Text, Meta(description="Login name.", extra=PERSONAL)]
    dob: Annotated[Moment, Meta(description="Date of birth.", extra=PERSONAL | PAST)]
    registered_date: Annotated[Moment, Meta(description="When the user registered.", extra=PAST)]
    phone: Annotated[str, Meta(min_length=1, max_length=50, description="Telephone number as given.", extra=PERSONAL)]
    picture: Annotated[
        str, Meta(max_length=2000, pattern=r"^https?://\S+$", description="URL of a portrait.", extra=PERSONAL)
    ]
    nationality: Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166 code of the country.")]


# 2. The source: what is used of an entry of the API's response. The rest (password, salt, hashes) is never read.


class _Name(msgspec.Struct):
    first: str
    last: str


class _Street(msgspec.Struct):
    number: int | str
    name: str


class _Location(msgspec.Struct):
    street: _Street
    city: str
    state: str
    country: str
    postcode: int | str


class _Login(msgspec.Struct):
    uuid: str
    username: str


class _Dated(msgspec.Struct):
    date: str


class _Picture(msgspec.Struct):
    large: str


class _ApiUser(msgspec.Struct):
    gender: str
    name: _Name
    location: _Location
    email: str
    login: _Login
    dob: _Dated
    registered: _Dated
    phone: str
    picture: _Picture
    nat: str


def from_source(entry: Any) -> dict[str, Any]:
    """Return the fields of a `User` from an entry of `results`. Raises `msgspec.ValidationError` for missing fields."""
    user = msgspec.convert(entry, _ApiUser)
    place = user.location
    return {
        "id": user.login.uuid,
        "first_name": user.name.first,
        "last_name": user.name.last,
        "gender": user.gender,
        "address": f"{place.street.number} {place.street.name}, {place.city}, {place.state}, {place.country}",
        "post_code": str(place.postcode),
        "email": user.email,
        "username": user.login.username,
        "dob": user.dob.date,
        "registered_date": user.registered.date,
        "phone": user.phone,
        "picture": user.picture.large,
        "nationality": user.nat,
    }


# 3. The destination.

PIPELINE = Pipeline(
    topic="users_created",
    keyspace="spark_streams",
    table="created_users",
    record=User,
    from_source=from_source,
    secret=frozenset({"password", "salt", "md5", "sha1", "sha256"}),
)
