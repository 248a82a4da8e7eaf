"""Of what kind a manifest's own column of text is, by what every cell could be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date

from kneerisk.records import CarriedKind

NOTHING = frozenset({"", ".", "na", "n/a", "nan", "null", "none"})
"""Cells that say nothing, in lower case."""

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_REAL = re.compile(r"-?((0|[1-9]\d{0,14})(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")


class Guess:
    """What a column of text can still be, cell by cell.

    "007" and "+5" are names and no numbers, as is a whole number of more than 18 digits; 0 and 1, yes and no
    are not taken for truth values. Nothing said (NA, NaN, null, none, ".") fits any kind but text.
    """

    def __init__(self) -> None:
        self._left: list[CarriedKind] = ["boolean", "date", "integer", "real"]
        self._empty = True

    def add(self, cell: str | None) -> None:
        """Look at one more cell."""
        if cell is None or not self._left or cell.casefold() in NOTHING:
            return
        self._empty = False
        self._left = [kind for kind in self._left if _fits(kind, cell)]

    @property
    def kind(self) -> CarriedKind:
        """Text where nothing else fits every cell, or no cell says anything."""
        return "text" if self._empty or not self._left else self._left[0]


def together(several: Iterable[Mapping[str, CarriedKind]]) -> dict[str, CarriedKind]:
    """The kinds of several manifests' columns: whole numbers and others are numbers, other mixtures text."""
    found: dict[str, CarriedKind] = {}
    for kinds in several:
        for name, kind in kinds.items():
            before = found.setdefault(name, kind)
            if kind != before:
                found[name] = "real" if {kind, before} == {"integer", "real"} else "text"
    return found


def _fits(kind: CarriedKind, cell: str) -> bool:
    if kind == "boolean":
        return cell.casefold() in ("true", "false")
    if kind == "date":
        try:
            return date.fromisoformat(cell).isoformat() == cell
        except ValueError:
            return False
    pattern = _INTEGER if kind == "integer" else _REAL
    return pattern.fullmatch(cell) is not None
