"""`.env` is complete, private and never overwritten."""

import stat

import pytest

from penstock.compose import environment
from penstock.errors import UsageError

SECRETS = [secret.name for secret in environment.SECRETS]


def test_every_secret_is_generated(tmp_path):
    """All secrets are distinct, also between files, and readable only by their owner."""
    first, second = tmp_path / "a.env", tmp_path / "b.env"
    written = environment.add_missing_variables(first)
    environment.add_missing_variables(second)
    assert set(written) == {*SECRETS, "AIRFLOW_UID"}
    files = environment.read_env(first), environment.read_env(second)
    values = [file[name] for file in files for name in SECRETS]
    assert len(set(values)) == len(values)
    assert all(len(value) >= 20 for value in values)
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_existing_values_are_kept(tmp_path):
    """Existing values are kept. Only a removed secret is generated again."""
    path = tmp_path / ".env"
    environment.add_missing_variables(path)
    before = environment.read_env(path)
    assert environment.add_missing_variables(path) == []
    path.write_text("\n".join(f"{name}={value}" for name, value in before.items() if name != "CONTROL_PASSWORD"))
    assert environment.add_missing_variables(path) == ["CONTROL_PASSWORD"]
    after = environment.read_env(path)
    assert after.pop("CONTROL_PASSWORD") != before.pop("CONTROL_PASSWORD")
    assert after == before


def test_root_gets_the_user_id_of_the_images(tmp_path, monkeypatch):
    """The user id is the current user's, except for root and on Windows, which has no user ids."""
    for uid, expected in ((0, "50000"), (1234, "1234")):
        monkeypatch.setattr(environment.os, "getuid", lambda uid=uid: uid)
        path = tmp_path / f"{uid}.env"
        environment.add_missing_variables(path)
        assert environment.read_env(path)["AIRFLOW_UID"] == expected
    monkeypatch.delattr(environment.os, "getuid")
    assert environment.get_own_uid() == "50000"


def test_the_well_known_password_is_opt_in(tmp_path):
    """The well-known password is opt-in, and rejected on open addresses or if another one is set."""
    path = tmp_path / ".env"
    environment.add_missing_variables(path, simple_login=True)
    assert environment.read_env(path)["AIRFLOW_PASSWORD"] == "airflow"
    other = tmp_path / "other.env"
    environment.add_missing_variables(other)
    with pytest.raises(UsageError, match="is set already"):
        environment.add_missing_variables(other, simple_login=True)
    open_to_all = tmp_path / "open.env"
    open_to_all.write_text("BIND=0.0.0.0\n")
    with pytest.raises(UsageError, match=r"0\.0\.0\.0"):
        environment.add_missing_variables(open_to_all, simple_login=True)


def test_the_example_names_every_variable_and_no_secret():
    """The example lists all variables and no secret values."""
    example = environment.parse_env(environment.render_example().encode())
    assert example.errors == []
    assert list(example.variables) == [variable.name for variable in environment.VARIABLES]
    assert all(example.variables[name] == "" for name in SECRETS)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1000", "1000"),
        ("export A=1000", "1000"),
        ("A = 1000  # mine", "1000"),
        ("\ufeffA=1000\r", "1000"),
        ('A="a # b" # c', "a # b"),
        ("A='it is'", "it is"),
        ("A=", ""),
        ("A=# nothing", ""),
        ("A=a#b", "a#b"),
    ],
)
def test_lines_are_parsed_as_by_compose(line, value):
    """Lines are parsed as by Compose: quotes, comments, a byte order mark and Windows line endings."""
    assert environment.parse_env(line.encode()) == environment.EnvFile({"A": value}, [])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"AIRFLOW_UID 1000", "line 1, AIRFLOW_UID: expected NAME=value"),
        (b"\n# fine\nA='open", "line 3, A: unterminated quote"),
        (b"=hunter2", "line 1, ...: expected NAME=value"),
        ("AIRFLOW_UID=1000\r\n".encode("utf-16"), "not UTF-8"),
        (b"A=\xff\xfe\xfa", "not UTF-8"),
    ],
)
def test_an_invalid_file_is_an_error(content, error, tmp_path):
    """An invalid line is an error with its number, without its value. `compose init` keeps such a file."""
    (message,) = environment.parse_env(content).errors
    assert message.startswith(error)
    assert "hunter2" not in message
    path = tmp_path / ".env"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        environment.add_missing_variables(path)
    assert path.read_bytes() == content
