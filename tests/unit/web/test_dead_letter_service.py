import json
from types import SimpleNamespace

import pytest

from penstock.config import read
from penstock.dead_letters.redrive import Redriven
from penstock.dead_letters.repair import Repair
from penstock.errors import UsageError
from penstock.web.rejected import actions
from penstock.web.rejected.dead_letter_service import DeadLetterService
from tests.unit.fakes import FakeRegistry, FakeSession
from tests.unit.letters import FakeKafka, FakeSettled, reject, set_aside_shrunk
from tests.unit.records import READINGS


@pytest.fixture
def kafka(monkeypatch):
    return FakeKafka().use(monkeypatch)


@pytest.fixture
def letters(kafka):
    session = FakeSession(FakeSettled())
    context = SimpleNamespace(settings=read(), pipeline=READINGS, registry=FakeRegistry(), cassandra=lambda: session)
    return DeadLetterService(context)


def test_no_positions_are_not_all_positions(letters):
    """A selection without positions would match every record: it is rejected before any request."""
    with pytest.raises(UsageError, match="no dead letter is selected"):
        letters.redrive([], Repair())
    with pytest.raises(UsageError, match="no dead letter is selected"):
        letters.discard([], "note")


def test_an_edited_text_is_validated_as_typed(letters, kafka):
    """Invalid JSON, JSON that breaks rules, JSON that satisfies them."""
    (letter,) = kafka.set_aside(reject(1, b'{"sensor":"one","celsius":2.5}'))
    for text in ("{", "[1]", '{"sensor": 1, "sensor": 2}', '"\ud800"'):
        with pytest.raises(UsageError, match="the value is not a JSON object"):
            letters.parse_edit(letter, text)
    broken = letters.find_violation(letter, letters.parse_edit(letter, '{"sensor": "one", "celsius": 2.5}'))
    assert broken.rules == ("sensor:type",)
    assert letters.find_violation(letter, letters.parse_edit(letter, '{"sensor": 1, "celsius": 2.5}')) is None


def test_fields_are_set_like_by_the_command(letters):
    """Each with its field's type; setting none is an error."""
    assert letters.set_fields(["sensor=7", ""]).fields == {"sensor": 7}
    with pytest.raises(UsageError, match="no field is selected"):
        letters.set_fields([" "])


def test_an_export_has_a_line_for_each_record(letters, kafka):
    """In the format in which an edit is read; what does not fit is counted."""
    kafka.set_aside(reject(1, b'{"sensor":"one"}'), reject(2, b"{"))
    done = letters.export(letters.queue.read_listing(letters._context.cassandra).entries)
    assert (done.records, done.left_out, done.content.count(b"\n")) == (2, 0, 2)
    assert b'"value":{"sensor":"one"}' in done.content


def test_only_json_and_text_can_be_edited(letters, kafka):
    """For other bytes the editor starts empty."""
    result = kafka.set_aside(reject(1, b'{"a":1}'), reject(2, b"{"), reject(3, b"\xff"))
    assert [letters.format_editable(item) for item in result] == ['{\n  "a": 1\n}', "{", ""]


def test_an_omitted_value_is_validated_as_it_is_in_the_topic(letters, kafka):
    """What a redrive would send is validated; once it is gone, the result says so."""
    value = b'{"sensor":1,"celsius":2.5}'.ljust(9000)
    kafka.producer.produce("readings", value, b"1", [], lambda *_: None)
    kafka.producer.flush(1)
    letter = set_aside_shrunk(kafka, reject(0, value, key=b"1"))
    assert letters.find_violation(letter, Repair()) is None
    kafka.producer.sent.pop(0)
    assert "the record is no longer in readings" in letters.find_violation(letter, Repair()).message


def test_an_omitted_value_is_exported_with_what_is_known(letters, kafka):
    """The line has its size and its position; there is nothing to edit."""
    letter = set_aside_shrunk(kafka, reject(3, b"x" * 9000))
    (entry,) = letters.queue.read_listing(letters._context.cassandra).entries
    assert entry.value_bytes == 9000
    (line,) = letters.export([entry]).content.splitlines()
    assert {"value": None, "value_bytes": 9000, "left_out": ["value"], "offset": 3}.items() <= json.loads(line).items()
    account, _ = letters.describe(letter, personal=False)
    assert (account.value.kind, account.value.size_bytes) == ("none", 9000)
    assert "the original record is in readings, partition 0 offset 3" in account.value.text
    assert letters.format_editable(letter) == ""


def test_a_confirmation_describes_the_outcome_of_each_record():
    """What is sent, what is superseded by a newer version, and what stays."""
    question = actions._describe_redrive(Redriven(sent=1200, superseded=2, still_broken=3), "readings")
    assert question == (
        "1,200 records are sent to readings, once. 2 have a newer version in the table and become superseded, "
        "unsent. 3 are still invalid, and remain pending."
    )
    assert actions._describe_redrive(Redriven(sent=1), "readings") == "1 record is sent to readings, once."
