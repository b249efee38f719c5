import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from penstock import pipelines
from penstock.config import read
from penstock.contract.fields import fields
from penstock.errors import WrongSettings
from penstock.pipelines import users
from penstock.pipelines.files import module_name
from penstock.pipelines.users import PIPELINE
from tests.unit.records import READINGS, Everything, Reading


@pytest.fixture
def module(monkeypatch):
    """Create an importable module that contains PIPELINE."""

    def make(name, **names):
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
        return name

    return make


@pytest.fixture(autouse=True)
def forget():
    """Remove from the modules what these tests load."""
    modules = set(sys.modules)
    yield
    pipelines.load.cache_clear()
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_the_effective_pipeline_is_that_of_the_settings():
    """Without a setting it is the users; with one, that module's."""
    assert pipelines.of(read()) is PIPELINE
    assert pipelines.of(read(pipeline="penstock.pipelines.users")) is PIPELINE


def test_a_custom_pipeline_is_found(module):
    """Any importable module with PIPELINE is a pipeline."""
    assert pipelines.load(module("my_readings", PIPELINE=READINGS)) is READINGS


def test_a_missing_module_is_an_invalid_setting():
    """The error names the variable and the module, and says how to go back."""
    with pytest.raises(
        WrongSettings, match="PENSTOCK_PIPELINE=no_such_module cannot be imported: ModuleNotFound"
    ) as wrong:
        pipelines.load("no_such_module")
    assert "PENSTOCK_PIPELINE" in wrong.value.hint


def test_a_module_without_a_pipeline_is_an_invalid_setting(module):
    """A module without PIPELINE is named with what it lacks."""
    with pytest.raises(WrongSettings, match="PENSTOCK_PIPELINE=empty_module: it defines no PIPELINE") as wrong:
        pipelines.load(module("empty_module"))
    assert "end empty_module with PIPELINE = Pipeline(topic=..." in wrong.value.hint


def test_a_pipeline_with_another_name_gets_a_hint(module):
    """For a module that names its pipeline otherwise, the error says which name to change."""
    with pytest.raises(WrongSettings, match="defines no PIPELINE; rename readings to PIPELINE"):
        pipelines.load(module("other_module", readings=READINGS))


def test_an_object_that_is_not_a_pipeline_is_an_invalid_setting(module):
    """PIPELINE must be a Pipeline; the error says what it is instead."""
    with pytest.raises(WrongSettings, match="PIPELINE is a dict, not a Pipeline"):
        pipelines.load(module("wrong_module", PIPELINE={}))


def test_the_row_is_stored_if_there_is_one():
    """Without a row, a pipeline stores its record."""
    assert READINGS.stored is Reading
    assert replace(PIPELINE, row=Everything).stored is Everything


def test_a_pipeline_may_be_a_file(tmp_path):
    """A file is a pipeline like a module, and its record works like an installed one."""
    file = tmp_path / "my_users.py"
    file.write_text(Path(users.__file__).read_text().replace('topic="users_created"', 'topic="mine"'))
    pipeline = pipelines.load(str(file))
    assert pipeline.topic == "mine"
    assert [field.name for field in fields(pipeline.record)] == [field.name for field in fields(users.User)]


def test_a_missing_file_is_an_invalid_setting(tmp_path):
    """The error names the file."""
    with pytest.raises(WrongSettings, match=r"PENSTOCK_PIPELINE=.*none\.py: file not found") as wrong:
        pipelines.load(str(tmp_path / "none.py"))
    assert f"ls {tmp_path}" in wrong.value.hint


