import pickle

import pytest

from penstock.contract.reject import Fault, Reason, Reject, Stage


def test_reason_codes_are_stable():
    """Queues and dashboards hold these codes: a change here breaks them."""
    assert [str(reason) for reason in Reason] == [
        "value_missing",
        "key_ambiguous",
        "order_unknown",
        "frame_broken",
        "schema_unknown",
        "json_malformed",
        "avro_malformed",
        "contract_broken",
        "value_too_large",
        "processing_error",
        "mapping_failed",
        "transform_failed",
    ]
    assert [str(stage) for stage in Stage] == ["produce", "decode", "transform"]


def test_a_reject_can_be_sent_to_another_process():
    """Spark may carry rejects between processes."""
    reject = Reject(Fault(Reason.FRAME_BROKEN, "cut"), "t", 1, 2, b"k", None, [("h", None)])
    assert pickle.loads(pickle.dumps(reject)) == reject


class Wordless(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TypeError("can't compare"), "TypeError: can't compare"),
        (KeyError("a"), "KeyError: 'a'"),
        (ValueError(), "ValueError"),
        (ValueError("\ud800"), r"ValueError: \ud800"),
        (Wordless(), "tests.unit.contract.test_reject.Wordless: <exception str() failed>"),
    ],
)
def test_an_exception_is_told_by_its_type_and_words(error, words):
    """Whatever was raised, the message can stand in a header."""
    fault = Fault.of_exception(error, Stage.TRANSFORM)
    assert (fault.reason, fault.message, fault.stage) == (Reason.PROCESSING_ERROR, words, Stage.TRANSFORM)


def test_the_words_of_an_exception_are_bounded():
    """An exception may quote a whole record."""
    assert len(Fault.of_exception(ValueError("x" * 1_000_000)).message) == 1000


@pytest.mark.parametrize(
    ("reason", "stage", "key", "value", "has_bytes"),
    [
        (Reason.CONTRACT_BROKEN, Stage.DECODE, b"k", b"v", True),
        (Reason.VALUE_MISSING, Stage.DECODE, None, None, True),
        (Reason.CONTRACT_BROKEN, Stage.TRANSFORM, None, None, False),
        (Reason.PROCESSING_ERROR, Stage.DECODE, None, b"v", True),
        (Reason.PROCESSING_ERROR, Stage.DECODE, b"k", None, True),
        (Reason.PROCESSING_ERROR, Stage.DECODE, None, None, False),
    ],
)
def test_a_record_that_failed_after_it_was_decoded_has_no_bytes(reason, stage, key, value, has_bytes):
    """What the transform or an encoder met is known by its position alone; a null value without a key is what it is."""
    assert Reject(Fault(reason, "", stage), "t", 0, 1, key, value, []).has_bytes is has_bytes
