"""Exceptions raised by penstock.

    PenstockError                 exit 1  the operation failed
    ├── UsageError                exit 2  invalid call or setting: nothing was done
    │   ├── WrongSettings
    │   └── NotFound              unknown name or id
    ├── Unreachable               exit 3  a service did not respond in time
    │   ├── SourceUnreachable
    │   ├── KafkaUnreachable
    │   ├── RegistryUnreachable
    │   ├── CassandraUnreachable
    │   └── AirflowUnreachable
    ├── SourceRefused             the API returned an invalid response
    ├── TooManyFailed             too many of a run's entries became dead letters
    ├── DeliveryFailed            Kafka did not acknowledge every record
    ├── SchemaRefused             the registry rejected the schema
    ├── SchemaUnknown             no schema has the id in a record's header
    ├── StoreFailed               Cassandra did not acknowledge every row
    ├── RunFailed                 a DAG run did not succeed
    ├── TransformFailed           the pipeline's transform failed on a batch, and no single record is the cause
    ├── CheckpointRefused         the Spark job would skip records if it resumed from its checkpoint
    ├── TopicRecreated            the topic is not the one that the Spark job has read
    ├── JobRunning                another job owns the checkpoint
    ├── FormatTooNew              a newer penstock wrote the data
    └── StackError                the local stack
        ├── InstallFailed
        ├── PortTaken
        └── ServiceDied

Callers distinguish by exit code: the call is invalid (2), a service is unavailable (3), the operation failed (1).
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

HIDDEN = "******"
"""Replacement for secrets in text."""
_USERINFO = re.compile(r"(?<=://)[^/@\s\"'<>]+(?=@)")


def without_userinfo(text: str) -> str:
    """Hide user and password in all URLs of a text."""
    return _USERINFO.sub(HIDDEN, text)


def clean_line(text: str, max_chars: int) -> str:
    """Convert untrusted text to one printable line of at most `max_chars` characters.

    Control characters, lone surrogates and bidirectional controls become U+FFFD.
    """
    cut = " ".join(text[: 10 * max_chars].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
    return line if len(line) <= max_chars else line[: max_chars - 3] + "..."


class PenstockError(Exception):
    """The operation failed."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", *, hint: str = "", **facts: Any) -> None:
        """Create an error: `message` says what failed and where, `hint` what to do. `facts` become attributes.

        User and password in URLs are hidden in both texts.
        """
        self.message = without_userinfo(message or (type(self).__doc__ or "").strip())
        self.hint = without_userinfo(hint)
        self.facts = facts
        super().__init__(self.message)

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.facts)


def _rebuild(kind: type[PenstockError], message: str, hint: str, facts: dict[str, Any]) -> PenstockError:
    return kind(message, hint=hint, **facts)


class UsageError(PenstockError):
    """The call is invalid: nothing was done."""

    exit_code = 2


class WrongSettings(UsageError):
    """A setting is invalid: nothing was done."""


class NotFound(UsageError):
    """The name or id is unknown."""


class Unreachable(PenstockError):
    """A service did not respond in time."""

    exit_code = 3


class SourceUnreachable(Unreachable):
    """The API did not respond in time."""


class KafkaUnreachable(Unreachable):
    """Kafka did not respond in time."""


class RegistryUnreachable(Unreachable):
    """The schema registry did not respond in time."""


class CassandraUnreachable(Unreachable):
    """Cassandra did not respond in time."""


class AirflowUnreachable(Unreachable):
    """Airflow did not respond in time."""


class SourceRefused(PenstockError):
    """The API returned an invalid response."""


class TooManyFailed(PenstockError):
    """Too many of a run's entries became dead letters."""


class DeliveryFailed(PenstockError):
    """Kafka did not acknowledge every record."""


class SchemaRefused(PenstockError):
    """The schema registry rejected the schema."""


class SchemaUnknown(PenstockError):
    """The schema registry has no schema with this id."""


class StoreFailed(PenstockError):
    """Cassandra did not acknowledge every row."""


class RunFailed(PenstockError):
    """The DAG run did not succeed."""


class TransformFailed(PenstockError):
    """The pipeline's transform failed on a batch, and no single record is the cause."""


class CheckpointRefused(PenstockError):
    """The Spark job would skip records if it resumed from its checkpoint."""


class TopicRecreated(PenstockError):
    """The topic is not the one that the Spark job has read: it was deleted and recreated."""


class JobRunning(PenstockError):
    """Another job owns the checkpoint."""


class FormatTooNew(PenstockError):
    """The data was written by a newer penstock."""


class StackError(PenstockError):
    """The local stack failed."""


class InstallFailed(StackError):
    """A component of the local stack could not be installed."""


class PortTaken(StackError):
    """Another process listens on a port of the local stack."""


class ServiceDied(StackError):
    """A service of the local stack exited before it was ready."""


@contextmanager
def exits_by_kind(program: str, *, debug: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Print a `PenstockError` on stderr and exit with its code. Use at the entry point of a process.

    With `debug` the error is raised unchanged.
    """
    try:
        yield
    except PenstockError as error:
        if debug():
            raise
        sys.stderr.write(f"{program}: {error}\n")
        sys.exit(error.exit_code)
