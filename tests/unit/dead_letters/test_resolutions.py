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


def test_before_there_is_a_table_every_record_waits(session, table):
    """Reading needs no table: nothing is asked of one that is not there, and nothing is made."""
    assert states(session) == {}
    assert len(table.asked) == 1


def test_a_claim_is_read_as_it_was_made(session, book, table):
    """Who, since when by Cassandra's clock, and from where on the topic has to be looked through."""
    assert book.claim({"a": None, "b": None}, MINE, "me", {0: 5, 1: 0}) == {"a", "b"}
    table.pass_time(90)
    one = states(session)["a"]
    assert (one.state, one.claim, one.who, one.ends) == (State.CLAIMED, MINE, "me", {0: 5, 1: 0})
    assert (one.at, one.age_s, one.place) == (datetime(2026, 1, 1, tzinfo=UTC), 90, None)
    assert state_of("a", states(session)) == "waiting" == state_of("c", states(session))


def test_of_two_claims_one_is_made(session, book):
    """The second command is told which records are not its own."""
    assert book.claim({"a": None}, MINE, "me", {}) == {"a"}
    assert book.claim({"a": None, "b": None}, YOURS, "you", {}) == {"b"}
    assert states(session)["a"].claim == MINE


def test_a_claim_left_behind_is_taken_over_once(session, book):
    """Who names the present claim gets it; who names one that is gone does not."""
    book.claim({"a": None}, MINE, "me", {})
    assert book.claim({"a": MINE}, YOURS, "you", {}) == {"a"}
    assert book.claim({"a": MINE}, uuid4(), "they", {}) == set()
    assert states(session)["a"].claim == YOURS


def test_a_redriven_record_has_its_new_place(session, book):
    """Only the claim that sent it finishes it, and it does not wait any more."""
    book.claim({"a": None}, MINE, "me", {})
    assert book.finish({"a": Position(2, 9)}, YOURS) == set()
    assert book.finish({"a": Position(2, 9)}, MINE) == {"a"}
    one = states(session)["a"]
    assert (one.state, one.place, state_of("a", {"a": one})) == (State.REDRIVEN, Position(2, 9), "redriven")
    assert str(one.place) == "2:9"


def test_a_discarded_record_stays_so(session, book):
    """It can neither be claimed nor discarded again; who and why are kept."""
    assert book.discard({"a": None}, MINE, "me", "broken toy") == {"a"}
    assert book.claim({"a": None}, YOURS, "you", {}) == set()
    assert book.claim({"a": MINE}, YOURS, "you", {}) == set()
    assert book.discard({"a": None}, YOURS, "you", "") == set()
    one = states(session)["a"]
    assert (one.state, one.who, one.note) == (State.DISCARDED, "me", "broken toy")
    assert state_of("a", {"a": one}) == "discarded"


def test_a_redriven_record_cannot_be_discarded(session, book):
    """Whatever the caller believed its state to be."""
    book.claim({"a": None}, MINE, "me", {})
    book.finish({"a": Position(0, 0)}, MINE)
    assert book.discard({"a": None}, YOURS, "you", "") == book.discard({"a": MINE}, YOURS, "you", "") == set()


def test_a_change_whose_answer_was_lost_counts_as_made(book):
    """A transaction that is sent again, because its answer timed out, finds its own line and is content."""
    assert book.claim({"a": None}, MINE, "me", {}) == {"a"} == book.claim({"a": None}, MINE, "me", {})
    assert book.finish({"a": Position(0, 1)}, MINE) == {"a"} == book.finish({"a": Position(0, 1)}, MINE)


def test_a_transaction_that_times_out_is_tried_again_and_then_fails(book, session, monkeypatch):
    """The attempts are bounded; the last error is raised as it is."""
    monkeypatch.setattr("time.sleep", Clock().sleep)
    session._error = WriteTimeout("contention", write_type=WriteType.CAS)
    before = len(session.executed)
    with pytest.raises(WriteTimeout):
        book.claim({"a": None}, MINE, "me", {})
    assert len(session.executed) - before == 5


@given(st.sets(st.text(max_size=9), max_size=60))
def test_transactions_side_by_side_are_never_on_one_partition(identities):
    """Each identity comes once, and no two of a round share a bucket."""
    rounds = list(resolutions._iter_rounds(identities))
    assert sorted(one for some in rounds for one in some) == sorted(identities)
    for some in rounds:
        assert len({resolutions.bucket_of(one) for one in some}) == len(some) <= BUCKETS


def test_changing_nothing_asks_nothing(book, session):
    """An empty call does not bother Cassandra."""
    before = len(session.executed)
    assert book.claim({}, MINE, "me", {}) == book.finish({}, MINE) == book.discard({}, MINE, "me", "") == set()
    assert len(session.executed) == before
