"""The difference between two texts, as it is shown."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.web.schemas.difference import diff_lines

OLDER = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj"


def test_removed_lines_are_before_added_lines():
    """Each line has its number in its text."""
    lines = diff_lines("a\nb\nc", "a\nB\nc")
    assert [(item.sign, item.older, item.newer, item.text) for item in lines] == [
        (" ", 1, 1, "a"),
        ("-", 2, None, "b"),
        ("+", None, 2, "B"),
        (" ", 3, 3, "c"),
    ]


def test_equal_texts_have_no_difference():
    """Nothing is shown, not even the lines of both."""
    assert diff_lines(OLDER, OLDER) == []


def test_lines_far_from_a_change_are_omitted():
    """Once before it, once after it."""
    lines = diff_lines(OLDER, OLDER.replace("e", "E"), around=1)
    assert "".join(item.sign for item in lines) == "@ -+ @"
    assert [item.text for item in lines] == ["", "d", "e", "E", "f", ""]


def test_a_text_may_be_empty():
    """All lines of the other are added, or removed."""
    assert [line.sign for line in diff_lines("", "a\nb")] == ["+", "+"]
    assert [line.sign for line in diff_lines("a", "")] == ["-"]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_with_full_context_either_text_can_be_restored(older, newer):
    """The older text is what is not added, the newer what is not removed."""
    lines = diff_lines("\n".join(older), "\n".join(newer), around=100)
    if older != newer:
        assert [item.text for item in lines if item.sign != "+"] == older
        assert [item.text for item in lines if item.sign != "-"] == newer
