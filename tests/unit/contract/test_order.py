"""Which layout of a topic a record belongs to, and the start of its write timestamp."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.order import (
    FIRST_RANK,
    ONE_LAYOUT,
    PARTITIONERS,
    Order,
    Rank,
    TopicLayout,
    find_partitioners,
    kept_timestamp_us,
    murmur2,
)

GROWN = Order((TopicLayout(4), TopicLayout(6, 1_000_000, {0: 100, 1: 100, 2: 100, 3: 100})))
"""Four partitions of which a hundred records each were read before there were six."""
keys = st.binary(max_size=40)


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(key, hashed):
    """The values are those of Kafka's own tests, with the sign bit cleared."""
    assert murmur2(key) == hashed & 0x7FFFFFFF


@given(st.integers(0, 99), st.integers(0, 2**40), st.none() | keys)
def test_a_topic_that_never_grew_has_one_rank(partition, offset, key):
    """Offsets are the order, whatever the key is."""
    assert ONE_LAYOUT.rank(partition, offset, key) == FIRST_RANK


@given(keys, st.integers(0, 3), st.integers(0, 99))
def test_records_read_before_the_growth_stay_in_the_first_layout(key, partition, offset):
    """Also where the new number of partitions would assign the same partition."""
    assert GROWN.rank(partition, offset, key) == FIRST_RANK


@pytest.mark.parametrize("partitioner", [murmur2, zlib.crc32], ids=["java", "librdkafka"])
@given(key=keys, offset=st.integers(100, 10_000))
def test_a_moved_key_is_newer_in_its_new_partition(partitioner, key, offset):
    """Its records there start at offset 0, and are later than all of the old partition."""
    old, new = partitioner(key) % 4, partitioner(key) % 6
    rank = GROWN.rank(new, offset if new < 4 else offset - 100, key)
    assert rank == Rank(1, 1_000_000, True)
    if old != new and partitioner is murmur2 and zlib.crc32(key) % 6 != old:
        assert GROWN.rank(old, offset, key) == FIRST_RANK, "a producer with the old number of partitions"


def test_an_order_that_no_partitioner_explains_is_not_proven():
    """Without a key, or by another partitioner: it arrived after the growth was found, and its order is unknown."""
    explained = {murmur2(b"k") % 6, murmur2(b"k") % 4, zlib.crc32(b"k") % 6, zlib.crc32(b"k") % 4}
    partition = next(number for number in range(6) if number not in explained)
    open_rank = Rank(1, 1_000_000, False)
    assert GROWN.rank(partition, 500, b"k") == open_rank
    assert GROWN.rank(0, 500, None) == open_rank


many_keys = st.lists(keys, min_size=200, max_size=200, unique=True)


@pytest.mark.parametrize("name", PARTITIONERS)
@given(many_keys)
def test_the_partitioner_of_a_topic_is_found_by_its_keys(name, many):
    """The other one explains some of them too, by chance; whatever number of partitions a key was sent with."""
    placed = [(PARTITIONERS[name](key) % (4 if at % 2 else 6), key) for at, key in enumerate(many)]
    assert find_partitioners([*placed, (0, None)], [4, 6]) == {name}


@given(many_keys)
def test_both_partitioners_count_if_both_are_used(many):
    """As when a program in Java and one on librdkafka share a topic."""
    placed = [((murmur2 if at % 2 else zlib.crc32)(key) % 4, key) for at, key in enumerate(many)]
    assert find_partitioners(placed, [4]) == set(PARTITIONERS)


@given(st.lists(st.tuples(st.integers(0, 3), keys), max_size=19))
def test_a_few_keys_are_not_enough_to_find_a_partitioner(placed):
    """Then any known partitioner may have been used."""
    assert find_partitioners(placed, [4, 6]) == set(PARTITIONERS)


