"""Transliterate names of any script for the local part of an e-mail address."""

import re
import unicodedata
from functools import cache

_CYRILLIC = "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя"
_CYRILLIC_SOUNDS = "a b v h g d e ye zh z y i yi y k l m n o p r s t u f kh ts ch sh shch  yu ya"
_PERSIAN = "آابپتثجچحخدذرزژسشصضطظعغفقکكگلمنوهیيئأؤءة"
_PERSIAN_SOUNDS = "a a b p t s j ch h kh d z r z zh s sh s z t z a gh f q k k g l m n v h y y y a v  h"
_LATIN = {
    "æ": "ae",
    "ð": "d",
    "đ": "d",
    "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    "ł": "l",
    "ø": "o",
    "œ": "oe",
    "ß": "ss",
    "þ": "th",
}
_LETTERS = str.maketrans(
    dict(zip(_CYRILLIC, _CYRILLIC_SOUNDS.split(" "), strict=True))
    | dict(zip(_PERSIAN, _PERSIAN_SOUNDS.split(" "), strict=True))
    | _LATIN
)


@cache
def to_latin(name: str) -> str:
    """Transliterate a name to lower-case ASCII letters, digits and hyphens. Returns `user` if nothing remains."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS))
    return re.sub(r"[^a-z0-9-]", "", plain).strip("-") or "user"
