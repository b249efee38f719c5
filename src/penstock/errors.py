"""Every error penstock raises on purpose.

    PenstockError                 exit 1  something failed
    ├── WrongUse                  exit 2  the call or a setting is wrong: nothing was done
    │   ├── WrongSettings
    │   └── NotThere              nothing has the name or the id
    ├── Unreachable               exit 3  a service did not answer in time
    │   ├── SourceUnreachable
    │   ├── KafkaUnreachable
    │   ├── RegistryUnreachable
    │   ├── CassandraUnreachable
    │   └── AirflowUnreachable
    ├── SourceRefused             the API answered with something that is not data
    ├── TooManyFailed             too large a share of a run's entries became dead letters
    ├── DeliveryFailed            Kafka did not acknowledge every record
    ├── SchemaRefused             the registry does not accept the schema
    ├── SchemaUnknown             no schema has the id that a record names
    ├── StoreFailed               Cassandra did not acknowledge every row
    ├── RunFailed                 a DAG run ended otherwise than in success
    ├── NotBalanced               records are missing
    ├── CheckpointRefused         the Spark job would skip records if it went on from its checkpoint
    ├── JobRunning                another job owns the checkpoint
    └── StackError                the local stack
        ├── InstallFailed
        ├── PortTaken
        └── ServiceDied

A caller asks three questions: is the call wrong (2), is a service away (3), did the work fail (1).
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

HIDDEN = "******"
"""What stands in the place of a secret."""
_USERINFO = re.compile(r"(?<=://)[^/@\s\"'<>]+(?=@)")


def without_userinfo(text: str) -> str:
    """The text, with user and password hidden in each URL."""
    return _USERINFO.sub(HIDDEN, text)


def clean_line(text: str, max_chars: int) -> str:
    """Return text that others wrote as one printable line of at most `max_chars` characters.

    Control characters, lone surrogates and marks that turn the direction of text become U+FFFD.
    """
    cut = " ".join(text[: 10 * max_chars].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
    return line if len(line) <= max_chars else line[: max_chars - 3] + "..."


class PenstockError(Exception):
    """Something failed."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", *, hint: str = "", **facts: Any) -> None:
        """`message` says what happened and where, `hint` what to type next, `facts` become attributes.

        Neither shows user or password of a URL.
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


class WrongUse(PenstockError):
    """The call is wrong: nothing was done."""

    exit_code = 2


class WrongSettings(WrongUse):
    """A setting is wrong: nothing was done."""


class NotThere(WrongUse):
    """Nothing has that name or id."""


class Unreachable(PenstockError):
    """A service did not answer in time."""

    exit_code = 3


class SourceUnreachable(Unreachable):
    """The API did not answer in time."""


class KafkaUnreachable(Unreachable):
    """Kafka did not answer in time."""


class RegistryUnreachable(Unreachable):
    """The schema registry did not answer in time."""


class CassandraUnreachable(Unreachable):
    """Cassandra did not answer in time."""


class AirflowUnreachable(Unreachable):
    """Airflow did not answer in time."""


class SourceRefused(PenstockError):
    """The API answered with something that is not data."""


class TooManyFailed(PenstockError):
    """Too large a share of a run's entries became dead letters."""


class DeliveryFailed(PenstockError):
    """Kafka did not acknowledge every record."""


class SchemaRefused(PenstockError):
    """The schema registry does not accept the schema."""


class SchemaUnknown(PenstockError):
    """The schema registry has no schema of that id."""


class StoreFailed(PenstockError):
    """Cassandra did not acknowledge every row."""


class RunFailed(PenstockError):
    """The DAG run did not end in success."""


class NotBalanced(PenstockError):
    """Records are missing."""


class CheckpointRefused(PenstockError):
    """The Spark job would skip records if it went on from its checkpoint."""


class JobRunning(PenstockError):
    """Another job owns the checkpoint."""


class StackError(PenstockError):
    """The local stack failed."""


class InstallFailed(StackError):
    """A part of the local stack could not be installed."""


class PortTaken(StackError):
    """Another process listens on a port of the local stack."""


class ServiceDied(StackError):
    """A service of the local stack ended before it was ready."""


@contextmanager
def exits_by_kind(program: str, *, debug: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """The edge of a process: an error of penstock's becomes one message on stderr and its exit code.

    With `debug` it is raised as it is.
    """
    try:
        yield
    except PenstockError as error:
        if debug():
            raise
        sys.stderr.write(f"{program}: {error}\n")
        sys.exit(error.exit_code)
