"""`.env`: whole, its owner's alone, and never written over."""

import stat

import pytest

from penstock.compose import environment
from penstock.errors import WrongUse

SECRETS = [one.name for one in environment.VARIABLES if one.make is not None]


def test_every_secret_is_made_anew(tmp_path):
    """No two are alike, neither here nor in another `.env`; only the owner reads them."""
    one, other = tmp_path / "a.env", tmp_path / "b.env"
    written = environment.init(one)
    environment.init(other)
    assert set(written) == {*SECRETS, "AIRFLOW_UID"}
    found, others = environment.read(one), environment.read(other)
    values = [known[name] for known in (found, others) for name in SECRETS]
    assert len(set(values)) == len(values)
    assert all(len(value) >= 20 for value in values)
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert environment.lacking(found) == []


def test_what_is_there_stays(tmp_path):
    """A second call writes nothing; one secret that is taken out is the only one that is made."""
    path = tmp_path / ".env"
    environment.init(path)
    before = environment.read(path)
    assert environment.init(path) == []
    path.write_text("\n".join(f"{name}={value}" for name, value in before.items() if name != "CONTROL_PASSWORD"))
    assert environment.lacking(environment.read(path)) == ["CONTROL_PASSWORD"]
    assert environment.init(path) == ["CONTROL_PASSWORD"]
    after = environment.read(path)
    assert after.pop("CONTROL_PASSWORD") != before.pop("CONTROL_PASSWORD")
    assert after == before


def test_root_is_no_user_of_the_images(tmp_path, monkeypatch):
    """Yours is taken, so that files are yours."""
    for uid, told in ((0, "50000"), (1234, "1234")):
        monkeypatch.setattr(environment.os, "getuid", lambda uid=uid: uid)
        path = tmp_path / f"{uid}.env"
        environment.init(path)
        assert environment.read(path)["AIRFLOW_UID"] == told


def test_the_password_that_everybody_knows_has_to_be_asked_for(tmp_path):
    """It is refused where others could reach it, and when another one is set."""
    path = tmp_path / ".env"
    environment.init(path, simple_login=True)
    assert environment.read(path)["AIRFLOW_PASSWORD"] == "airflow"
    other = tmp_path / "other.env"
    environment.init(other)
    with pytest.raises(WrongUse, match="is set already"):
        environment.init(other, simple_login=True)
    open_to_all = tmp_path / "open.env"
    open_to_all.write_text("BIND=0.0.0.0\n")
    with pytest.raises(WrongUse, match=r"0\.0\.0\.0"):
        environment.init(open_to_all, simple_login=True)


def test_the_example_names_every_variable_and_no_secret():
    """It can be looked at by anybody."""
    found = dict(environment._LINE.findall(environment.example()))
    assert list(found) == [one.name for one in environment.VARIABLES]
    assert all(found[name] == "" for name in SECRETS)
