"""Which knee is whose: the manifest's or option's word, the header's, the file name's, the anatomy's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.locate.peaks import Found
from kneerisk.records import Side

Stated = Side | Literal["both"] | None
_RIGHT: Final[Side] = "R"
_LEFT: Final[Side] = "L"
SURE = 0.8
"""From here on the anatomy's word is set against another's."""
UNSURE = 0.6
"""Below this, anatomy alone does not name a side."""


@dataclass(frozen=True, slots=True)
class Named:
    """A knee with its side."""

    knee: Found
    side: Side
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """A side that cannot be scored, with the reason and words for it."""

    reason: Reason
    side: Side | None
    message: str


def name_sides(
    found: Sequence[Found],
    asked: Stated,
    header: Stated,
    by_name: Side | None,
    doubtful: str | None = None,
) -> list[Named | Missing]:
    """Give each knee its side, from the image's left to its right; a manifest or option wins.

    Args:
        found: one or two knees, from the image's left to its right.
        asked: what the manifest or option says.
        header: what the DICOM header says.
        by_name: what the file's name says.
        doubtful: words for how far a further spot looks like a knee that was not taken for one; a row says so
            beside a lone knee, unless one side alone is asked for.
    """
    if len(found) == 2:
        return _two(found[0], found[1], asked, header)
    return _one(found[0], asked, header, by_name, doubtful)


def _two(left: Found, right: Found, asked: Stated, header: Stated) -> list[Named | Missing]:
    """Image left is the participant's right: so bilateral radiographs are shown, and so OAI stores them."""
    disagreements = (flags.SIDE_DISAGREES_HEADER,) if header in ("L", "R") else ()
    both = [
        Named(knee, side, (*_against(knee, side), *disagreements))
        for knee, side in ((left, _RIGHT), (right, _LEFT))
    ]
    return [named for named in both if asked in (None, "both", named.side)]


def _against(knee: Found, side: Side) -> tuple[str, ...]:
    """A flag where the anatomy speaks surely against a side."""
    return (flags.SIDE_DISAGREES_ANATOMY,) if knee.surety >= SURE and knee.looks != side else ()


def _one(
    knee: Found, asked: Stated, header: Stated, by_name: Side | None, doubtful: str | None
) -> list[Named | Missing]:
    sure = knee.surety >= SURE
    if asked in ("L", "R") and header in ("L", "R") and asked != header and sure and knee.looks == header:
        message = (
            f"side {asked} was asked for, but the header says {header}, as does the only knee's anatomy: "
            "correct the manifest's side or the --side option"
        )
        return [Missing(Reason.SIDE_NOT_FOUND, asked, message)]
    side: Side
    disagreements: list[str] = []
    if asked == "L" or asked == "R":
        side = asked
        if header in ("L", "R") and header != side:
            disagreements.append(flags.SIDE_DISAGREES_HEADER)
    elif header == "L" or header == "R":
        side = header
    elif by_name is not None:
        side = by_name
        disagreements.append(flags.SIDE_FROM_NAME)
    elif knee.surety < UNSURE:
        message = "neither manifest, header nor file name names the knee's side, and its anatomy is unclear: "
        return [
            Missing(
                Reason.SIDE_UNKNOWN, None, message + "give a manifest with a side column, or --side L or R"
            )
        ]
    else:
        side = knee.looks
        disagreements.append(flags.SIDE_FROM_ANATOMY)
    disagreements += _against(knee, side)
    named: list[Named | Missing] = [Named(knee, side, tuple(disagreements))]
    if asked == "both" or (asked is None and header == "both"):
        other: Side = "L" if side == "R" else "R"
        teller = "the manifest or option asks for" if asked == "both" else "the header speaks of"
        message = (
            f"{teller} both knees, but only one was found: look at the image, or ask for side {side} alone"
        )
        if doubtful is not None:
            message += f"; a second spot scores {doubtful}"
        named.append(Missing(Reason.SIDE_NOT_FOUND, other, message))
    elif doubtful is not None and asked is None:
        message = (
            f"beside the {side} knee a second spot looks a little like one ({doubtful}) and was not scored: "
            "another view, another part of the body, or a knee to look at"
        )
        named.append(Missing(Reason.NO_KNEE_FOUND, None, message))
    return named
