"""What is asked of the files: which ones, whose they are, and how to understand them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kneerisk.errors import UsageError
from kneerisk.places.place import place

if TYPE_CHECKING:
    from kneerisk.records import Side

Invert = Literal["auto", "yes", "no"]
"""``yes`` turns the grey scale once more than the header says, ``no`` never; ``auto`` looks at the bones."""


@dataclass(frozen=True, slots=True)
class InputSettings:
    """Which images, and how to understand them."""

    inputs: tuple[Path, ...]
    side: Side | Literal["both"] | None = None
    """``None``: by header, manifest and markers."""
    id_from: str = "tag"
    spacing_mm: float | None = None
    invert: Invert = "auto"
    follow_links: bool = False
    """Whether links in folders are followed to places outside of ``inputs``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(place(given) for given in self.inputs))
        if self.spacing_mm is not None and not 0.01 <= self.spacing_mm <= 5:
            raise UsageError(f"--spacing-mm is millimetres per pixel, 0.01 to 5; got {self.spacing_mm}")
