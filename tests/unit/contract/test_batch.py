from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.batch import TALLY_DDL, Decoded, Tally, merge, tally
from penstock.contract.reject import Fault, Reason, Reject
from tests.unit.records import Reading

READING = Reading(sensor=1, celsius=1.0)


def reject(partition: int, offset: int) -> Reject:
    return Reject(Fault(Reason.JSON_MALFORMED, "no"), "t", partition, offset, None, b"x", [])


def decoded(stored, rejected) -> Decoded:
    return Decoded([(READING, 0, *place) for place in stored], [reject(*place) for place in rejected])


places = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), unique=True, max_size=30)


def test_a_tally_spans_stored_and_rejected_records_of_a_partition():
    """A tally counts what was stored and what was set aside, from the first to the last offset of both."""
    found = tally(decoded([(0, 5), (0, 7), (2, 1)], [(0, 4), (1, 9)]), stored_at_ms=99)
    assert found == [
        Tally(0, 4, 7, records=3, stored=2, rejected=1, filtered=0, stored_at_ms=99),
        Tally(1, 9, 9, records=1, stored=0, rejected=1, filtered=0, stored_at_ms=99),
        Tally(2, 1, 1, records=1, stored=1, rejected=0, filtered=0, stored_at_ms=99),
    ]


def test_a_batch_of_nothing_has_no_tally():
    """Where nothing was read there is nothing to tell."""
    assert tally(decoded([], []), 1) == []
    assert merge([]) == []


@given(places)
def test_tallies_count_every_record_once(found):
    """However records fall on partitions, each is counted once and lies within its tally."""
    half = len(found) // 2
    tallies = tally(decoded(found[:half], found[half:]), 5)
    assert [one.partition for one in tallies] == sorted({partition for partition, _ in found})
    for one in tallies:
        mine = [offset for partition, offset in found if partition == one.partition]
        assert (one.first_offset, one.last_offset, one.records) == (min(mine), max(mine), len(mine))
        assert one.records == one.stored + one.rejected + one.filtered
    assert sum(one.stored for one in tallies) == half


@given(st.lists(places, max_size=4), st.randoms())
def test_merge_gives_the_same_in_any_order(parts, random):
    """Tasks may answer in any order."""
    tallies = [one for number, part in enumerate(parts) for one in tally(decoded(part, []), number)]
    shuffled = list(tallies)
    random.shuffle(shuffled)
    assert merge(tallies) == merge(shuffled)
    assert sum(one.records for one in merge(tallies)) == sum(map(len, parts))


def test_merge_keeps_the_last_acknowledgement():
    """A partition is done when the last of its parts is."""
    parts = [Tally(0, 0, 4, 5, 5, 0, 0, 30), Tally(0, 5, 9, 5, 3, 1, 1, 20)]
    assert merge(parts) == [Tally(0, 0, 9, 10, 8, 1, 1, 30)]


def test_tally_ddl_names_the_fields_in_order():
    """Spark's columns are the tally's fields, in order."""
    assert [column.split()[0] for column in TALLY_DDL.split(", ")] == list(Tally._fields)