def test_an_unused_partitioner_moves_no_key():
    """A record that was not read before the growth was found is in the older layout, even if the partition matches by
    chance.
    """
    numbers = (b"%d" % number for number in range(99))
    key = next(key for key in numbers if zlib.crc32(key) % 6 == murmur2(key) % 4 != murmur2(key) % 6)
    old = murmur2(key) % 4
    by_both = Order((TopicLayout(4), TopicLayout(6, 1_000_000)))
    by_one = Order((TopicLayout(4), TopicLayout(6, 1_000_000, {}, frozenset({"murmur2"}))))
    assert by_both.rank(old, 7, key) == Rank(1, 1_000_000, True)
    assert by_one.rank(old, 7, key) == FIRST_RANK
    assert by_one.rank(murmur2(key) % 6, 0, key) == Rank(1, 1_000_000, True)


@given(st.lists(st.tuples(st.integers(0, 7), keys), max_size=30), st.data())
def test_the_order_of_a_key_is_kafkas(sends, data):
    """However often the topic grows and is polled: a later version of a key is never ranked before an earlier one.

    Producers know the number of partitions at once here; the job polls the topic now and then, and whatever it read
    until then belongs to the number that it knew.
    """
    partitions, layouts, ends = 2, [TopicLayout(2)], {}
    known: dict[bytes, int] = {}
    for grows, key in sends:
        if grows == 0 and partitions < 12:
            partitions += data.draw(st.integers(1, 3))
            layouts.append(TopicLayout(partitions, layouts[-1].shift_us + 1_000_000, dict(ends)))
        order = Order(tuple(layouts))
        partition = murmur2(key) % partitions
        offset = ends.get(partition, 0)
        ends[partition] = offset + 1
        rank = order.rank(partition, offset, key)
        assert rank.shift_us + offset > known.get(key, -1)
        known[key] = rank.shift_us + offset


@given(st.lists(st.tuples(st.integers(0, 7), keys), max_size=30), st.data())
def test_the_order_is_kafkas_however_late_a_growth_is_found(sends, data):
    """A job that was slow, or down, has read few of the earlier records: the topic's own partitioner decides.

    One growth: a key that returns to its first partition at a second one has no order until its records are read, which
    `verify` names when Kafka's timestamps contradict (`contradicted` in `reconciliation.sql`).
    """
    only = frozenset({"murmur2"})
    partitions, layouts, sent = 2, [TopicLayout(2)], []
    ends: dict[int, int] = {}
    for grows, key in sends:
        if grows == 0 and len(layouts) == 1:
            partitions += data.draw(st.integers(1, 3))
            read = {partition: data.draw(st.integers(0, end)) for partition, end in ends.items()}
            layouts.append(TopicLayout(partitions, layouts[-1].shift_us + 1_000_000, read, only))
        partition = murmur2(key) % partitions
        sent.append((partition, ends.get(partition, 0), key))
        ends[partition] = sent[-1][1] + 1
    known: dict[bytes, int] = {}
    for partition, offset, key in sent:
        place = Order(tuple(layouts)).rank(partition, offset, key).shift_us + offset
        assert place > known.get(key, -1)
        known[key] = place


EPOCH_US = 5_000_000


@given(st.integers(0, 99), st.integers(0, 2**40), keys, st.integers(0, EPOCH_US + 2**41))
def test_a_redriven_record_moves_back_and_never_ahead(partition, offset, key, order_us):
    """No header puts a record after its own position: that would break the order of the others."""
    own = GROWN.rank(partition, offset, key)
    rank = GROWN.rank_of(partition, offset, key, b"%d" % order_us, epoch_us=EPOCH_US)
    if order_us < EPOCH_US + own.shift_us + offset:
        assert (rank.shift_us + offset, rank.is_kept, rank.is_proven) == (order_us - EPOCH_US, True, True)
        assert rank.layout == (order_us >= EPOCH_US + 1_000_000)
    else:
        assert rank == own


@pytest.mark.parametrize(
    "order", [None, b"", b"-1", b"+1", b" 1", b"1.0", b"x", "\N{ARABIC-INDIC DIGIT ONE}".encode(), b"1" * 19, b"1\n"]
)
def test_a_header_that_is_not_a_timestamp_is_ignored(order):
    """Anybody can write a header."""
    assert kept_timestamp_us(order, 10**18) is None
    assert GROWN.rank_of(0, 7, b"k", order, epoch_us=EPOCH_US) == GROWN.rank(0, 7, b"k")
