from types import SimpleNamespace

import pytest

from penstock.config import read
from penstock.errors import CassandraUnreachable, Unreachable
from penstock.web.stream import streaming
from penstock.web.stream.query import StreamFacts
from penstock.web.stream.streaming import Streaming
from tests.unit.web import contexts


@pytest.fixture
def context():
    """A context whose Spark and Cassandra are unavailable."""

    def away(*_):
        raise CassandraUnreachable("no answer")

    result = contexts.context(read(), contexts.state(contexts.snapshot()))
    result.cassandra = away
    result.http = None
    result.host = SimpleNamespace(
        is_local=True, list_services=lambda: [SimpleNamespace(name="spark-job", state="starting")]
    )
    return result


@pytest.fixture(autouse=True)
def spark(monkeypatch):
    """A Spark that does not answer."""

    def away(*_):
        raise Unreachable("refused")

    monkeypatch.setattr(streaming.application, "fetch_application", away)
    monkeypatch.setattr(streaming.application, "fetch_master", away)


def test_unavailable_services_are_named_and_the_rest_is_returned(context):
    """Without Cassandra the state of the query is unknown; the offsets are returned."""
    state = Streaming(context).read_state()
    assert (state.query.state, state.lag) == ("unknown", 3)
    assert "no answer" in state.query.told
    assert state.spark.error == "refused; refused"
    assert len(state.partitions) == 2


def test_the_process_is_inspected_while_the_checkpoint_has_no_owner(context, monkeypatch):
    """A job that is starting is not one that was stopped."""
    monkeypatch.setattr(streaming.query, "read_facts", lambda *_: StreamFacts(None, [], []))
    assert Streaming(context).read_state().query.state == "starting"


def test_a_spark_elsewhere_is_not_queried():
    """It says who knows."""
    context = contexts.context(read(spark_master="spark://elsewhere:7077"), contexts.state())
    context.cassandra = context.http = None
    assert "see its own UI" in Streaming(context)._ask_spark().error
