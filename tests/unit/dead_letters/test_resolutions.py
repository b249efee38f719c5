from datetime import UTC, datetime
from uuid import uuid4

import pytest
from cassandra import WriteTimeout, WriteType
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import Position
from penstock.dead_letters import resolutions
from penstock.dead_letters.resolutions import BUCKETS, ResolutionStore, State, state_of
from tests.unit.fakes import Clock, FakeSession
from tests.unit.letters import FakeSettled

MINE, YOURS = uuid4(), uuid4()


@pytest.fixture
def table() -> FakeSettled:
    return FakeSettled()


@pytest.fixture
def session(table) -> FakeSession:
    return FakeSession(table)


@pytest.fixture
def book(session) -> ResolutionStore:
    resolutions.create_table(session, "ks")
    return ResolutionStore(session, "ks", "t")


def states(session):
    return resolutions.read_resolutions(session, "ks", "t")


def test_without_a_table_every_record_is_pending(session, table):
    """Reading needs no table: a missing one is not queried, and none is created."""
    assert states(session) == {}
    assert len(table.asked) == 1


def test_a_claim_is_read_as_it_was_made(session, book, table):
    """Who, since when by Cassandra's clock, and the offsets from which the topic has to be searched."""
    assert book.claim({"a": None, "b": None}, MINE, "me", {0: 5, 1: 0}) == {"a", "b"}
    table.pass_time(90)
    state = states(session)["a"]
    assert (state.state, state.claim, state.who, state.ends) == (State.CLAIMED, MINE, "me", {0: 5, 1: 0})
    assert (state.at, state.age_s, state.place) == (datetime(2026, 1, 1, tzinfo=UTC), 90, None)
    assert state_of("a", states(session)) == "waiting" == state_of("c", states(session))


def test_one_of_two_claims_wins(session, book):
    """The second command learns which records are not its own."""
    assert book.claim({"a": None}, MINE, "me", {}) == {"a"}
    assert book.claim({"a": None, "b": None}, YOURS, "you", {}) == {"b"}
    assert states(session)["a"].claim == MINE


def test_an_abandoned_claim_is_taken_over_once(session, book):
    """A command that names the current claim gets it; one that names an earlier claim does not."""
    book.claim({"a": None}, MINE, "me", {})
    assert book.claim({"a": MINE}, YOURS, "you", {}) == {"a"}
    assert book.claim({"a": MINE}, uuid4(), "they", {}) == set()
    assert states(session)["a"].claim == YOURS


def test_a_redriven_record_has_its_new_position(session, book):
    """Only the claim that sent it completes it, and it is no longer pending."""
    book.claim({"a": None}, MINE, "me", {})
    assert book.finish({"a": Position(2, 9)}, YOURS) == set()
    assert book.finish({"a": Position(2, 9)}, MINE) == {"a"}
    state = states(session)["a"]
    assert (state.state, state.place, state_of("a", {"a": state})) == (State.REDRIVEN, Position(2, 9), "redriven")
    assert str(state.place) == "2:9"


def test_a_discarded_record_stays_discarded(session, book):
    """It can neither be claimed nor discarded again; who and why are kept."""
    assert book.discard({"a": None}, MINE, "me", "broken toy") == {"a"}
    assert book.claim({"a": None}, YOURS, "you", {}) == set()
    assert book.claim({"a": MINE}, YOURS, "you", {}) == set()
    assert book.discard({"a": None}, YOURS, "you", "") == set()
    state = states(session)["a"]
    assert (state.state, state.who, state.note) == (State.DISCARDED, "me", "broken toy")
    assert state_of("a", {"a": state}) == "discarded"


def test_a_redriven_record_cannot_be_discarded(session, book):
    """Whatever state the caller assumed."""
    book.claim({"a": None}, MINE, "me", {})
    book.finish({"a": Position(0, 0)}, MINE)
    assert book.discard({"a": None}, YOURS, "you", "") == book.discard({"a": MINE}, YOURS, "you", "") == set()


def test_a_change_whose_response_was_lost_counts_as_made(book):
    """A transaction that is retried after a timeout finds its own row and succeeds."""
    assert book.claim({"a": None}, MINE, "me", {}) == {"a"} == book.claim({"a": None}, MINE, "me", {})
    assert book.finish({"a": Position(0, 1)}, MINE) == {"a"} == book.finish({"a": Position(0, 1)}, MINE)


def test_a_transaction_that_times_out_is_retried_and_then_fails(book, session, monkeypatch):
    """The attempts are bounded; the last error is raised unchanged."""
    monkeypatch.setattr("time.sleep", Clock().sleep)
    session._error = WriteTimeout("contention", write_type=WriteType.CAS)
    before = len(session.executed)
    with pytest.raises(WriteTimeout):
        book.claim({"a": None}, MINE, "me", {})
    assert len(session.executed) - before == 5


@given(st.sets(st.text(max_size=9), max_size=60))
def test_concurrent_transactions_are_never_on_one_partition(identities):
    """Each identity occurs once, and no two of a round share a bucket."""
    rounds = list(resolutions._iter_rounds(identities))
    assert sorted(item for some in rounds for item in some) == sorted(identities)
    for some in rounds:
        assert len({resolutions.bucket_of(item) for item in some}) == len(some) <= BUCKETS


def test_an_empty_change_sends_no_request(book, session):
    """An empty call does not bother Cassandra."""
    before = len(session.executed)
    assert book.claim({}, MINE, "me", {}) == book.finish({}, MINE) == book.discard({}, MINE, "me", "") == set()
    assert len(session.executed) == before
