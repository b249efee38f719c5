"""Map an entry of the API to the message to send, or to the fault that prevents it. Runs the pipeline's own code."""

import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from penstock.contract.assignment import set_values
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.identity import identity_of
from penstock.contract.json_numbers import has_long_numbers, nests_records, to_decimals
from penstock.contract.record import Record
from penstock.contract.rules import MAX_VALUE_BYTES, latest_past, validate_record
from penstock.contract.violation import Rule, Violation
from penstock.errors import clean_line
from penstock.pipelines.definition import Pipeline

_MESSAGE_CHARS = 500
_CODE_CHARS = 200


def unwrap_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function below decorators and partials; of a callable object, its `__call__`."""
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    is_function = isinstance(function, type) or hasattr(function, "__code__")
    return function if is_function else inspect.unwrap(type(function).__call__)


def file_of(function: Callable[..., Any]) -> str:
    """Return the path of the file that defines a function, below decorators and partials, or '' if there is none."""
    code = getattr(unwrap_function(function), "__code__", None)
    return code.co_filename if code else ""


def fields_of(returned: Any, record: type[Record]) -> dict[str, Any]:
    """Return the fields, by their names in messages, that `from_source` returned: as a record or as a dict.

    They are not validated yet: the constructor of a record checks nothing. Raises `NoRecord` for anything else.
    """
    if type(returned) is dict:
        return returned
    if isinstance(returned, record):
        names = zip(record.__struct_encode_fields__, record.__struct_fields__, strict=True)
        return {name: getattr(returned, column) for name, column in names}
    if isinstance(returned, Mapping):
        return dict(returned)
    raise NoRecord(returned, record)


class NoRecord(Exception):
    """`from_source` returned something else than a record or its fields."""

    def __init__(self, returned: Any, record: type[Record]) -> None:
        self.what = "None" if returned is None else f"an instance of {clean_line(type(returned).__name__, _CODE_CHARS)}"
        super().__init__(f"return a {record.__name__}, or a dict of its fields")


class Mapper:
    """Maps entries with a pipeline's `from_source`."""

    def __init__(self, pipeline: Pipeline, serialize: Callable[[Record], bytes]) -> None:
        self._from_source = pipeline.from_source
        is_plain = pipeline.number_reader is None and not nests_records(pipeline.record)
        self._map_to_fields = pipeline.from_source if is_plain else self._map_exactly
        self._file = file_of(pipeline.from_source)
        self._record = pipeline.record
        self._key = identity_of(pipeline.record).key_of
        self._serialize = serialize

    def outgoing(self, entry: Any, changes: dict[str, Any] | None = None) -> tuple[bytes, bytes] | Fault:
        """Return key and value of an entry's record with `changes` applied to its fields, or its fault.

        Any exception that the pipeline's code raises, or that the fields it returned cause, is a fault of this entry
        alone. Raises `MemoryError`, which is not the entry's fault.
        """
        try:
            return self._map_entry(entry, changes)
        except MemoryError:
            raise
        except msgspec.ValidationError as error:
            return Fault.of([Violation("", Rule.TYPE, _format_error(error))], Stage.PRODUCE)
        except NoRecord as error:
            cause = f"{error.what} returned by from_source" + (f" in {Path(self._file).name}" if self._file else "")
            return Fault(Reason.MAPPING_FAILED, f"{cause}: {error}", Stage.PRODUCE, cause=cause)
        except Exception as error:  # noqa: BLE001  the pipeline's own code may raise anything
            return self._build_mapping_error(error)

    def _map_entry(self, entry: Any, changes: dict[str, Any] | None) -> tuple[bytes, bytes] | Fault:
        fields = self._map_to_fields(entry)
        if type(fields) is not dict:
            fields = fields_of(fields, self._record)
        changed = set_values(fields, changes, self._record) if changes else fields
        if isinstance(changed, list):
            return Fault.of(changed, Stage.PRODUCE)
        validated = validate_record(changed, self._record, latest_past())
        if isinstance(validated, list):
            return Fault.of(validated, Stage.PRODUCE)
        value = self._serialize(validated)
        if len(value) > MAX_VALUE_BYTES:
            return Fault.too_large(len(value), Stage.PRODUCE)
        return self._key(validated), value

    def _map_exactly(self, entry: Any) -> Any:
        """Return the fields of an entry's record and of those in it, with all digits of the entry's long numbers.

        If `from_source` gives these to msgspec, which accepts only plain floats as a float, it is called again with
        decimals instead, which msgspec accepts as a float and as a `Decimal`.
        """
        try:
            returned = self._from_source(entry)
        except msgspec.ValidationError:
            if not has_long_numbers(entry):
                raise
            returned = self._from_source(to_decimals(entry))
        return to_decimals(fields_of(returned, self._record))

    def _build_mapping_error(self, error: Exception) -> Fault:
        """Return the fault of an exception: its type, its location in the pipeline's file, and its message."""
        name = clean_line(type(error).__name__, _CODE_CHARS)
        line = _innermost_line(error.__traceback__, self._file)
        cause = f"{name} at {Path(self._file).name}, line {line}" if line else name
        code = clean_line(linecache.getline(self._file, line), _CODE_CHARS) if line else ""
        message = f"{cause}: {_format_error(error)}" + (f"; the line is: {code}" if code else "")
        return Fault(Reason.MAPPING_FAILED, message, Stage.PRODUCE, cause=cause)


def _format_error(error: Exception) -> str:
    try:
        return clean_line(str(error), _MESSAGE_CHARS)
    except Exception as broken:  # noqa: BLE001  the __str__ of a pipeline's own exception may raise
        return f"no message: its __str__ raised {type(broken).__name__}"


def _innermost_line(trace: TracebackType | None, file: str) -> int:
    """Return the number of the innermost line of a traceback that is in `file`, or 0 if there is none."""
    lines = [line for frame, line in traceback.walk_tb(trace) if frame.f_code.co_filename == file]
    return lines[-1] if lines else 0
