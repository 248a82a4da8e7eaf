"""What a release's tables say of one knee at one visit, in one vocabulary for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kneerisk.records import Side


class KneeKey(NamedTuple):
    """One knee at one visit."""

    participant_id: str
    visit_month: int
    side: Side


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
