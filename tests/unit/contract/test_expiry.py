"""When rows expire: what a pipeline may declare, and what follows from it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

import pytest
from cassandra.cqltypes import Int32Type
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract import cql
from penstock.contract.evolution import ChangeKind
from penstock.contract.expiry import MAX_TTL_S, NEVER_MS, compute_ttl_s, expiry_of
from penstock.contract.fields import to_epoch_ms
from penstock.contract.record import KEY, PERSONAL, Record
from penstock.contract.table import build_table
from penstock.contract.ttl_change import compare_ttl
from penstock.pipelines.identity import contract_digest
from penstock.pipelines.validate import find_problems
from tests.unit.records import READINGS, Session

DAY_S = 86_400


def table_of(ttl=None):
    return build_table("lab", "sessions", Session, ttl=ttl)


class Key(Record, frozen=True, kw_only=True):
    """A record of which only the key is a moment."""

    at: Annotated[datetime, Meta(tz=True, extra=KEY)]
    name: str


class Birth(Record, frozen=True, kw_only=True):
    """A record of which only a moment that is personal could be an expiry."""

    id: Annotated[int, Meta(extra=KEY)]
    at: Annotated[datetime, Meta(tz=True, extra=PERSONAL)]


class Other(Record, frozen=True, kw_only=True):
    """A row of a transform whose field has another type."""

    sensor: Annotated[int, Meta(ge=0, le=1_000_000, extra=KEY)]
    expires_at: timedelta | None = None


def problems_of(ttl, record=Session, **more) -> list[str]:
    return find_problems(replace(READINGS, record=record, ttl=ttl, **more))


@pytest.mark.parametrize("ttl", [None, timedelta(seconds=1), timedelta(seconds=MAX_TTL_S), "expires_at", "lasts"])
def test_a_time_or_a_field_of_the_record_is_accepted(ttl):
    """From one second to Cassandra's 20 years, a datetime, a timedelta."""
    assert problems_of(ttl) == []


@pytest.mark.parametrize(
    ("ttl", "message"),
    [
        (timedelta(0), "ttl: 0:00:00 is not a time to live: write at least `timedelta(seconds=1)`, or remove it"),
        (timedelta(days=-1), "ttl: -1 day, 0:00:00 is not a time to live"),
        (timedelta(milliseconds=1500), "ttl: 0:00:01.500000 is not in whole seconds"),
        (timedelta(seconds=MAX_TTL_S + 1), "ttl: 7,300 days are longer than Cassandra's maximum, 7,300 days"),
        (3600, "ttl: invalid 3600: expected a timedelta, such as `timedelta(days=30)`, or the name of a field"),
        ("nope", "ttl: Session has no field 'nope': write one of 'expires_at', 'lasts', or a timedelta"),
        ("sensor", "ttl: 'sensor' is part of the key, by which rows do not expire: write one of 'expires_at'"),
        ("celsius", "ttl: 'celsius' is neither a datetime nor a timedelta: write one of 'expires_at', 'lasts'"),
    ],
)
def test_what_no_row_can_expire_by_is_a_problem(ttl, message):
    """Each says what to write instead."""
    (problem,) = problems_of(ttl)
    assert problem.startswith(message)


def test_a_moment_of_the_key_is_no_expiry():
    """Without another field, a timedelta is what remains to write."""
    (problem,) = problems_of("at", record=Key)
    assert problem == (
        "ttl: 'at' is part of the key, by which rows do not expire: write a timedelta, such as `timedelta(days=30)`"
    )


def test_personal_data_is_no_expiry():
    """Commands and pages show when a row expires, to whom they hide its field."""
    (problem,) = problems_of("at", record=Birth)
    assert problem.startswith("ttl: 'at' is PERSONAL, and pages show when a row expires: remove that mark, or write a ")


def test_record_and_row_of_a_transform_have_the_field():
    """Verification has the record alone, and Cassandra the row."""
    assert problems_of("expires_at", row=Session) == []
    (problem,) = problems_of("expires_at", row=READINGS.record)
    assert problem.startswith("ttl: Reading has no field 'expires_at'")
    (problem,) = problems_of("expires_at", record=READINGS.record, row=Session)
    assert problem.startswith("ttl: Reading has no field 'expires_at'")
    (problem,) = problems_of("expires_at", row=Other)
    assert problem == "ttl: 'expires_at' is of another type in Session than in Other: give both the same"


def test_a_table_is_created_with_its_ttl():
    """A field needs none: each row has its own. What is not declared is not mentioned."""
    assert cql.render_create_table(table_of(timedelta(days=30))).endswith(") WITH default_time_to_live = 2592000")
    assert cql.render_create_table(table_of("expires_at")) == cql.render_create_table(table_of())


