"""Find out whether a micro-batch failed through the pipeline's code or its environment. Pure, except for source lines.

A failed Spark task reports its worker's Python traceback as text; a failure in the driver is an exception with
frames. Both are searched for the line of the pipeline's file, which is what its author needs first.
"""

import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
"""Names of exceptions, from any library, for an unavailable service or exhausted memory."""
_OVERLOADED = re.compile(r"\b(429|5\d\d)\b")
"""HTTP status codes that blame the service, not the request."""
_OF_SPARK = re.compile(r"org\.apache\.spark\.Spark(?P<name>\w+Exception): (?P<words>\[.*)")
"""Format in which a task reports that an expression cannot handle a value."""
_OF_COLUMNS = frozenset(
    {"AnalysisException", "ParseException", "ArithmeticException", "ArrayIndexOutOfBoundsException"}
    | {"DateTimeException", "IllegalArgumentException", "NumberFormatException", "PySparkAssertionError"}
    | {"SparkNoSuchElementException", "SparkRuntimeException", "SparkUpgradeException"}
    | {"UnsupportedOperationException"}
)
"""Exceptions that Spark raises for columns: unknown ones, or values that an expression cannot handle."""


class TaskFailed(Exception):
    """A Spark task failed. The message is the executor's: Java's exception and its traceback."""


class Frame(NamedTuple):
    """A line of code in a traceback."""

    file: str
    line: int
    code: str


@dataclass(frozen=True)
class Cause:
    """The cause of a failure. `is_transform`: the pipeline's own code, or the columns that it requested, raised.

    `words` may quote a record; `where` and `name` never do.
    """

    is_transform: bool
    name: str
    words: str
    frame: Frame | None = None

    @property
    def kind(self) -> str:
        """Return the user's line and the exception's type: `orders.py, line 7: ValueError`."""
        return f"{Path(self.frame.file).name}, line {self.frame.line}: {self.name}" if self.frame else self.name

    @property
    def message(self) -> str:
        """Return everything in one line, the user's file and line first."""
        where = f"{self.frame.file}, line {self.frame.line}: " if self.frame else ""
        words = f": {self.words}" if self.words else ""
        code = f"; the line is: {self.frame.code}" if self.frame and self.frame.code else ""
        return f"{where}{self.name}{words}{code}"


def find_cause(error: BaseException, file: str) -> Cause:
    """Return the cause of a batch's failure. `file` is the pipeline's file."""
    name, words = _find_root_error(error)
    frame = _find_user_frame([*_extract_frames(error), *_frames_in(_extract_message(error))], file)
    return Cause(_is_of_transform(error, file), name, clean_line(words, _MESSAGE_CHARS), frame)


def _iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from or during, the last one first."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _is_of_transform(error: BaseException, file: str) -> bool:
    if any(_is_of_service(each) for each in _iter_causes(error)):
        return False
    if _raised_in(_extract_message(error)):
        in_worker = _frames_in(_extract_message(error))
        outermost = next((frame for frame in in_worker if _is_users(frame, file) or frame.file.startswith(_OWN)), None)
        return outermost is None or _is_users(outermost, file)
    if isinstance(error, TaskFailed):
        return _OF_SPARK.match(str(error)) is not None
    if type(error).__name__ in _OF_COLUMNS:
        return True
    return type(error).__module__ != "pyspark.errors.exceptions.captured"


def _is_of_service(error: BaseException) -> bool:
    """Return whether a service, an executor or memory failed, as opposed to the code that was run."""
    if isinstance(error, PenstockError | MemoryError | ConnectionError | TimeoutError):
        return True
    if type(error).__module__.startswith("py4j"):
        return True
    text = _extract_message(error)
    raised = [(type(error).__name__, text), *_raised_in(text)]
    return any(_AWAY.search(name) or ("HTTP" in name and _OVERLOADED.search(words)) for name, words in raised)


def _extract_message(error: BaseException) -> str:
    """Return the message of an exception without Java's frames."""
    return str(error).partition("\n\tat ")[0]


def _raised_in(text: str) -> list[tuple[str, str]]:
    """Return the type and message of the exception that ends each traceback in a text."""
    traces = text.split(_TRACE)[1:]
    found = [(trace, _RAISED.search(trace)) for trace in traces]
    return [
        (match["name"].rpartition(".")[2], trace[match.start() :].partition(": ")[2])
        for trace, match in found
        if match is not None
    ]


def _extract_frames(error: BaseException) -> list[Frame]:
    """Return the frames of an exception in this process."""
    return [
        Frame(frame.filename, frame.lineno or 0, frame.line or "")
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def _frames_in(text: str) -> list[Frame]:
    """Return the frames of the tracebacks in a text, and the origins of columns that Spark names."""
    found = [Frame(match["file"], int(match["line"]), (match["code"] or "").strip()) for match in _FRAME.finditer(text)]
    return found + [Frame(match["file"], int(match["line"]), "") for match in _CALLED.finditer(text)]


def _is_users(frame: Frame, file: str) -> bool:
    return frame.file == file or not frame.file.startswith(("<", *_OWN, *_LIBRARIES))


def _find_user_frame(frames: list[Frame], file: str) -> Frame | None:
    """Return the innermost line of the pipeline's file, or else of other code that is not a library's."""
    wanted = [frame for frame in frames if frame.file == file] or [frame for frame in frames if _is_users(frame, file)]
    if not wanted:
        return None
    code = wanted[-1].code or linecache.getline(wanted[-1].file, wanted[-1].line)
    return wanted[-1]._replace(code=clean_line(code, _CODE_CHARS))


def _find_root_error(error: BaseException) -> tuple[str, str]:
    """Return the type and message of the exception raised first: the user's own if a worker raised it."""
    text = _extract_message(error)
    in_worker = _raised_in(text)
    if in_worker:
        return in_worker[-1]
    if of_spark := _OF_SPARK.match(text):
        return of_spark["name"], of_spark["words"]
    return type(error).__name__, text.partition("\n")[0] if text.startswith("[") else text
