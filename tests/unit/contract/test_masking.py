"""Personal data are hidden, and so is what nobody knows."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.masking import MASK, mask_personal, shown_names
from penstock.pipelines.users import User


def test_what_is_marked_personal_is_hidden():
    """A personal field is hidden, another one is not, a null is a null."""
    found = mask_personal({"id": "7", "email": "a@b.c", "nationality": "NL", "phone": None}, User)
    assert found == {"id": "7", "email": MASK, "nationality": "NL", "phone": None}


def test_what_is_not_known_is_hidden():
    """A field of another shape, or one that the contract does not know, shows its names alone."""
    found = mask_personal({"name": {"first": "Ada", "last": "L"}, "gender": ["x"], "more": 7}, User)
    assert found == {"name": {"first": MASK, "last": MASK}, "gender": [MASK], "more": MASK}
    assert (mask_personal("Ada", User), mask_personal([1, None], User), mask_personal(None, User)) == (
        MASK,
        [MASK, None],
        None,
    )


def test_what_is_nested_without_end_is_hidden_as_a_whole():
    """As deep as JSON is read: nothing of it is an error."""
    deep = "Ada"
    for _ in range(900):
        deep = [deep]
    assert "Ada" not in repr(mask_personal({"more": deep}, User))


def test_where_a_record_came_from_is_shown():
    """Partition, offset and time are nobody's personal data."""
    assert {"kafka_offset", "kafka_partition", "ingested_at", "id"} <= shown_names(User)


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.just("secret"))
values = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text("abc"), inner)))


@given(values)
def test_no_leaf_gets_through(value):
    """Whatever the shape, nothing but masks and nulls is left of what is unknown."""

    def check(found):
        if isinstance(found, dict):
            [check(one) for one in found.values()]
        elif isinstance(found, list):
            [check(one) for one in found]
        else:
            assert found in (MASK, None)

    check(mask_personal(value, User))
