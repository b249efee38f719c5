"""The checks and secrets of secrets-init, before all other containers."""

import json
import stat

import pytest

from penstock.compose import environment, preflight
from penstock.errors import UsageError

OWN = {"AIRFLOW_PASSWORD": "mine", "CONTROL_PASSWORD": "mine too"}
UID = 1000


@pytest.fixture
def folder(tmp_path):
    """The volumes, as the image creates them."""
    for service in ("all", *preflight.FILES):
        (tmp_path / service).mkdir()
    return tmp_path


def check(dags, environ=(), uid=UID, memory_mib=8000):
    preflight.check_requirements(dict(environ), uid, memory_mib, dags)


def written(folder):
    """Read all files of the services, without those of secrets-init itself."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "all")
    return {f"{path.parent.name}/{path.name}": path.read_text() for path in files}


@pytest.mark.parametrize("environ", [{}, {"BIND": "127.0.0.1"}, {"BIND": "::1"}, {"BIND": "0.0.0.0", **OWN}])
def test_a_suitable_machine_passes(environ, tmp_path):
    """On loopback all variables are optional. Other addresses require two passwords."""
    check(tmp_path, environ)


@pytest.mark.parametrize(
    ("environ", "uid", "memory_mib", "message"),
    [
        ({}, 0, 8000, "AIRFLOW_UID=0: no container runs as root"),
        ({}, UID, 4000, "4000 MiB of memory"),
        ({"BIND": "0.0.0.0"}, UID, 8000, "AIRFLOW_PASSWORD and CONTROL_PASSWORD must be set"),
        ({"BIND": "192.168.1.5", "AIRFLOW_PASSWORD": "mine"}, UID, 8000, ": CONTROL_PASSWORD must be set"),
        ({"BIND": "::", **OWN, "AIRFLOW_PASSWORD": "airflow"}, UID, 8000, ": AIRFLOW_PASSWORD must be set"),
    ],
)
def test_settings_that_would_fail_or_be_open_are_rejected(environ, uid, memory_mib, message, tmp_path):
    """Settings that would fail or be open are rejected, in one line with a hint."""
    with pytest.raises(UsageError, match=message) as error:
        check(tmp_path, environ, uid, memory_mib)
    assert error.value.hint
    assert "\n" not in error.value.message


def test_unreadable_dags_are_an_error(tmp_path, monkeypatch):
    """Unreadable DAGs are an error. Airflow would start without them."""
    (tmp_path / "a.py").write_text("")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(preflight.Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match=r"user 1000 cannot read .*a\.py"):
        check(tmp_path)


def test_secrets_are_generated_once(folder):
    """Secrets are distinct, and a second start writes the same ones."""
    preflight.write_secrets({}, UID, folder)
    before = written(folder)
    preflight.write_secrets({}, UID, folder)
    assert written(folder) == before
    kept = json.loads((folder / "all" / "secrets.json").read_text())["values"]
    values = [values[0] for name, values in kept.items() if name not in preflight.WITHOUT_VALUE]
    assert len(set(values)) == len(values) == len(environment.SECRETS) - 2
    assert all(len(value) >= 20 for value in values)
    assert stat.S_IMODE((folder / "all" / "secrets.json").stat().st_mode) == 0o640


def test_each_service_gets_its_own_secrets_only(folder):
    """A service's volume has only its own secrets."""
    environ = {secret.name: f"the {secret.name}" for secret in environment.SECRETS}
    preflight.write_secrets(environ, UID, folder)
    files = {
        service: {name for name in environ if any(f"the {name}".replace(" ", s) in t for s in (" ", "%20"))}
        for service, t in (
            (service, " ".join(text for name, text in written(folder).items() if name.startswith(f"{service}/")))
            for service in preflight.FILES
        )
        if t
    }
    airflow = {name for name in environ if name.startswith("AIRFLOW")} | {"POSTGRES_PASSWORD"}
    assert files == {
        "airflow": airflow,
        "cassandra": {"CASSANDRA_PASSWORD"},
        "control-center": {"CONTROL_PASSWORD", "AIRFLOW_PASSWORD", "CASSANDRA_PASSWORD"},
        "pipeline-init": {"CASSANDRA_PASSWORD", "CASSANDRA_ADMIN_PASSWORD"},
        "postgres": {"POSTGRES_PASSWORD"},
        "spark": {"SPARK_AUTH_SECRET", "CASSANDRA_PASSWORD"},
        "spark-master": {"SPARK_AUTH_SECRET"},
        "watch": {"AIRFLOW_PASSWORD", "CASSANDRA_PASSWORD"},
    }


def test_without_a_value_the_default_password_applies(folder):
    """Without values, the password is airflow and there is no sign-in, also after a value is removed."""
    preflight.write_secrets({}, UID, folder)
    before = written(folder)
    assert before["control-center/penstock_airflow_password"] == "airflow"
    assert before["control-center/penstock_control_password"] == ""
    preflight.write_secrets(OWN, UID, folder)
    assert written(folder)["control-center/penstock_control_password"] == "mine too"
    preflight.write_secrets({}, UID, folder)
    assert written(folder) == before


def test_a_new_value_is_used_and_the_old_one_kept(folder):
    """A new value is used. Old ones are kept for databases with the old password and for encrypted data."""
    preflight.write_secrets({}, UID, folder)
    old = json.loads((folder / "all" / "secrets.json").read_text())["values"]
    new = {"POSTGRES_PASSWORD": "p@ss /%w", "CASSANDRA_ADMIN_PASSWORD": "admin", "AIRFLOW_FERNET_KEY": "key"}
    for _ in range(2):
        preflight.write_secrets(new, UID, folder)
        files = written(folder)
        assert files["postgres/postgres_password"] == "p@ss /%w"
        assert files["airflow/airflow_database_url"].endswith("://airflow:p%40ss%20%2F%25w@postgres/airflow")
        assert json.loads(files["airflow/postgres_passwords"]) == ["p@ss /%w", *old["POSTGRES_PASSWORD"]]
        kept = json.loads(files["pipeline-init/cassandra_admin_passwords"])
        assert kept == ["admin", *old["CASSANDRA_ADMIN_PASSWORD"]]
        assert files["airflow/airflow_fernet_key"] == f"key,{old['AIRFLOW_FERNET_KEY'][0]}"


def test_another_user_id_than_the_volumes_is_rejected(folder):
    """Another user id than that of the volumes is rejected before anything is written."""
    preflight.write_secrets({}, UID, folder)
    before = written(folder)
    with pytest.raises(UsageError, match="AIRFLOW_UID is 1001, but the volumes were created with 1000"):
        preflight.write_secrets(OWN, 1001, folder)
    assert written(folder) == before
