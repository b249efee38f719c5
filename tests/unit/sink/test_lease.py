import inspect
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime

import msgspec
import pytest
from cassandra import OperationTimedOut
from structlog.testing import capture_logs

from penstock.errors import JobRunning
from penstock.sink import lease
from penstock.sink.lease import TTL_S, Lease, Owner, hold_lease, this_process
from tests.unit.fakes import Clock, FakeSession, created

NAME = "/checkpoint/t"


class FakeLeases:
    """The table of leases: conditions and TTLs as in Cassandra, by the test's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, tuple[float, dict]] = {}
        self.error: Exception | None = None
        self.lose_answer = False

    def __call__(self, query: str, values: tuple) -> list[dict]:
        if self.error:
            raise self.error
        answer = self._answer(query, values)
        if self.lose_answer:
            self.lose_answer = False
            raise OperationTimedOut
        return [answer]

    def row(self, name: str = NAME) -> dict | None:
        until_s, row = self._rows.get(name, (0.0, {}))
        return row if until_s > self._clock.now_s else None

    def _answer(self, query: str, values: tuple) -> dict:
        if query.startswith("INSERT"):
            name, owner, since = values
            present = self.row(name)
            return {"[applied]": False, **present} if present else self._put(name, owner, since)
        if query.startswith("UPDATE"):
            owner, since, name, wanted = values
            present = self.row(name)
            if present and present["owner"] == wanted:
                return self._put(name, owner, since)
            return {"[applied]": False, **({"owner": present["owner"]} if present else {})}
        name, wanted = values
        applied = (self.row(name) or {}).get("owner") == wanted
        if applied:
            del self._rows[name]
        return {"[applied]": applied}

    def _put(self, name: str, owner: str, since: datetime) -> dict:
        row = {"name": name, "owner": owner, "since": since.replace(tzinfo=None)}  # as the driver reads it
        self._rows[name] = (self._clock.now_s + TTL_S, row)
        return {"[applied]": True}


@pytest.fixture
def leases(clock) -> FakeLeases:
    return FakeLeases(clock)


@pytest.fixture
def session(leases) -> FakeSession:
    return FakeSession(leases)


@pytest.fixture
def mine(session) -> Lease:
    return Lease(session, "ks", NAME)


@pytest.fixture
def theirs(session) -> Lease:
    """The lease of a job on another machine."""
    other = Lease(session, "ks", NAME)
    other.me = msgspec.structs.replace(other.me, host="elsewhere", pid=77)
    return other


def owner(leases: FakeLeases) -> str | None:
    row = leases.row()
    return row and str(msgspec.json.decode(row["owner"], type=lease.Owner))


def test_a_lease_has_one_owner(mine, theirs, leases, clock, monkeypatch):
    """While it is renewed no other job gets it; the error names the owner, since when, and what to type."""
    theirs.take()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        theirs.renew()

    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(
        JobRunning, match=r"process 77 on elsewhere, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    ) as caught:
        mine.take()
    assert NAME in caught.value.message
    assert caught.value.hint == "./penstock status spark-job"
    assert sum(clock.slept_s) == TTL_S + 5


def test_a_lease_that_is_not_renewed_expires(mine, theirs, leases, clock):
    """A waiting job gets it then, and reports once for whom it waits."""
    theirs.take()
    with capture_logs() as logs:
        mine.take()
    assert sum(clock.slept_s) == TTL_S
    assert [line["owner"] for line in logs if line["event"] == "waiting_for_lease"] == ["process 77 on elsewhere"]
    assert owner(leases) == str(mine.me)


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(mine, session, leases, clock):
    """Whether its process id is free, or belongs to a process that started later."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for pid, started in ((child.pid, "1"), (os.getpid(), "1")):
        dead = Lease(session, "ks", NAME)
        dead.me = msgspec.structs.replace(mine.me, pid=pid, started=started)
        dead.take()
        mine.take(wait_s=0)
        assert owner(leases) == str(mine.me)
        mine.release()
    assert clock.slept_s == []


def test_a_zombie_process_is_dead():
    """A killed driver does not keep the lease because its parent has not reaped it yet."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = this_process()
    alive = msgspec.structs.replace(me, pid=child.pid, started=lease._read_start_time(child.pid))
    assert not lease._is_dead(alive, me)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert lease._is_dead(alive, me)
    child.communicate()


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"space": "another container"}])
def test_nothing_is_known_of_a_process_elsewhere(change):
    """Another machine, boot or container: its lease has to expire."""
    me = this_process()
    assert not lease._is_dead(msgspec.structs.replace(me, pid=2**30, **change), me)


def test_without_proc_no_process_is_known_to_be_dead(monkeypatch):
    """The lease has to expire."""
    monkeypatch.setattr(lease, "_read_boot_id", lambda: "")
    monkeypatch.setattr(lease, "_read_start_time", lambda _pid: "")
    me = this_process()
    assert not lease._is_dead(msgspec.structs.replace(me, pid=2**30), me)


def test_a_lost_lease_stops_the_job(session, theirs, leases, clock):
    """The log names the new owner, `on_lost` is called once, and no further batch is allowed."""
    lost = []
    mine = Lease(session, "ks", NAME, on_lost=lambda: lost.append(1))
    mine.take()
    clock.sleep(TTL_S + 1)
    theirs.take()
    with capture_logs() as logs:
        mine.renew()
        mine.renew()
    assert [(line["event"], line["owner"]) for line in logs] == [("lease_lost", "process 77 on elsewhere")]
    assert lost == [1]
    for check in (mine.confirm, mine.check_kept):
        with pytest.raises(JobRunning, match="elsewhere"):
            check()
    mine.release()
    assert owner(leases) == "process 77 on elsewhere"


def test_an_expired_lease_without_a_new_owner_is_reacquired(mine, leases, clock):
    """A Cassandra that is unavailable for longer than the lease does not stop the job by itself."""
    mine.take()
    clock.sleep(TTL_S + 30)
    assert owner(leases) is None
    mine.renew()
    mine.confirm()
    assert owner(leases) == str(mine.me)


def test_a_fresh_lease_is_confirmed_without_a_query(mine, session, clock):
    """A batch costs no query while the lease is known to be ours; afterwards Cassandra is asked."""
    mine.take()
    asked = len(session.executed)
    clock.sleep(TTL_S)
    mine.confirm()
    assert len(session.executed) == asked
    clock.sleep(1)
    mine.confirm()
    assert len(session.executed) > asked


def test_no_batch_starts_while_the_owner_is_unknown(mine, leases, clock):
    """The driver's error is raised, and the batch is retried later."""
    mine.take()
    clock.sleep(TTL_S + 1)
    leases.error = OperationTimedOut()
    with pytest.raises(OperationTimedOut):
        mine.confirm()
    leases.error = None
    mine.confirm()


