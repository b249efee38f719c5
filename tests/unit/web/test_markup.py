"""HTML is built in one way, which escapes what is put into it."""

import ast
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from penstock import web
from penstock.web.markup import html, join

FOLDER = Path(web.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))
TAG = re.compile(r"</?[a-z][a-z0-9]*[ />]")
TRUSTED = {"sign_in.py": "_FORM", "app.py": "_HEAD"}
"""Constants of HTML, by file."""


def test_text_is_escaped_and_html_is_not() -> None:
    """What `html` and `join` return can be put into other HTML as it is."""
    bold = html("<b>{}</b>", "1 < 2")
    assert bold == "<b>1 &lt; 2</b>"
    assert html("<p>{text} {inner}</p>", text='"', inner=bold) == "<p>&quot; <b>1 &lt; 2</b></p>"
    assert join([bold, "&"], "<br>") == "<b>1 &lt; 2</b><br>&amp;"
    assert all(isinstance(result, Markup) for result in (bold, join([])))


def test_numbers_take_format_specifications() -> None:
    """As in f-strings."""
    assert html("{:,} {share:.0%}", 1234, share=0.5) == "1,234 50%"


@given(st.text())
def test_no_text_ends_an_element_or_an_attribute(text: str) -> None:
    """Whatever a record or an error contains, the browser shows it as text."""
    escaped = html("{}", text)
    assert not set("<>\"'") & set(escaped)
    assert unescape(escaped) == text
    assert html("{}", escaped) == escaped


def _list_templates(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the first argument of each call of `html`, and the separator of each call of `join`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from {"html": node.args[:1], "join": node.args[1:]}.get(node.func.id, [])


def _list_docstrings(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(FOLDER)) for path in SOURCES])
def test_pages_build_html_in_one_way(path: Path) -> None:
    """Tags are only in literal templates of `html`, separators of `join` and constants, never in f-strings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    trusted = TRUSTED.get(path.name, "")
    templates = list(_list_templates(tree))
    allowed = {id(node) for node in (*templates, *_list_docstrings(tree))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [trusted]:
            allowed.add(id(node.value))
    for template in templates:
        assert isinstance(template, ast.Constant) or ast.unparse(template) == trusted or path.name == "markup.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in allowed:
            assert not TAG.search(node.value), f"line {node.lineno}: build this with html()"


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(FOLDER)) for path in SOURCES])
def test_pages_send_html_in_one_way(path: Path) -> None:
    """Elements get their content from `add_html` and `update_html`, which escape text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if path.name != "elements.py":
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) == "ui.html"), path
            assert not (isinstance(node, ast.Attribute) and node.attr == "content" and isinstance(node.ctx, ast.Store))
