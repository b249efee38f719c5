import pytest

from penstock.source.latin import to_latin


@pytest.mark.parametrize(
    ("name", "latin"),
    [
        ("Mathis", "mathis"),
        ("Gómez", "gomez"),
        ("Møller", "moller"),
        ("Tunçeri", "tunceri"),
        ("Diyarbak\u0131r", "diyarbakir"),
        ("İnönü", "inonu"),
        ("O'Brazil", "obrazil"),
        ("van der Berg", "vanderberg"),
        ("Jean-Claude", "jean-claude"),
        ("Straße", "strasse"),
        ("Рябченко", "ryabchenko"),
        ("Ганна", "hanna"),
        ("اشرفی", "ashrfy"),
        ("山田", "user"),
    ],
)
def test_a_name_in_any_script_becomes_ascii(name, latin):
    """A name in any script becomes the local part of an e-mail address."""
    assert to_latin(name) == latin
