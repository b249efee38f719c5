"""Find a pipeline, check it, and report where its file is wrong."""

import sys
import sysconfig
import traceback
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import penstock
from penstock import remedies
from penstock.config import Settings
from penstock.contract import names
from penstock.errors import WrongSettings
from penstock.pipelines.definition import Pipeline
from penstock.pipelines.files import module_name
from penstock.pipelines.validate import find_problems

_EXAMPLE = "PIPELINE = Pipeline(topic=..., keyspace=..., table=..., record=..., from_source=...)"
_BACK = "PENSTOCK_PIPELINE=penstock.pipelines.users for the users"
_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), *penstock.__path__)
_IMPORTS = {
    **dict.fromkeys(("KEY", "PAST", "PERSONAL", "Digits", "Int64", "Record"), "penstock.contract.record"),
    **dict.fromkeys(("Annotated", "Any", "Literal"), "typing"),
    **dict.fromkeys(("date", "datetime", "time", "timedelta", "UTC"), "datetime"),
    **{
        "Meta": "msgspec",
        "Pipeline": "penstock.pipelines.definition",
        "UUID": "uuid",
        "Decimal": "decimal",
        "StrEnum": "enum",
    },
}
"""Modules from which a pipeline's file imports the names that most files use."""


def of(settings: Settings) -> Pipeline:
    """Return the effective pipeline, checked.

    Raises `WrongSettings` that says what is wrong with it and what to write instead.
    """
    pipeline = load(settings.pipeline)
    if settings.cassandra_keyspace:
        try:
            names.check_keyspace(settings.cassandra_keyspace)
        except ValueError as error:
            raise WrongSettings(f"PENSTOCK_CASSANDRA_KEYSPACE: {error}", hint=remedies.show_settings()) from None
    return pipeline


@cache
def load(name: str) -> Pipeline:
    """Return the `PIPELINE` of the module called `name`, or of the file if it ends in .py; checked.

    Raises `WrongSettings`, like `of`.
    """
    module = _import_pipeline(name)
    pipeline = getattr(module, "PIPELINE", None)
    file = module.__dict__.get("__file__") or name
    if not isinstance(pipeline, Pipeline):
        raise WrongSettings(
            f"PENSTOCK_PIPELINE={name}: {_describe_missing(module)}", hint=f"end {file} with {_EXAMPLE}"
        )
    reasons = find_problems(pipeline)
    if reasons:
        heading = f"PENSTOCK_PIPELINE={name}: {len(reasons)} {'problem' if len(reasons) == 1 else 'problems'}"
        raise WrongSettings("\n  ".join([heading, *reasons]), hint=f"edit {file}, then {remedies.show_settings()}")
    return pipeline


def _describe_missing(module: ModuleType) -> str:
    """Return what is wrong with a module without a valid PIPELINE."""
    if hasattr(module, "PIPELINE"):
        return f"PIPELINE is a {type(module.PIPELINE).__name__}, not a Pipeline"
    others = [name for name, value in vars(module).items() if isinstance(value, Pipeline)]
    return "it defines no PIPELINE" + (f"; rename {' or '.join(others)} to PIPELINE" if others else "")


def _import_pipeline(name: str) -> ModuleType:
    """Import a pipeline's module or file; report whatever that raises with its line, as `WrongSettings`."""
    if name.endswith(".py") and not Path(name).is_file():
        raise WrongSettings(f"PENSTOCK_PIPELINE={name}: file not found", hint=f"ls {Path(name).parent}, or {_BACK}")
    try:
        return _import_file(Path(name)) if name.endswith(".py") else import_module(name)
    except (Exception, SystemExit) as error:  # user code: may raise anything, and must not end the process
        line = _line_of(error, name)
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        heading = f"PENSTOCK_PIPELINE={name} cannot be imported: {type(error).__name__}: {message}"
        raise WrongSettings(
            f"{heading}\n  {line}" if line else heading, hint=_suggest_fix(error, name, line)
        ) from error


def _import_file(path: Path) -> ModuleType:
    spec = spec_from_file_location(module_name(path), path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # msgspec resolves annotations there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


class _SourceLine(NamedTuple):
    """A line of a file."""

    file: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.number}: {self.text}"


def _line_of(error: BaseException, name: str) -> _SourceLine | None:
    """Return the line of the user's code that an error comes from: the innermost outside of libraries."""
    if isinstance(error, SyntaxError) and error.filename:
        return _SourceLine(error.filename, error.lineno or 1, (error.text or "").strip())
    own = _find_module_file(name)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == own or not frame.filename.startswith(("<", *_LIBRARIES)):
            return _SourceLine(frame.filename, frame.lineno or 1, (frame.line or "").strip())
    return None


def _find_module_file(name: str) -> str | None:
    """Return the file of a module; None when it is not found."""
    if name.endswith(".py"):
        return name
    try:
        spec = find_spec(name)
    except Exception:  # noqa: BLE001  it imports the parent packages, which may raise anything
        return None
    return spec.origin if spec else None


def _suggest_fix(error: BaseException, name: str, line: _SourceLine | None) -> str:
    """Return what to do about an import error."""
    if line is None and name.endswith(".py"):
        return f"write {name} as UTF-8 text: python3 -m py_compile {name}"
    if line is None:
        return f"PENSTOCK_PIPELINE=/path/to/file.py, or put the module's folder on PYTHONPATH, or {_BACK}"
    if isinstance(error, NameError) and error.name in _IMPORTS:
        wanted = f"from {_IMPORTS[error.name]} import {error.name}"
        return f"write `{wanted}` at the head of {line.file}, then {remedies.show_settings()}"
    if isinstance(error, ModuleNotFoundError):
        return f"correct that line, or install {error.name} where penstock runs, or put its folder on PYTHONPATH"
    return f"correct line {line.number} of {line.file}, then {remedies.show_settings()}"
