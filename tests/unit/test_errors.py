import inspect
import pickle

import pytest

from penstock import errors
from penstock.errors import KafkaUnreachable, PenstockError, PortTaken, Unreachable, UsageError, clean_line

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PenstockError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_pickles(kind):
    """An error survives pickling between Spark or Airflow processes: class, message, hint and facts."""
    error = pickle.loads(pickle.dumps(kind("it broke", hint="mend it", port=9092)))
    assert (type(error), error.message, error.hint, error.port) == (kind, "it broke", "mend it", 9092)
    assert str(error) == "it broke\n  try: mend it"


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_message_is_that_of_the_class(kind):
    """The default message is the docstring of the class."""
    assert str(kind()) == inspect.getdoc(kind)
    assert kind().hint == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_exit_code_depends_on_the_branch(kind):
    """The exit code is 2 for usage errors, 3 for unavailable services, 1 otherwise."""
    expected = 2 if issubclass(kind, UsageError) else 3 if issubclass(kind, Unreachable) else 1
    assert kind.exit_code == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_docstring_is_complete(kind):
    """The tree in the module's docstring lists every error."""
    assert kind.__name__ in inspect.getdoc(errors)


def test_untrusted_text_is_one_printable_line():
    """Untrusted text becomes one line of bounded length. Unprintable characters are replaced."""
    assert clean_line(" a\r\n\tb  c\u2028d ", 100) == "a b c d"
    assert clean_line("\x1b[0m\ud800\u202e\x00é", 100) == "\ufffd[0m\ufffd\ufffd\ufffdé"
    assert clean_line("x" * 10, 10) == "x" * 10
    assert clean_line("x" * 10**7, 10) == "xxxxxxx..."
    assert clean_line("", 10) == ""


def test_facts_are_attributes():
    """Facts are attributes. Unknown names raise AttributeError."""
    error = PortTaken(port=9092)
    assert error.port == 9092
    with pytest.raises(AttributeError):
        _ = error.pid


def test_no_error_shows_the_password_in_a_url():
    """Neither message nor hint shows the password of a URL."""
    error = UsageError("no answer from http://me:secret@host/a", hint="curl https://me:secret@host")
    assert str(error) == "no answer from http://******@host/a\n  try: curl https://******@host"


def test_an_error_keeps_its_cause():
    """An error raised from another keeps it as its cause."""
    with pytest.raises(KafkaUnreachable) as raised:
        raise KafkaUnreachable("away") from TimeoutError("late")
    assert isinstance(raised.value.__cause__, TimeoutError)
