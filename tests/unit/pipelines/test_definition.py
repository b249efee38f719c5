import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from penstock import pipelines
from penstock.config import read
from penstock.contract.fields import fields
from penstock.contract.keys import KEY_FORMATS
from penstock.errors import WrongSettings
from penstock.pipelines import users
from penstock.pipelines.users import PIPELINE
from tests.unit.records import READINGS, Everything, Reading


@pytest.fixture
def module(monkeypatch):
    """Makes an importable module that holds PIPELINE."""

    def make(name, **names):
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
        return name

    return make


@pytest.fixture(autouse=True)
def forget():
    """What these tests load is not found by others, nor kept among the modules."""
    modules = set(sys.modules)
    yield
    pipelines.load.cache_clear()
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_the_pipeline_in_force_is_that_of_the_settings():
    """Without a setting it is the users; with one, that module's."""
    assert pipelines.of(read()) is PIPELINE
    assert pipelines.of(read(pipeline="penstock.pipelines.users")) is PIPELINE


def test_a_pipeline_of_ones_own_is_found(module):
    """Any module that can be imported and holds PIPELINE is a pipeline."""
    assert pipelines.load(module("my_readings", PIPELINE=READINGS)) is READINGS


def test_a_module_that_is_not_there_is_a_wrong_setting():
    """The error names the variable and the module, and says how to go back."""
    with pytest.raises(WrongSettings, match="PENSTOCK_PIPELINE=no_such_module: No module named") as wrong:
        pipelines.load("no_such_module")
    assert "PENSTOCK_PIPELINE" in wrong.value.hint


def test_a_module_without_a_pipeline_is_a_wrong_setting(module):
    """A module that holds no PIPELINE is named with what it lacks."""
    with pytest.raises(WrongSettings, match=r"PENSTOCK_PIPELINE=empty_module: .*PIPELINE"):
        pipelines.load(module("empty_module"))


def test_a_pipeline_that_is_none_is_a_wrong_setting(module):
    """PIPELINE must be a Pipeline; the error says what it is instead."""
    with pytest.raises(WrongSettings, match="PIPELINE is a dict, not a Pipeline"):
        pipelines.load(module("wrong_module", PIPELINE={}))


@pytest.mark.parametrize("field", ["keyspace", "table"])
def test_a_name_that_cql_would_not_take_is_refused(field):
    """Keyspace and table are checked when the pipeline is defined, not when it runs."""
    with pytest.raises(ValueError, match="not a CQL name"):
        replace(READINGS, **{field: "Not-A-Name"})


def test_a_row_must_have_the_key_of_the_record():
    """What a transform makes of a record is still known by the record's key."""
    with pytest.raises(TypeError, match="Everything must have the key of Reading"):
        replace(READINGS, row=Everything)


def test_what_is_stored_is_the_row_when_there_is_one():
    """Without a row of its own, a pipeline stores its record."""
    assert READINGS.stored is Reading
    assert replace(PIPELINE, row=Everything).stored is Everything


def test_a_pipeline_may_be_a_file(tmp_path):
    """A file is a pipeline as a module is, and its record works as one that is installed."""
    file = tmp_path / "my_users.py"
    file.write_text(Path(users.__file__).read_text().replace('topic="users_created"', 'topic="mine"'))
    pipeline = pipelines.load(str(file))
    assert pipeline.topic == "mine"
    assert [field.name for field in fields(pipeline.record)] == [field.name for field in fields(users.User)]


def test_a_file_that_is_not_there_is_a_wrong_setting(tmp_path):
    """The error names the file."""
    with pytest.raises(WrongSettings, match=r"PENSTOCK_PIPELINE=.*none\.py"):
        pipelines.load(str(tmp_path / "none.py"))


def test_a_key_format_that_does_not_exist_is_refused():
    """A pipeline's file that declares one fails when it is loaded, with those that there are."""
    assert [replace(READINGS, key_format=name).key_format for name in KEY_FORMATS] == list(KEY_FORMATS)
    with pytest.raises(ValueError, match="invalid key_format 'avro': expected text, json, connect, registry, or None"):
        replace(READINGS, key_format="avro")
