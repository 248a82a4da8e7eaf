"""What a layout does for a simulated cohort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kneerisk.simulate.participants import Participant, Visit


@dataclass(frozen=True, slots=True)
class Shot:
    """One image to write for a visit."""

    path: str
    """Below the cohort's folder, with ``/``."""
    date: str
    """yyyymmdd, simulated."""
    series: str | None = None
    """SeriesDescription of a picture of something else; ``None`` for the bilateral PA radiograph."""


class Layout(Protocol):
    """Where images go, and which tables stand beside them."""

    def identity(self, person: Participant) -> str:
        """The participant's id, as the tables have it."""
        ...

    def shots(self, person: Participant, visit: Visit) -> list[Shot]:
        """The images of an attended visit: the bilateral PA radiograph first, then other pictures."""
        ...

    def start(self) -> None:
        """Begin the tables."""
        ...

    def add(self, person: Participant) -> None:
        """Append a participant to the tables."""
        ...

    def finish(self) -> None:
        """Put the tables into place; called when every image is written."""
        ...

    def close(self) -> None:
        """Drop tables that are not finished."""
        ...
