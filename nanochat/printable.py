"""Text of any origin, as a terminal may be given it."""

import re

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Unicode's category Cc but for \\n and \\t; explicit directions, embeddings, overrides and isolates alike (UAX 9),
which make text after them read otherwise than it is; surrogates. Not the marks of direction (U+200E, U+200F, U+061C):
Hebrew and Arabic are written with them, and they move nothing but their neighbours."""


def printable(text: str) -> str:
    """Text without what a terminal would obey: control characters other than line ends and tabs, and overrides of the
    direction of writing. Halves of surrogate pairs go too, which no terminal takes. All else is a text's own: spaces
    that do not break, joiners in emoji and in Persian, soft hyphens.
    """
    return _OBEYED.sub("\N{REPLACEMENT CHARACTER}", text)