def test_a_claim_with_a_lost_response_may_have_been_applied(mine, leases):
    """It is found to be ours when it is retried."""
    leases.lose_answer = True
    mine.take(wait_s=0)
    mine.confirm()


def test_a_cassandra_that_stays_unavailable_is_an_error(mine, leases):
    """It is asked several times, and then the driver's error is raised."""
    leases.error = OperationTimedOut()
    with pytest.raises(OperationTimedOut):
        mine.take()


def test_a_lease_is_released_at_the_end(mine, theirs, leases):
    """After the block the next job gets it at once, also if the block failed."""
    with hold_lease(mine):
        assert owner(leases) == str(mine.me)
    assert owner(leases) is None
    with pytest.raises(ZeroDivisionError), hold_lease(mine):
        raise ZeroDivisionError
    assert owner(leases) is None
    theirs.take(wait_s=0)


def test_a_lease_that_cannot_be_released_expires(mine, leases):
    """If Cassandra is unavailable at the end, the log says so."""
    with capture_logs() as logs, hold_lease(mine):
        leases.error = OperationTimedOut()
    assert "lease_not_released" in [line["event"] for line in logs]


def test_a_lease_is_renewed_by_a_thread(mine, leases, monkeypatch):
    """The thread continues after a Cassandra error, and ends with the block."""
    monkeypatch.setattr(lease, "RENEW_S", 0.001)
    failed, renewed = threading.Event(), threading.Event()
    renew = mine.renew

    def once_failing():
        if not failed.is_set():
            failed.set()
            raise OperationTimedOut
        renew()
        renewed.set()

    monkeypatch.setattr(mine, "renew", once_failing)
    with capture_logs() as logs, hold_lease(mine):
        assert renewed.wait(10)
    assert "lease_not_renewed" in [line["event"] for line in logs]
    assert "lease" not in [thread.name for thread in threading.enumerate()]


def test_the_table_is_created(session):
    """In the keyspace, if it does not exist."""
    session = FakeSession()
    lease.create_table(session, "ks")
    (made,) = created(session)
    assert "CREATE TABLE IF NOT EXISTS ks.leases" in made
    assert "name text PRIMARY KEY" in made


def test_every_change_is_conditional_and_every_lease_expires(mine):
    """No statement takes over another owner's lease, and none keeps one permanently."""
    assert "IF NOT EXISTS USING TTL 15" in mine._insert
    assert "USING TTL 15" in mine._update
    assert mine._update.endswith("IF owner = %s")
    assert mine._delete.endswith("IF owner = %s")
    assert inspect.signature(Lease.take).parameters["wait_s"].default == 20


def of(owner: Owner | None) -> FakeSession:
    """A session whose leases contain this owner's row."""
    text = owner and msgspec.json.encode(owner).decode()
    answer = [{"owner": text, "since": datetime(2026, 1, 2)}] if owner else []
    session = FakeSession(lambda query, _values: [{"table_name": "leases"}] if "system_schema" in query else answer)
    return session


def test_the_owner_of_a_lease_is_read():
    """And since when; reading changes nothing."""
    session = of(this_process())
    result = lease.read_holder(session, "ks", NAME)
    assert result == lease.Holder(this_process(), datetime(2026, 1, 2, tzinfo=UTC), is_dead=False)
    assert all(query.startswith("SELECT") for query, _ in session.executed)


def test_a_lease_of_a_dead_process_is_recognised():
    """On this machine it is known at once; on another it is unknown."""
    me = this_process()
    assert lease.read_holder(of(Owner(me.host, me.pid, "0", me.space)), "ks", NAME).is_dead
    assert not lease.read_holder(of(Owner("elsewhere", me.pid, "0", me.space)), "ks", NAME).is_dead


def test_a_lease_may_have_no_owner():
    """Neither without a row, nor before a job has created the table."""
    assert lease.read_holder(of(None), "ks", NAME) is None
    assert lease.read_holder(FakeSession(), "ks", NAME) is None


def test_the_names_of_held_leases_are_read():
    """A row whose owner has expired is not held."""
    tables = [{"table_name": "leases", "comment": ""}]
    rows = [{"name": "b", "owner": "x"}, {"name": "a", "owner": "y"}, {"name": "c", "owner": None}]
    session = FakeSession(lambda query, _: rows if "leases" in query and "system_schema" not in query else tables)
    assert lease.list_held_names(session, "ks") == ["a", "b"]
    assert lease.list_held_names(FakeSession(), "ks") == []
