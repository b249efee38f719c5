import json

import pytest
from typer.testing import CliRunner

from penstock.cli import app, schema
from penstock.contract.fields import fields
from penstock.errors import PenstockError
from penstock.pipelines.users import User

NAMES = [f"users_created.{suffix}" for suffix in ("json", "avsc", "ddl", "cql")]


@pytest.fixture
def root(monkeypatch, tmp_path):
    """A project of its own, without schemas yet."""
    monkeypatch.setattr(schema, "REPOSITORY", tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["schema", "render", *words])


def test_render_writes_each_schema_once(root):
    """The four renderings are written; where nothing changed, nothing is written again."""
    assert run().stdout.splitlines() == [f"wrote schemas/{name}" for name in NAMES]
    assert sorted(path.name for path in (root / "schemas").iterdir()) == sorted(NAMES)
    assert run().stdout == ""


def test_check_writes_nothing(root):
    """`--check` names what is stale and writes nothing; it passes once all is fresh."""
    failed = run("--check").exception
    assert isinstance(failed, PenstockError)
    assert all(name in failed.message for name in NAMES)
    assert failed.hint == "./penstock schema render"
    assert not (root / "schemas").exists()
    run()
    assert run("--check").exit_code == 0


def test_one_stale_file_is_named_alone(root):
    """A file that was edited, or is old, is found."""
    run()
    (root / "schemas" / NAMES[3]).write_text("DROP TABLE")
    assert run("--check").exception.message == f"stale in schemas/: {NAMES[3]}"


def test_renderings_hold_every_field(root):
    """Each rendering has every field of the record."""
    texts = {path.suffix: text for path, text in schema.renderings().items()}
    names = [field.name for field in fields(User)]
    assert list(json.loads(texts[".json"])["properties"]) == names
    assert [one["name"] for one in json.loads(texts[".avsc"])["fields"]] == names
    assert [line.split()[0] for line in texts[".ddl"].splitlines()] == names
    assert texts[".cql"].count(";") == 2
    assert all(f"  {name} " in texts[".cql"] for name in names)
