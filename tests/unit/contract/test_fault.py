import pytest

from penstock.contract.fault import Fault, Reason, Stage


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
        (Wordless(), "tests.unit.contract.test_fault.Wordless: <exception str() failed>"),
    ],
)
def test_an_exception_is_told_by_its_type_and_words(error, words):
    """Whatever was raised, the message can stand in a header."""
    fault = Fault.of_exception(error, Stage.TRANSFORM)
    assert (fault.reason, fault.message, fault.stage) == (Reason.PROCESSING_ERROR, words, Stage.TRANSFORM)


def test_the_words_of_an_exception_are_bounded():
    """An exception may quote a whole record."""
    assert len(Fault.of_exception(ValueError("x" * 1_000_000)).message) == 1000