def test_only_rows_with_an_expiry_of_their_own_bind_a_ttl():
    """The statement of all other tables stays as it is."""
    assert cql.render_insert(table_of("expires_at")).endswith(" USING TIMESTAMP ? AND TTL ?")
    assert cql.render_insert(table_of(timedelta(days=30))) == cql.render_insert(table_of())
    assert cql.render_insert(table_of()).endswith(" USING TIMESTAMP ?")


@given(st.integers(0, MAX_TTL_S))
def test_the_driver_reads_the_bound_ttl(ttl_s):
    """Four bytes, after their length."""
    encoded = cql.encode_ttl(ttl_s)
    assert (encoded[:4], Int32Type.deserialize(encoded[4:], 5)) == (b"\0\0\0\4", ttl_s)


moments = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-7))))


@given(moments)
def test_a_moment_is_rounded_up_to_milliseconds(moment):
    """In any zone; a row never expires before its moment."""
    expires_ms = expiry_of(Session, "expires_at").compute_ms(Session(sensor=1, celsius=1.0, expires_at=moment), 5)
    assert 0 <= expires_ms - (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1) < 1.01
    assert expires_ms - to_epoch_ms(moment) == (moment.microsecond % 1000 > 0)


@given(st.timedeltas(), st.integers(0, 2**41))
def test_a_duration_counts_from_kafkas_timestamp(lasts, timestamp_ms):
    """Whatever its sign; it is rounded up to milliseconds."""
    expires_ms = expiry_of(Session, "lasts").compute_ms(Session(sensor=1, celsius=1.0, lasts=lasts), timestamp_ms)
    assert timedelta(0) <= timedelta(milliseconds=1) * (expires_ms - timestamp_ms) - lasts < timedelta(milliseconds=1)


@pytest.mark.parametrize("ttl", ["expires_at", "lasts"])
def test_none_is_never(ttl):
    """The row of a record without the field is written without a TTL, which also ends that of an earlier version."""
    expires_ms = expiry_of(Session, ttl).compute_ms(Session(sensor=1, celsius=1.0), 5)
    assert (expires_ms, compute_ttl_s(expires_ms, 10**12)) == (NEVER_MS, 0)


@given(st.integers(0, 10**13), st.integers(1, MAX_TTL_S * 1000), st.integers(0, 5000))
def test_a_row_expires_in_the_first_second_that_is_not_before_its_expiry(now_ms, remaining_ms, late_ms):
    """Cassandra adds the TTL to the second in which it is written, which is that of the job or a later one."""
    expires_ms = now_ms + remaining_ms
    ttl_s = compute_ttl_s(expires_ms, now_ms)
    gone_ms = ((now_ms + late_ms) // 1000 + ttl_s) * 1000
    assert ttl_s >= 1
    assert 0 <= gone_ms - expires_ms < late_ms + 2000


@pytest.mark.parametrize(
    ("ttl", "existing_s", "message"),
    [
        (timedelta(days=1), 0, "rows of the table do not expire, and the pipeline declares 86400 s"),
        (timedelta(days=1), 60, "rows of the table expire after 60 s, and the pipeline declares 86400 s"),
        ("lasts", 60, "rows of the table expire after 60 s, and the pipeline declares that the field lasts decides"),
    ],
)
def test_another_ttl_than_declared_is_a_change_that_is_allowed(ttl, existing_s, message):
    """It can be carried out for rows to come; those that exist keep theirs."""
    change = compare_ttl(existing_s, table_of(ttl))
    assert change is not None
    assert (change.kind, change.allowed) == (ChangeKind.TTL_CHANGED, True)
    assert change.why == f"{message}; existing rows keep the TTL that they were written with"


def test_the_declared_ttl_and_any_that_is_not_declared_are_no_change():
    """What the pipeline does not mention is the operator's."""
    assert compare_ttl(DAY_S, table_of(timedelta(days=1))) is None
    assert compare_ttl(0, table_of("lasts")) is None
    assert compare_ttl(DAY_S, table_of()) is None


def test_an_existing_table_is_given_the_declared_ttl():
    """A field ends the TTL of the table, which would excuse what the field does not."""
    assert (
        cql.render_set_ttl(table_of(timedelta(days=1))) == "ALTER TABLE lab.sessions WITH default_time_to_live = 86400"
    )
    assert cql.render_set_ttl(table_of("lasts")) == "ALTER TABLE lab.sessions WITH default_time_to_live = 0"


def test_processes_agree_on_when_rows_expire():
    """The digest of a pipeline without a TTL does not change; each other has its own."""
    ttls = (None, timedelta(days=1), timedelta(days=2), "expires_at", "lasts")
    assert len({contract_digest(replace(READINGS, record=Session, ttl=ttl)) for ttl in ttls}) == len(ttls)