@pytest.mark.parametrize(
    ("line", "expected", "hint"),
    [
        ("class Item(Record", "SyntaxError: '(' was never closed", "correct line 2 of {file}, then ./penstock config"),
        (
            "x = KEY",
            "NameError: name 'KEY' is not defined",
            "`from penstock.contract.record import KEY` at the head of",
        ),
        (
            "x = Digits",
            "NameError: name 'Digits' is not defined",
            "`from penstock.contract.record import Digits` at the head of",
        ),
        ("x = StrEnum", "NameError: name 'StrEnum' is not defined", "`from enum import StrEnum` at the head of"),
        (
            "from penstock.contract.record import Digits; x = Digits(40, 2)",
            "ValueError: Digits: the precision 40 is not between 1 and 38",
            "correct line 2 of {file}",
        ),
        ("x = keys", "NameError: name 'keys' is not defined", "correct line 2 of {file}"),
        ("import nowhere.to_be_found", "ModuleNotFoundError: No module named 'nowhere'", "install nowhere where"),
        ("from msgspec import Mata", "ImportError: cannot import name 'Mata'", "correct line 2 of {file}"),
        ("x = nope  # as said:", "NameError: name 'nope' is not defined", "correct line 2 of {file}"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero", "correct line 2 of {file}"),
        ("raise SystemExit(0)", "SystemExit: 0", "correct line 2 of {file}"),
        ("x = 1 + 'a'", "TypeError: unsupported operand type", "correct line 2 of {file}"),
    ],
)
def test_a_failing_import_reports_file_line_and_text(tmp_path, line, expected, hint):
    """Whatever a pipeline's file raises is an invalid setting, with the user's line and what to do about it."""
    file = tmp_path / "orders.py"
    file.write_text(f"# orders\n{line}\n")
    with pytest.raises(WrongSettings) as wrong:
        pipelines.load(str(file))
    heading, place = wrong.value.message.split("\n")
    assert heading.startswith(f"PENSTOCK_PIPELINE={file} cannot be imported: {expected}")
    assert place == f"  {file}, line 2: {line}"
    assert hint.format(file=file) in wrong.value.hint
    assert module_name(file) not in sys.modules


def test_a_failing_nested_import_reports_the_line_there(tmp_path, monkeypatch):
    """The line is the one in the user's own file where it failed, not that of a library, nor of the importer."""
    (tmp_path / "orders.py").write_text("import mapping_of_orders\n")
    mapping = tmp_path / "mapping_of_orders.py"
    mapping.write_text("from uuid import UUID\n\nZERO = UUID('0')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WrongSettings, match="badly formed hexadecimal UUID string") as wrong:
        pipelines.load(str(tmp_path / "orders.py"))
    assert wrong.value.message.endswith(f"\n  {mapping}, line 3: ZERO = UUID('0')")


def test_a_failing_module_reports_file_line_and_text(tmp_path, monkeypatch):
    """A pipeline that is a module is reported like a file."""
    (tmp_path / "orders_module.py").write_text("\n\nPIPELINE = Pipeline()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WrongSettings, match="NameError") as wrong:
        pipelines.load("orders_module")
    assert f"{tmp_path / 'orders_module.py'}, line 3: PIPELINE = Pipeline()" in wrong.value.message
    assert "from penstock.pipelines.definition import Pipeline" in wrong.value.hint


def test_a_failing_package_reports_file_line_and_text(tmp_path, monkeypatch):
    """The packages above a module are imported with it."""
    package = tmp_path / "company_of_orders"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1 / 0\n")
    (package / "orders.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WrongSettings, match="ZeroDivisionError") as wrong:
        pipelines.load("company_of_orders.orders")
    assert f"{package / '__init__.py'}, line 1: x = 1 / 0" in wrong.value.message


def test_a_file_that_is_not_text_is_an_invalid_setting(tmp_path):
    """Bytes that Python cannot read are reported with their file."""
    (tmp_path / "binary.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(WrongSettings, match=r"binary\.py"):
        pipelines.load(str(tmp_path / "binary.py"))
    (tmp_path / "zero.py").write_text("x = '\0'\n")
    with pytest.raises(WrongSettings, match="python3 -m py_compile"):
        pipelines.load(str(tmp_path / "zero.py"))


def test_all_problems_of_a_pipeline_are_reported_at_once(module):
    """The error names the pipeline, each invalid part, and the file to edit."""
    wrong_one = replace(READINGS, topic="a b", keyspace="system", table="ledger")
    with pytest.raises(WrongSettings) as wrong:
        pipelines.load(module("wrong_names", PIPELINE=wrong_one, __file__="/x/wrong_names.py"))
    heading, *parts = wrong.value.message.split("\n  ")
    assert heading == "PENSTOCK_PIPELINE=wrong_names: 3 problems"
    assert [part.partition(":")[0] for part in parts] == ["topic", "keyspace", "table"]
    assert wrong.value.hint == "edit /x/wrong_names.py, then ./penstock config"


def test_a_configured_keyspace_is_checked_too():
    """The setting is named if Cassandra would reject the keyspace."""
    assert pipelines.of(read(cassandra_keyspace="Mine_2")) is PIPELINE
    for keyspace in ("a-b", "a" * 49, "system_auth"):
        with pytest.raises(WrongSettings, match="PENSTOCK_CASSANDRA_KEYSPACE: "):
            pipelines.of(read(cassandra_keyspace=keyspace))
