"""Find the cause of a failure, and the user's line, from what Spark's Python API raises."""

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path

import pytest
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import AnalysisException, PySparkAttributeError, PythonException
from pyspark.errors.exceptions import captured

import penstock
from penstock.errors import CassandraUnreachable, StoreFailed
from penstock.pipeline import cause
from penstock.pipeline.cause import TaskFailed, find_cause
from penstock.pipelines.mapping import file_of

FILE = "/p/orders.py"
OURS = f"{penstock.__path__[0]}/pipeline/stream.py"
HEAD = "\n  An exception was thrown from the Python worker. Please see the stack trace below.\n"
JAVA = "\n\n\tat org.apache.spark.api.python.BasePythonRunner.handlePythonException(PythonRunner.scala:645)\n\tat a.b.C"


def trace(raised: str, *files: str) -> str:
    """A worker's traceback through these files."""
    frames = "".join(f'  File "{file}", line {at}, in f\n    code_{at}()\n' for at, file in enumerate(files, start=7))
    return f"Traceback (most recent call last):\n{frames}{raised}\n"


def in_worker(raised: str, *files: str) -> PythonException:
    return PythonException(HEAD + trace(raised, *files))


def of_spark(kind: type[captured.CapturedException], text: str) -> Exception:
    """An error of Spark's own as pyspark translates it, without asking Java for its text."""
    body = {"__str__": lambda _self: text, "__init__": lambda _self: None, "__module__": kind.__module__}
    error: Exception = type(kind.__name__, (kind,), body)()
    return error


class Py4JText(Py4JError):
    """What Java raised, as text."""

    __module__ = "py4j.protocol"


LIBRARY = "/usr/lib/python3/site-packages/geo/client.py"


@pytest.mark.parametrize(
    "error",
    [
        in_worker("ValueError: no", FILE),
        in_worker("my.module.NotAName: no", FILE, OURS),
        in_worker("KeyError: 'a'", "/p/helpers.py"),
        in_worker("pyarrow.lib.ArrowInvalid: Could not convert 'x' with type str"),
        in_worker("ValueError: TimeoutError is what the message names", FILE),
        in_worker("ValueError: two lines\nTimeoutError: quoted from a record", FILE),
        in_worker("requests.exceptions.HTTPError: 404 Client Error: Not Found", FILE),
        TaskFailed("org.apache.spark.api.python.PythonException: " + trace("ValueError: no", FILE) + JAVA),
        TaskFailed("org.apache.spark.SparkArithmeticException: [DIVIDE_BY_ZERO] Division by zero." + JAVA),
        AnalysisException("[UNRESOLVED_COLUMN] no column `nope`"),
        PySparkAttributeError("[ATTRIBUTE_NOT_SUPPORTED] `nope`"),
        of_spark(captured.ArithmeticException, "[DIVIDE_BY_ZERO] Division by zero."),
        of_spark(captured.NumberFormatException, "[CAST_INVALID_INPUT] 'x'"),
        RuntimeError("in the driver"),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[-30:]!r}",
)
def test_the_transform_is_blamed_for_its_own_errors(error: Exception) -> None:
    """Python code of the user's file or of modules that it uses, columns, values that an expression rejects."""
    assert find_cause(error, FILE).is_transform


