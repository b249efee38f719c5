from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from penstock.pipelines.users import PIPELINE, User, from_source

READ = [
    "gender",
    "name",
    "name.first",
    "name.last",
    "location",
    "location.street",
    "location.street.number",
    "location.street.name",
    "location.city",
    "location.state",
    "location.country",
    "location.postcode",
    "email",
    "login",
    "login.uuid",
    "login.username",
    "dob",
    "dob.date",
    "registered",
    "registered.date",
    "phone",
    "picture",
    "picture.large",
    "nat",
]
"""What is read of an entry of the API's answer."""
SECRETS = ("password", "salt", "md5", "sha1", "sha256")


def user_of(entry) -> User:
    return msgspec.convert(from_source(entry), User)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_captured_response_has_what_the_tests_below_need(captured_users):
    """The captured users have post codes as numbers and as text, several scripts, and an id without a value."""
    assert len(captured_users) == 30
    assert {type(user["location"]["postcode"]) for user in captured_users} == {int, str}
    assert any(not user["name"]["first"].isascii() for user in captured_users)
    assert any(user["id"]["value"] is None for user in captured_users)


@pytest.mark.parametrize("at", range(30))
def test_every_captured_user_keeps_its_fields(captured_users, at):
    """Each user of a real response becomes a record with the API's values, in any script."""
    entry = captured_users[at]
    user = user_of(entry)
    place, street = entry["location"], entry["location"]["street"]
    assert msgspec.structs.asdict(user) == {
        "id": UUID(entry["login"]["uuid"]),
        "first_name": entry["name"]["first"],
        "last_name": entry["name"]["last"],
        "gender": entry["gender"],
        "address": f"{street['number']} {street['name']}, {place['city']}, {place['state']}, {place['country']}",
        "post_code": str(place["postcode"]),
        "email": entry["email"],
        "username": entry["login"]["username"],
        "dob": instant(entry["dob"]["date"]),
        "registered_date": instant(entry["registered"]["date"]),
        "phone": entry["phone"],
        "picture": entry["picture"]["large"],
        "nationality": entry["nat"],
    }


def test_a_record_contains_no_secrets(entry):
    """Password, salt and hashes of the API are not in the record, neither by name nor by value."""
    entry["login"] |= {name: f"secret-{name}" for name in SECRETS}
    text = msgspec.json.encode(user_of(entry)).decode()
    assert "secret-" not in text
    assert not any(name in text for name in SECRETS)


@pytest.mark.parametrize(("postcode", "text"), [(8261, "8261"), ("08261", "08261"), ("K1A 0B1", "K1A 0B1"), (0, "0")])
def test_a_post_code_is_text(changed, postcode, text):
    """A numeric post code becomes its digits; a text keeps its zeros and letters."""
    assert user_of(changed("location.postcode", postcode)).post_code == text


def test_times_keep_their_instant(changed):
    """A date with another zone is the same instant."""
    user = user_of(changed("dob.date", "1990-01-02T03:04:05.678+05:30"))
    assert user.dob == datetime(1990, 1, 1, 21, 34, 5, 678_000, tzinfo=UTC)


def test_unused_fields_do_not_matter(entry):
    """Fields of an entry that the record does not use may be missing, or contain anything."""
    for name in ("cell", "id"):
        del entry[name]
    entry["location"]["coordinates"] = None
    entry["new"] = [1]
    assert user_of(entry).nationality == entry["nat"]


@pytest.mark.parametrize("path", READ)
def test_a_missing_field_is_named(changed, path):
    """An entry that lacks a field is rejected with the field's name and path."""
    parent, _, name = path.rpartition(".")
    with pytest.raises(msgspec.ValidationError) as refused:
        from_source(changed(path))
    assert f"missing required field `{name}`" in str(refused.value)
    assert not parent or f"`$.{parent}`" in str(refused.value)


@pytest.mark.parametrize("wrong", [[], None, True], ids=repr)
@pytest.mark.parametrize("path", READ)
def test_a_field_of_another_type_is_named(changed, path, wrong):
    """An entry with a field of another type is rejected with the field's path."""
    with pytest.raises(msgspec.ValidationError) as refused:
        from_source(changed(path, wrong))
    assert f"`$.{path}`" in str(refused.value)


@pytest.mark.parametrize("entry", [None, [], "user", 1, {}], ids=repr)
def test_an_entry_that_is_not_a_user_is_rejected(entry):
    """An entry of the response may be anything; what is not a user is rejected like an invalid user."""
    with pytest.raises(msgspec.ValidationError):
        from_source(entry)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("login.uuid", "no-uuid", "id"),
        ("name.first", "", "first_name"),
        ("name.last", "x" * 501, "last_name"),
        ("gender", "other", "gender"),
        ("location.city", "x" * 2000, "address"),
        ("location.postcode", "", "post_code"),
        ("email", "nobody", "email"),
        ("login.username", "", "username"),
        ("dob.date", "yesterday", "dob"),
        ("dob.date", "1990-01-02T03:04:05", "dob"),
        ("registered.date", "2020-13-01T00:00:00Z", "registered_date"),
        ("phone", "", "phone"),
        ("picture.large", "ftp://host/x.jpg", "picture"),
        ("nat", "Norway", "nationality"),
    ],
)
def test_a_broken_rule_is_reported_by_the_records_field(changed, path, value, field):
    """A value that breaks a rule of the contract is rejected with the record's field, and without the value."""
    with pytest.raises(msgspec.ValidationError, match=rf"`\$\.{field}`") as refused:
        user_of(changed(path, value))
    assert not value or value not in str(refused.value)


def test_public_names_are_stable():
    """Topic, subject, dead-letter topic, keyspace and table are the user's; they do not change accidentally."""
    assert (PIPELINE.topic, PIPELINE.subject, PIPELINE.dead_letter_topic) == (
        "users_created",
        "users_created-value",
        "users_created.dlq",
    )
    assert (PIPELINE.keyspace, PIPELINE.table) == ("spark_streams", "created_users")
    assert PIPELINE.stored is User
