import pytest
import stamina

from penstock.errors import CassandraUnreachable, KafkaUnreachable, UsageError
from penstock.retry import retry_attempts, wait_until


class Probe:
    """Raises each of `errors` once, then returns."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "ready"


def test_a_wait_ends_with_the_result(clock):
    """`wait_until` probes at its interval until there is a result, and returns it."""
    assert wait_until(Probe(KafkaUnreachable(), KafkaUnreachable()), timeout_s=10, every_s=2, what="Kafka") == "ready"
    assert clock.slept_s == [2, 2]


def test_an_immediate_result_is_not_waited_for(clock):
    """A result at the first probe is returned without waiting."""
    assert wait_until(Probe(), timeout_s=10, what="Kafka") == "ready"
    assert clock.slept_s == []


def test_a_timeout_says_what_was_waited_for(clock):
    """A timeout raises the probe's class of error with the name, the time and the last error."""
    probe = Probe(*[KafkaUnreachable("refused", hint="start it", port=9092)] * 9, CassandraUnreachable("no"))
    with pytest.raises(KafkaUnreachable, match="Kafka: not ready after 3 s; last error: refused") as failed:
        wait_until(probe, timeout_s=3, every_s=1, what="Kafka")
    assert (failed.value.hint, failed.value.port) == ("start it", 9092)
    assert sum(clock.slept_s) == 3


def test_the_callers_hint_takes_precedence(clock):
    """The caller's hint replaces the probe's."""
    with pytest.raises(KafkaUnreachable) as failed:
        wait_until(Probe(KafkaUnreachable(hint="a")), timeout_s=0, what="Kafka", hint="b")
    assert failed.value.hint == "b"


def test_another_error_is_raised_at_once(clock):
    """Errors other than `Unreachable` are raised at once."""
    with pytest.raises(UsageError):
        wait_until(Probe(UsageError()), timeout_s=10, what="Kafka")
    assert clock.slept_s == []


def attempts_of(attempts: int, error: Exception, on=KafkaUnreachable) -> int:
    made = []

    def call() -> None:
        for attempt in retry_attempts(on, attempts=attempts, timeout_s=10):
            with attempt:
                made.append(attempt)
                raise error

    with stamina.set_testing(True, attempts=100, cap=True), pytest.raises(type(error)):
        call()
    return len(made)


def test_attempts_are_bounded():
    """A block is tried at most `attempts` times, then its error is raised."""
    assert attempts_of(3, KafkaUnreachable("still")) == 3


def test_only_named_errors_are_retried():
    """An error that is not retryable is raised at once."""
    assert attempts_of(3, UsageError()) == 1
    assert attempts_of(3, UsageError(), on=lambda error: isinstance(error, UsageError)) == 3
