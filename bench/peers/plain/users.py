"""Convert a user of the random user API to the flat record that is sent to Kafka."""

from typing import Any


def reshape(entry: dict[str, Any]) -> dict[str, str]:
    """Return the 13 fields of a user from one entry of the API's `results`. Dates are unchanged."""
    name, place, login = entry["name"], entry["location"], entry["login"]
    street = f"{place['street']['number']} {place['street']['name']}"
    return {
        "id": login["uuid"],
        "first_name": name["first"],
        "last_name": name["last"],
        "gender": entry["gender"],
        "address": f"{street}, {place['city']}, {place['state']}, {place['country']}",
        "post_code": str(place["postcode"]),
        "email": entry["email"],
        "username": login["username"],
        "dob": entry["dob"]["date"],
        "registered_date": entry["registered"]["date"],
        "phone": entry["phone"],
        "picture": entry["picture"]["large"],
        "nationality": entry["nat"],
    }
