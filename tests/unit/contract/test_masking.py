"""Personal data are masked, and so are unknown fields."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.masking import MASK, mask_personal, shown_names
from penstock.pipelines.users import User


def test_personal_fields_are_masked():
    """Other fields are not, and null stays null."""
    masked = mask_personal({"id": "7", "email": "a@b.c", "nationality": "NL", "phone": None}, User)
    assert masked == {"id": "7", "email": MASK, "nationality": "NL", "phone": None}


def test_unknown_fields_are_masked():
    """A field of another shape, or one that the contract does not know, shows only its names."""
    masked = mask_personal({"name": {"first": "Ada", "last": "L"}, "gender": ["x"], "more": 7}, User)
    assert masked == {"name": {"first": MASK, "last": MASK}, "gender": [MASK], "more": MASK}
    assert (mask_personal("Ada", User), mask_personal([1, None], User), mask_personal(None, User)) == (
        MASK,
        [MASK, None],
        None,
    )


def test_deep_nesting_is_masked_as_a_whole():
    """As deep as JSON is read: it is never an error."""
    deep = "Ada"
    for _ in range(900):
        deep = [deep]
    assert "Ada" not in repr(mask_personal({"more": deep}, User))


def test_the_position_of_a_record_is_shown():
    """Partition, offset and time are not personal data."""
    assert {"kafka_offset", "kafka_partition", "ingested_at", "id"} <= shown_names(User)


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.just("secret"))
values = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text("abc"), inner)))


@given(values)
def test_no_unknown_value_is_shown(value):
    """Whatever the shape, only masks and nulls are left."""

    def check(result):
        if isinstance(result, dict):
            [check(item) for item in result.values()]
        elif isinstance(result, list):
            [check(item) for item in result]
        else:
            assert result in (MASK, None)

    check(mask_personal(value, User))
