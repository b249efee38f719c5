import pytest

from penstock.contract.fault import Fault, Reason, Stage


def test_reason_codes_are_stable():
    """Dead-letter topics and dashboards contain these codes: a change here breaks them."""
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
    """An exception whose `__str__` raises."""

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
def test_an_exception_is_described_by_its_type_and_message(error, words):
    """Whatever was raised, the description fits in a header."""
    fault = Fault.of_exception(error, Stage.TRANSFORM)
    assert (fault.reason, fault.message, fault.stage) == (Reason.PROCESSING_ERROR, words, Stage.TRANSFORM)


def test_the_message_of_an_exception_is_bounded():
    """An exception may quote a whole record."""
    assert len(Fault.of_exception(ValueError("x" * 1_000_000)).message) == 1000
