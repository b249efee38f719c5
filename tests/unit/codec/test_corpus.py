"""The corpus of bad and strange records through only the decoder, where a new case is quickly tried."""

import time

import pytest

from penstock.codec.records import Decoder
from penstock.contract.fault import Fault, Reason
from penstock.pipelines.users import User
from tests.corpus.all import CASES
from tests.corpus.case import Deleted, Rejected, Stored
from tests.corpus.schemas import SCHEMAS
from tests.unit.fakes import FakeSchemas

SCHEMA_IDS = {name: 100 + at for at, name in enumerate(SCHEMAS)}
DECODER = Decoder(User, FakeSchemas({SCHEMA_IDS[name]: schema for name, schema in SCHEMAS.items()}))
LONG_S = 1.0
"""So long must none take by far, on a machine that has other things to do."""


def decoded(case):
    """The outcome of the case's value, and the seconds that it took."""
    sender = case.sender(SCHEMA_IDS)
    value, key = case.value(sender), case.key(sender)
    began_s = time.process_time()
    result = DECODER.deleted(key, None) if value is None else DECODER.decode(value)
    return sender, result, time.process_time() - began_s


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_case_ends_as_declared(case):
    """It is stored with these fields, deleted, or rejected with this reason, these rules and this message; quickly."""
    sender, result, took_s = decoded(case)
    match case.becomes:
        case Stored():
            assert result == case.becomes.record(sender)
        case Deleted():
            assert str(result) == sender.id
        case Rejected(reason, message, rules):
            assert isinstance(result, Fault)
            assert (result.reason, result.rules) == (reason, rules)
            assert message in result.message
    assert took_s < LONG_S


def test_names_of_cases_are_unique():
    """A case's user is derived from its name."""
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_reason_of_a_decoder_is_in_the_corpus():
    """Each reason of the stream has a case, and so has each kind of outcome."""
    reasons = {case.becomes.reason for case in CASES if isinstance(case.becomes, Rejected)}
    never = {Reason.KEY_AMBIGUOUS, Reason.PROCESSING_ERROR}  # a user's id is no text, and its type raises nothing
    others = {Reason.MAPPING_FAILED, Reason.TRANSFORM_FAILED, Reason.ORDER_UNKNOWN}
    assert reasons == set(Reason) - never - others
    assert {type(case.becomes) for case in CASES} == {Stored, Deleted, Rejected}
