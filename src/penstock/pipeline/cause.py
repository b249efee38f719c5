"""Why a micro-batch failed: through the pipeline's own code, or through what it runs on. Pure, but for source lines.

A failed Spark task reports the Python traceback of its worker as text; what fails in the driver is an exception with
frames. Both are read for the line of the pipeline's file, which is what its author needs first.
"""

import inspect
import linecache
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import penstock
from penstock.errors import PenstockError, clean_line

_MESSAGE_CHARS = 300
_CODE_CHARS = 200
_OWN = tuple(f"{path}/" for path in penstock.__path__)
_LIBRARIES = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "purelib", "platlib"))
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in .*$\n?(?P<code>^\s{4}.*$)?', re.MULTILINE)
_CALLED = re.compile(r"was called from\n(?P<file>[^\n]+):(?P<line>\d+)")
_RAISED = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?:: (?P<words>.*))?$", re.MULTILINE)
_TRACE = "Traceback (most recent call last):\n"
_AWAY = re.compile(
    r"Connection|ConnectError|Timeout|TimedOut|Unavailable|Unreachable|NoHostAvailable|URLError|gaierror|BrokenPipe"
    r"|NetworkError|MemoryError|OutOfMemory"
)
"""Names of exceptions that tell of a service that is away or of memory that ran out, in any library."""
_OVERLOADED = re.compile(r"\b(429|5\d\d)\b")
"""A status of HTTP that tells of the service and not of the request."""
_OF_SPARK = re.compile(r"org\.apache\.spark\.Spark(?P<name>\w+Exception): (?P<words>\[.*)")
"""How a task says that an expression cannot take a value."""
_OF_COLUMNS = frozenset(
    {"AnalysisException", "ParseException", "ArithmeticException", "ArrayIndexOutOfBoundsException"}
    | {"DateTimeException", "IllegalArgumentException", "NumberFormatException", "PySparkAssertionError"}
    | {"SparkNoSuchElementException", "SparkRuntimeException", "SparkUpgradeException"}
    | {"UnsupportedOperationException"}
)
"""Exceptions that Spark raises for columns: unknown ones, or values that an expression cannot take."""


class TaskFailed(Exception):
    """A task of Spark's failed; the message is what its executor told: Java's exception, and its traceback."""


class Frame(NamedTuple):
    """A line of code on a traceback."""

    file: str
    line: int
    code: str


@dataclass(frozen=True)
class Cause:
    """Why something failed. `is_transform`: the pipeline's own code, or the columns that it asked for, raised.

    `words` may quote a record; `where` and `name` never do.
    """

    is_transform: bool
    name: str
    words: str
    frame: Frame | None = None

    @property
    def kind(self) -> str:
        """The user's line and the exception's type: `orders.py, line 7: ValueError`."""
        return f"{Path(self.frame.file).name}, line {self.frame.line}: {self.name}" if self.frame else self.name

    @property
    def message(self) -> str:
        """Everything in one line, the user's file and line first."""
        where = f"{self.frame.file}, line {self.frame.line}: " if self.frame else ""
        words = f": {self.words}" if self.words else ""
        code = f"; the line is: {self.frame.code}" if self.frame and self.frame.code else ""
        return f"{where}{self.name}{words}{code}"


def file_of(function: Callable[..., Any]) -> str:
    """Return the path of the file that defines a function, below decorators and partials; empty when none does."""
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code.co_filename if code else ""


def find_cause(error: BaseException, file: str) -> Cause:
    """Return why a batch failed; `file` is the pipeline's file."""
    name, words = _raised(error)
    frame = _users([*_frames(error), *_frames_in(_text(error))], file)
    return Cause(_is_of_transform(error, file), name, clean_line(words, _MESSAGE_CHARS), frame)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an exception and those that it was raised from or during, the last one first."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _is_of_transform(error: BaseException, file: str) -> bool:
    if any(_is_of_service(each) for each in _chain(error)):
        return False
    if _raised_in(_text(error)):
        in_worker = _frames_in(_text(error))
        outermost = next((frame for frame in in_worker if _is_users(frame, file) or frame.file.startswith(_OWN)), None)
        return outermost is None or _is_users(outermost, file)
    if isinstance(error, TaskFailed):
        return _OF_SPARK.match(str(error)) is not None
    if type(error).__name__ in _OF_COLUMNS:
        return True
    return type(error).__module__ != "pyspark.errors.exceptions.captured"


def _is_of_service(error: BaseException) -> bool:
    """Return whether a service, an executor or the memory failed, and not the code that was run."""
    if isinstance(error, PenstockError | MemoryError | ConnectionError | TimeoutError):
        return True
    if type(error).__module__.startswith("py4j"):
        return True
    text = _text(error)
    raised = [(type(error).__name__, text), *_raised_in(text)]
    return any(_AWAY.search(name) or ("HTTP" in name and _OVERLOADED.search(words)) for name, words in raised)


def _text(error: BaseException) -> str:
    """Return what an exception says, without Java's frames."""
    return str(error).partition("\n\tat ")[0]


def _raised_in(text: str) -> list[tuple[str, str]]:
    """Return type and words of what each traceback in a text ends with."""
    traces = text.split(_TRACE)[1:]
    found = [(trace, _RAISED.search(trace)) for trace in traces]
    return [
        (match["name"].rpartition(".")[2], trace[match.start() :].partition(": ")[2])
        for trace, match in found
        if match is not None
    ]


def _frames(error: BaseException) -> list[Frame]:
    """Return the frames of an exception in this process."""
    return [
        Frame(frame.filename, frame.lineno or 0, frame.line or "")
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def _frames_in(text: str) -> list[Frame]:
    """Return the frames of the tracebacks in a text, and where a column was made that Spark names."""
    found = [Frame(match["file"], int(match["line"]), (match["code"] or "").strip()) for match in _FRAME.finditer(text)]
    return found + [Frame(match["file"], int(match["line"]), "") for match in _CALLED.finditer(text)]


def _is_users(frame: Frame, file: str) -> bool:
    return frame.file == file or not frame.file.startswith(("<", *_OWN, *_LIBRARIES))


def _users(frames: list[Frame], file: str) -> Frame | None:
    """Return the innermost line of the pipeline's file, else of other code that is no library's."""
    wanted = [frame for frame in frames if frame.file == file] or [frame for frame in frames if _is_users(frame, file)]
    if not wanted:
        return None
    code = wanted[-1].code or linecache.getline(wanted[-1].file, wanted[-1].line)
    return wanted[-1]._replace(code=clean_line(code, _CODE_CHARS))


def _raised(error: BaseException) -> tuple[str, str]:
    """Return the type and the words of what was raised first: by the user's code, where it was in a worker."""
    text = _text(error)
    in_worker = _raised_in(text)
    if in_worker:
        return in_worker[-1]
    if of_spark := _OF_SPARK.match(text):
        return of_spark["name"], of_spark["words"]
    return type(error).__name__, text.partition("\n")[0] if text.startswith("[") else text