@pytest.mark.parametrize(
    "error",
    [
        in_worker("ConnectionRefusedError: [Errno 111] Connection refused", FILE),
        in_worker("urllib.error.URLError: <urlopen error [Errno 111] Connection refused>", FILE),
        in_worker("requests.exceptions.ReadTimeout: timed out", FILE, LIBRARY),
        in_worker("cassandra.cluster.NoHostAvailable: ('Unable to connect', {})", FILE),
        in_worker("requests.exceptions.HTTPError: 503 Server Error: Service Unavailable", FILE),
        in_worker("MemoryError", FILE),
        in_worker("penstock.errors.StoreFailed: no", OURS),
        in_worker("penstock.errors.RegistryUnreachable: away", OURS, FILE),
        PythonException(
            HEAD
            + trace("TimeoutError: t", FILE)
            + "\nDuring handling of the above, another exception occurred:\n\n"
            + trace("ValueError: no answer", FILE)
        ),
        Py4JText("org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)."),
        Py4JText("Job aborted due to stage failure: ExecutorLostFailure (executor 0 exited)"),
        Py4JText("java.lang.OutOfMemoryError: Java heap space"),
        Py4JNetworkError("Answer from Java side is empty"),
        of_spark(captured.StreamingQueryException, "[STREAM_FAILED] Query terminated"),
        of_spark(captured.QueryExecutionException, "no"),
        CassandraUnreachable("away"),
        StoreFailed("no"),
        TaskFailed("ExecutorLostFailure (executor 0 exited caused by one of the running tasks)"),
        TaskFailed("org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)." + JAVA),
        TaskFailed("java.lang.OutOfMemoryError: Java heap space" + JAVA),
        TaskFailed("org.apache.spark.api.python.PythonException: " + trace("MemoryError", FILE) + JAVA),
        MemoryError(),
        TimeoutError(),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[-30:]!r}",
)
def test_the_transform_is_not_blamed_for_services_executors_and_memory(error: Exception) -> None:
    """Nothing is isolated for them: the batch is retried."""
    assert not find_cause(error, FILE).is_transform


def test_the_driver_frames_do_not_affect_the_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are penstock's, whatever failed in a worker."""
    monkeypatch.setattr(cause, "_extract_frames", lambda _error: [cause.Frame(OURS, 7, "rows.count()")])
    assert find_cause(in_worker("ValueError: no", FILE), FILE).is_transform
    assert not find_cause(in_worker("ValueError: no", OURS), FILE).is_transform


def test_a_failure_caused_by_a_service_is_blamed_on_it() -> None:
    """Also inside an exception of the user's own; a suppressed cause does not count."""
    error = ValueError("no answer")
    error.__cause__ = ConnectionError("refused")
    assert not find_cause(error, FILE).is_transform
    error.__cause__ = None
    error.__context__, error.__suppress_context__ = ConnectionError("refused"), True
    assert find_cause(error, FILE).is_transform


def test_the_users_line_comes_first() -> None:
    """The innermost line of the pipeline's file, then type and message, then the line itself; Java is omitted."""
    error = TaskFailed("a.PythonException: " + trace("my.Own: multi\nline", "/p/other.py", FILE, LIBRARY) + JAVA)
    result = find_cause(error, FILE)
    assert result.message == f"{FILE}, line 8: Own: multi line; the line is: code_8()"
    assert result.kind == "orders.py, line 8: Own"


def test_without_the_pipelines_file_another_line_of_the_user_is_named() -> None:
    """Never a line of a library or of penstock."""
    assert find_cause(in_worker("KeyError: 1", "/p/helpers.py", OURS), FILE).kind == "helpers.py, line 7: KeyError"
    assert find_cause(in_worker("penstock.errors.StoreFailed: no", OURS), FILE).kind == "StoreFailed"


def test_sparks_own_errors_name_the_line_that_created_the_column() -> None:
    """Spark says where an expression was created; the plan that follows is omitted."""
    text = '[DIVIDE_BY_ZERO] Division by zero.\n== DataFrame ==\n"__truediv__" was called from\n/p/orders.py:61\n'
    result = find_cause(of_spark(captured.ArithmeticException, text), FILE)
    assert result.message == f"{FILE}, line 61: ArithmeticException: [DIVIDE_BY_ZERO] Division by zero."
    assert find_cause(TaskFailed(f"org.apache.spark.SparkArithmeticException: {text}{JAVA}"), FILE) == result


def test_the_line_of_an_error_in_the_driver_is_found(tmp_path: Path) -> None:
    """From its frames, with the source text."""
    file = tmp_path / "orders.py"
    file.write_text("def transform(df):\n    return df / 0\n")
    module: dict[str, Callable[[int], float]] = {}
    exec(compile(file.read_text(), str(file), "exec"), module)
    with pytest.raises(ZeroDivisionError) as failed:
        module["transform"](1)
    assert find_cause(failed.value, str(file)).message == (
        f"{file}, line 2: ZeroDivisionError: division by zero; the line is: return df / 0"
    )


def test_the_file_of_a_wrapped_function_is_found() -> None:
    """Decorators and partials are in other files."""

    @wraps(find_cause)
    def wrapped() -> None: ...

    assert file_of(partial(wrapped)) == find_cause.__code__.co_filename
    assert file_of(len) == ""
