"""Text that others wrote (file names, headers, manifests, model cards), made safe to print.

A terminal takes some characters for commands: they clear the screen, rewrite what was said before, or turn
the order of letters around.
"""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\n\t")
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that turn the direction of writing: "exe.gpj" is read as "jpg.exe"."""


def printable(text: str) -> str:
    """The text with every control character, direction mark and half character written as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if sign in _KEPT or not _is_command(sign) else _spelt(sign) for sign in text)


def json_text(document: str) -> str:
    """A JSON document whose texts hold no such characters: JSON's own escapes stand for them."""
    return "".join(
        sign if sign in _KEPT or not _is_command(sign) else f"\\u{ord(sign):04x}" for sign in document
    )


def _is_command(sign: str) -> bool:
    return sign in _TURNING or unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")


def _spelt(sign: str) -> str:
    return sign.encode("unicode_escape", "backslashreplace").decode("ascii")
