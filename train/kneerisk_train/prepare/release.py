"""What a release holds, in one vocabulary for all of them: radiographs, readings, backgrounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from kneerisk.records import Side
from kneerisk_train.prepare.ledger import Ledger

Kind = Literal["oai", "most", "folder"]


class KneeKey(NamedTuple):
    """One knee at one visit."""

    participant_id: str
    visit_month: int
    side: Side


@dataclass(frozen=True, slots=True)
class ReleaseImage:
    """One radiograph of a release that is to be read."""

    path: str
    """Relative to the release's root, with ``/``."""
    participant_id: str
    visit_month: int
    side: Side | Literal["both"] | None
    """Which knees it shows, by the release; ``None`` where that is left to the radiograph."""
    spacing_mm: tuple[float, float] | None = None
    """Row and column spacing by a table; goes before the header's."""
    inverted: bool = False
    """Whether a table says that the grey scale is stored reversed."""
    rank: int = 0
    """Of several radiographs of one knee and visit the lowest rank is kept, then the first path."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the readers said of one knee at one visit."""

    kl_grade: int | None
    """Kellgren-Lawrence grade, 0 to 4."""
    kl_code: str | None = None
    """What stands in the grade's place where it is none."""


@dataclass(frozen=True, slots=True)
class Background:
    """What else the tables say of one knee at one visit; ``None`` where they are silent."""

    tkr: bool | None = None
    """Whether the knee was replaced by this visit."""
    tkr_month: float | None = None
    """When it was or will be replaced, months after enrolment."""
    site: str | None = None
    age: float | None = None
    """Years, at this visit."""
    sex: Literal["F", "M"] | None = None
    bmi: float | None = None
    womac: float | None = None
    """WOMAC total of this knee."""
    injury: bool | None = None
    """Any injury of this knee up to this visit, as far as told."""
    surgery: bool | None = None
    split: str | None = None
    """The split that a folder's manifest puts the participant in."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release, its tables read and its radiographs listed; nothing was decoded."""

    kind: Kind
    root: Path
    images: list[ReleaseImage]
    """In an order that never changes."""
    readings: Mapping[KneeKey, Reading]
    background: Callable[[KneeKey], Background]
    ledger: Ledger
