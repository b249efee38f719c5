import json

from penstock.config import read
from penstock.web.effective_settings import HIDDEN, Secrets, collect_secrets, list_effective_settings


def settings_of(tmp_path, **changes):
    (tmp_path / "secrets.json").write_text(json.dumps({"made": "made-here-once"}))
    return read(home=tmp_path, **changes)


def test_every_setting_has_its_variable_and_whether_it_is_the_default(tmp_path):
    """Including defaults that are derived from ports."""
    result = {
        setting.variable: setting
        for setting in list_effective_settings(settings_of(tmp_path, kafka_port=19092, log_level="DEBUG"))
    }
    assert len(result) == len(type(read()).model_fields)
    assert result["PENSTOCK_LOG_LEVEL"].is_default is False
    assert result["PENSTOCK_KAFKA_PARTITIONS"].is_default is True
    bootstrap = result["PENSTOCK_KAFKA_BOOTSTRAP"]
    assert (bootstrap.value, bootstrap.is_default) == ("127.0.0.1:19092", True)
    assert all(item.description for item in result.values())


def test_secrets_and_userinfo_are_hidden(tmp_path):
    """A secret that is not set is empty, not hidden."""
    settings = settings_of(tmp_path, kafka_password="hush", source_url="https://me:word@host/api")
    result = {setting.variable: setting.value for setting in list_effective_settings(settings)}
    assert result["PENSTOCK_KAFKA_PASSWORD"] == HIDDEN
    assert result["PENSTOCK_CASSANDRA_PASSWORD"] == ""
    assert result["PENSTOCK_SOURCE_URL"] == f"https://{HIDDEN}@host/api"


def test_a_secret_is_hidden_wherever_it_occurs(tmp_path):
    """Those of the settings, plain and URL-encoded; those in URLs; those generated for this data directory."""
    settings = settings_of(tmp_path, kafka_password="hu/sh", registry_url="http://me:word7@host/")
    line = "hu/sh hu%2Fsh word7 made-here-once http://you:other@host/ airflow stays"
    assert (
        collect_secrets(settings).hide(line)
        == f"{HIDDEN} {HIDDEN} {HIDDEN} {HIDDEN} http://{HIDDEN}@host/ airflow stays"
    )


def test_the_longer_of_two_secrets_is_hidden_as_a_whole():
    """Even if it starts with the other."""
    assert Secrets(["abc", "abcdef"]).hide("abcdef abc") == f"{HIDDEN} {HIDDEN}"
    assert Secrets([]).hide("abc") == "abc"
