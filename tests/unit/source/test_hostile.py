from collections import Counter

import msgspec
import pytest

from penstock.pipelines.users import from_source
from penstock.source.hostile import MISTYPED, TROUBLES, Hostility, Trouble
from penstock.source.people import GENDERS, make_user

USER = make_user("s", 0, ["GB"], GENDERS)


def at(user, path):
    for field in path:
        user = user[field]
    return user


def test_calm():
    """With rate 0 there are no faults, and users are passed unchanged."""
    assert {Hostility().trouble(n) for n in range(200)} == {Trouble.NONE}
    assert Hostility().touched(USER, "s:1") is USER


def test_rate_of_trouble():
    """The rate is the share of faulty responses, and every fault occurs."""
    counts = Counter(Hostility(rate=0.5).trouble(n) for n in range(2000))
    assert 900 < 2000 - counts[Trouble.NONE] < 1100
    assert counts.keys() >= set(TROUBLES)


def test_only_trouble():
    """With rate 1 every response is faulty and every user damaged."""
    hostility = Hostility(rate=1)
    assert Trouble.NONE not in {hostility.trouble(n) for n in range(200)}
    assert all(hostility.touched(USER, str(n)) != USER for n in range(200))


def test_repeatable():
    """Faults depend only on the seed."""
    hostility, same, other = (Hostility(rate=0.5, seed=seed) for seed in ("a", "a", "b"))
    assert [hostility.trouble(n) for n in range(50)] == [same.trouble(n) for n in range(50)]
    assert [hostility.trouble(n) for n in range(50)] != [other.trouble(n) for n in range(50)]
    assert [hostility.touched(USER, str(n)) for n in range(50)] == [same.touched(USER, str(n)) for n in range(50)]


def test_damage_leaves_the_original():
    """A damaged user is a copy: the original is unchanged."""
    before = msgspec.json.encode(USER)
    for n in range(200):
        Hostility(rate=1).touched(USER, str(n))
    assert msgspec.json.encode(USER) == before


def test_each_damage_comes():
    """Each field that can be damaged is sometimes missing and sometimes mistyped."""
    seen = set()
    for n in range(2000):
        user = Hostility(rate=1).touched(USER, str(n))
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
            from_source(Hostility(rate=1).touched(USER, str(n)))
