from types import SimpleNamespace

import pytest

from penstock.config import read
from penstock.control.letters import Letters
from penstock.errors import WrongUse
from penstock.pipeline.mend import Mending
from tests.unit.fakes import FakeRegistry, FakeSession
from tests.unit.letters import FakeKafka, FakeSettled, reject
from tests.unit.records import READINGS


@pytest.fixture
def kafka(monkeypatch):
    return FakeKafka().use(monkeypatch)


@pytest.fixture
def letters(kafka):
    session = FakeSession(FakeSettled())
    desk = SimpleNamespace(settings=read(), pipeline=READINGS, registry=FakeRegistry(), cassandra=lambda: session)
    return Letters(desk)


def test_no_place_is_not_all_places(letters):
    """A selection without places is of every record: it is refused before anything is asked."""
    with pytest.raises(WrongUse, match="no rejected record is chosen"):
        letters.redrive([], Mending())
    with pytest.raises(WrongUse, match="no rejected record is chosen"):
        letters.discard([], "note")


def test_an_edited_text_is_judged_as_typed(letters, kafka):
    """No JSON, JSON that breaks rules, JSON that keeps them."""
    (letter,) = kafka.set_aside(reject(1, b'{"sensor":"one","celsius":2.5}'))
    for text in ("{", "[1]", '{"sensor": 1, "sensor": 2}', '"\ud800"'):
        with pytest.raises(WrongUse, match="the value is no JSON object"):
            letters.edited(letter, text)
    broken = letters.broken(letter, letters.edited(letter, '{"sensor": "one", "celsius": 2.5}'))
    assert broken.rules == ("sensor:type",)
    assert letters.broken(letter, letters.edited(letter, '{"sensor": 1, "celsius": 2.5}')) is None


def test_fields_are_set_as_the_command_does(letters):
    """Each of its field's type; none is a mistake."""
    assert letters.set_fields(["sensor=7", ""]).fields == {"sensor": 7}
    with pytest.raises(WrongUse, match="no field is set"):
        letters.set_fields([" "])


def test_an_export_has_a_line_for_each_record(letters, kafka):
    """In the form that an edit is read in; what does not fit is counted."""
    kafka.set_aside(reject(1, b'{"sensor":"one"}'), reject(2, b"{"))
    done = letters.export(letters.queue.listing(letters._desk.cassandra).entries)
    assert (done.records, done.left_out, done.content.count(b"\n")) == (2, 0, 2)
    assert b'"value":{"sensor":"one"}' in done.content


def test_what_can_be_edited_is_json_or_text(letters, kafka):
    """Bytes that are neither begin with nothing."""
    found = kafka.set_aside(reject(1, b'{"a":1}'), reject(2, b"{"), reject(3, b"\xff"))
    assert [letters.text(one) for one in found] == ['{\n  "a": 1\n}', "{", ""]
