"""What a layout does for a simulated cohort, and the layouts by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from kneerisk.errors import UsageError
from kneerisk.simulate.participants import Participant, Visit

LayoutName = Literal["plain", "oai", "most"]
LAYOUTS: tuple[LayoutName, ...] = ("plain", "oai", "most")


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


def open_layout(name: str, directory: Path, months: tuple[int, ...], nda: bool) -> Layout:
    """The layout ``name`` in ``directory``; nothing is written before its ``start``.

    Raises:
        UsageError: no layout has this name, or the release knows no such visit.
    """
    from kneerisk.simulate.layouts.most import MONTHS as MOST_MONTHS
    from kneerisk.simulate.layouts.most import MostLayout
    from kneerisk.simulate.layouts.oai import CODES, OaiLayout
    from kneerisk.simulate.layouts.plain import PlainLayout

    known = {"plain": None, "oai": tuple(CODES), "most": tuple(MOST_MONTHS)}
    if name not in known:
        raise UsageError(f"layout is {name!r}; give one of {', '.join(known)}")
    if nda and name != "oai":
        raise UsageError("NDA's names are of the oai layout alone: drop --nda, or add --layout oai")
    allowed = known[name]
    strange = [] if allowed is None else [month for month in months if month not in allowed]
    if strange and allowed is not None:
        raise UsageError(
            f"the {name} layout has no visit at {', '.join(map(str, strange))} months; "
            f"it has {', '.join(map(str, allowed))}"
        )
    if name == "plain":
        return PlainLayout(directory)
    return OaiLayout(directory, months, nda) if name == "oai" else MostLayout(directory, months)
