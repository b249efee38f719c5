"""Where the sign-in leads, and what its form contains."""

import pytest

from penstock.web.sign_in import render_form, safe_path


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "", "x", "/\n", "/a\r\nb"]
)
def test_the_sign_in_leads_nowhere_else(to):
    """Whatever a link contains."""
    assert safe_path(to) == "/"


def test_a_path_of_ours_is_kept():
    """With its query."""
    assert safe_path("/topics/users_created?from=newest") == "/topics/users_created?from=newest"


def test_the_form_escapes_its_error():
    """No part of the address becomes markup."""
    made = render_form('/"><script>', "<b>no</b>")
    assert "<script>" not in made
    assert "<b>" not in made
