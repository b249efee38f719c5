from collections import Counter

import msgspec
import pytest

from penstock.pipelines.users import from_source
from penstock.source.hostile import MISTYPED, RESPONSE_FAULTS, Hostility, ResponseFault
from penstock.source.people import GENDERS, make_user

USER = make_user("s", 0, ["GB"], GENDERS)


def at(user, path):
    for field in path:
        user = user[field]
    return user


def test_rate_0_causes_no_faults():
    """With rate 0 there are no faults, and users are passed unchanged."""
    assert {Hostility().choose_fault(n) for n in range(200)} == {ResponseFault.NONE}
    assert Hostility().damage_user(USER, "s:1") is USER


def test_the_rate_is_the_share_of_faults():
    """The rate is the share of faulty responses, and every fault occurs."""
    counts = Counter(Hostility(rate=0.5).choose_fault(n) for n in range(2000))
    assert 900 < 2000 - counts[ResponseFault.NONE] < 1100
    assert counts.keys() >= set(RESPONSE_FAULTS)


def test_rate_1_causes_only_faults():
    """With rate 1 every response is faulty and every user damaged."""
    hostility = Hostility(rate=1)
    assert ResponseFault.NONE not in {hostility.choose_fault(n) for n in range(200)}
    assert all(hostility.damage_user(USER, str(n)) != USER for n in range(200))


def test_faults_depend_only_on_the_seed():
    """Faults depend only on the seed."""
    hostility, same, other = (Hostility(rate=0.5, seed=seed) for seed in ("a", "a", "b"))
    assert [hostility.choose_fault(n) for n in range(50)] == [same.choose_fault(n) for n in range(50)]
    assert [hostility.choose_fault(n) for n in range(50)] != [other.choose_fault(n) for n in range(50)]
    assert [hostility.damage_user(USER, str(n)) for n in range(50)] == [
        same.damage_user(USER, str(n)) for n in range(50)
    ]


def test_damage_does_not_change_the_original():
    """A damaged user is a copy."""
    before = msgspec.json.encode(USER)
    for n in range(200):
        Hostility(rate=1).damage_user(USER, str(n))
    assert msgspec.json.encode(USER) == before


def test_each_damage_occurs():
    """Each field that can be damaged is sometimes missing and sometimes mistyped."""
    seen = set()
    for n in range(2000):
        user = Hostility(rate=1).damage_user(USER, str(n))
        for path in MISTYPED:
            try:
                if at(user, path) != at(USER, path):
                    seen.add((path, "mistyped"))
            except KeyError:
                seen.add((path, "missing"))
    assert seen == {(path, how) for path in MISTYPED for how in ("mistyped", "missing")}


def test_a_damaged_user_is_not_a_record():
    """No damaged user can be converted to a record of the users' pipeline."""
    for n in range(500):
        with pytest.raises(msgspec.ValidationError):
            from_source(Hostility(rate=1).damage_user(USER, str(n)))
