import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any
from uuid import UUID

import msgspec
import pytest

from penstock.pipelines.users import from_source
from penstock.source.nationalities import NATIONALITIES
from penstock.source.people import GENDERS, make_user, pool_of

ALL = tuple(NATIONALITIES)
USERS = [make_user("seed", place, ALL, GENDERS) for place in range(1000)]


def types_by_path(value: Any, path: str = "") -> dict[str, set[str]]:
    """Collect the type names at each path of nested objects, in the objects' order."""
    if not isinstance(value, dict):
        return {path: {type(value).__name__}}
    return {
        place: kinds for key, part in value.items() for place, kinds in types_by_path(part, f"{path}.{key}").items()
    }


def merged(users: list[Any]) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for user in users:
        for path, kinds in types_by_path(user).items():
            result.setdefault(path, set()).update(kinds)
    return result


def test_generated_users_have_the_shape_of_captured_ones(captured_file):
    """Generated users have the fields of captured users, in the same order and with the same types."""
    captured = msgspec.json.decode(captured_file.read_bytes())["results"]
    assert merged(USERS) == merged(captured)
    assert {tuple(types_by_path(user)) for user in USERS} == {tuple(types_by_path(user)) for user in captured}


def test_the_same_position_is_the_same_user():
    """A user depends only on seed, position, nationalities and genders."""
    assert make_user("seed", 7, ALL, GENDERS) == USERS[7]
    assert make_user("other", 7, ALL, GENDERS) != USERS[7]


def test_another_process_generates_the_same_users():
    """Another process with another hash seed generates the same users."""
    code = (
        "import json; from penstock.source.people import *; from penstock.source.nationalities import *;"
        "print(json.dumps([make_user('seed', n, tuple(NATIONALITIES), GENDERS) for n in range(60)]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert msgspec.json.decode(result.stdout) == USERS[:60]


def test_ids_are_unique():
    """Each position of each seed has a unique UUID, of the API's version."""
    ids = [UUID(user["login"]["uuid"]) for user in USERS]
    ids += [UUID(make_user("other", place, ALL, GENDERS)["login"]["uuid"]) for place in range(1000)]
    assert len(set(ids)) == 2000
    assert {id_.version for id_ in ids} == {4}


def test_every_nationality_and_gender_occurs():
    """Users have all nationalities and genders."""
    counts = Counter((user["nat"], user["gender"]) for user in USERS)
    assert counts.keys() == {(nat, gender) for nat in ALL for gender in GENDERS}


def test_nationality_and_gender_can_be_chosen():
    """Only requested nationalities and genders are returned, with the country's name."""
    users = [make_user("s", place, ["NO", "GB"], ["female"]) for place in range(100)]
    assert {(user["nat"], user["gender"]) for user in users} == {("NO", "female"), ("GB", "female")}
    assert {user["location"]["country"] for user in users} == {"Norway", "United Kingdom"}
    assert {user["picture"]["large"].split("/")[-2] for user in users} == {"women"}


@pytest.mark.parametrize(
    ("nat", "pattern"),
    [
        ("GB", r"[A-Z]{2}\d \d[A-Z]{2}"),
        ("CA", r"[A-Z]\d[A-Z] \d[A-Z]\d"),
        ("NL", r"[1-9]\d{3} [A-Z]{2}"),
        ("NO", r"\d{4}"),
    ],
)
def test_post_codes_of_some_countries_are_text(nat, pattern):
    """The post codes of these countries are text."""
    codes = [make_user("s", place, [nat], GENDERS)["location"]["postcode"] for place in range(50)]
    assert all(re.fullmatch(pattern, code) for code in codes)


def test_post_codes_of_other_countries_are_numbers():
    """The post codes of the other countries are numbers."""
    kinds = {(user["nat"], type(user["location"]["postcode"])) for user in USERS}
    assert {nat for nat, kind in kinds if kind is int} == set(ALL) - {"GB", "CA", "NL", "NO"}


def test_id_may_be_null():
    """Without an identity number, the id's value is null and its name empty."""
    assert {user["nat"] for user in USERS if user["id"] == {"name": "", "value": None}} == {"IR", "NZ", "TR", "UA"}


@pytest.mark.parametrize(("nat", "script"), [("IR", "[\u0600-\u06ff]"), ("UA", "[\u0400-\u04ff]"), ("TR", "[çğıöşüİ]")])
def test_names_use_their_own_script(nat, script):
    """Names use their own script, e-mail addresses ASCII."""
    users = [make_user("s", place, [nat], GENDERS) for place in range(30)]
    assert any(re.search(script, user["name"]["last"]) for user in users)
    assert all(re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+@example\.com", user["email"]) for user in users)


def test_login_hashes_are_those_of_password_and_salt():
    """The hashes are those of password and salt."""
    login = USERS[0]["login"]
    secret = (login["password"] + login["salt"]).encode()
    assert login["sha256"] == hashlib.sha256(secret).hexdigest()
    assert login["sha1"] == hashlib.sha1(secret).hexdigest()
    assert login["md5"] == hashlib.md5(secret).hexdigest()


def test_dates_have_the_apis_format():
    """And birth is before registration."""
    for user in USERS[:500]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", user["dob"]["date"])
        assert user["dob"]["date"] < user["registered"]["date"]
        assert 24 <= user["dob"]["age"] <= 81


def test_every_user_is_a_record():
    """Every generated user can be converted to a record of the users' pipeline."""
    for user in USERS:
        assert from_source(user)["id"] == user["login"]["uuid"]


@pytest.mark.parametrize("nat", ALL)
def test_pools_are_varied(nat):
    """Each nationality has enough distinct names, none empty."""
    pool = pool_of(nat)
    assert min(len(pool.first["male"]), len(pool.first["female"]), len(pool.last)) > 40
    values = [*pool.first["male"], *pool.first["female"], *pool.last, *pool.streets, *pool.cities, *pool.regions]
    assert all(value.strip() for value in values)
