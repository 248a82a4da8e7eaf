"""What a release holds, in one vocabulary for all of them: its radiographs beside its tables' records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kneerisk.records import Side
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.records import Background, KneeKey, Reading

Kind = Literal["oai", "most", "folder"]


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
class Release:
    """A release, its tables read and its radiographs listed; nothing was decoded."""

    kind: Kind
    root: Path
    images: list[ReleaseImage]
    """In an order that never changes."""
    readings: Mapping[KneeKey, Reading]
    background: Callable[[KneeKey], Background]
    ledger: Ledger
