import pickle

from penstock.contract.reject import Fault, Reason, Reject, Stage


def test_reason_codes_are_stable():
    """Queues and dashboards hold these codes: a change here breaks them."""
    assert [str(reason) for reason in Reason] == [
        "value_missing",
        "frame_broken",
        "schema_unknown",
        "json_malformed",
        "avro_malformed",
        "contract_broken",
        "value_too_large",
        "mapping_failed",
    ]
    assert [str(stage) for stage in Stage] == ["produce", "decode", "transform"]


def test_a_reject_can_be_sent_to_another_process():
    """Spark may carry rejects between processes."""
    reject = Reject(Fault(Reason.FRAME_BROKEN, "cut"), "t", 1, 2, b"k", None, [("h", None)])
    assert pickle.loads(pickle.dumps(reject)) == reject
