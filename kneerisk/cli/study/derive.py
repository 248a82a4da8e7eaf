"""``kneerisk derive``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o


class OutcomeChoice(StrEnum):
    """``--outcome``."""

    ANY_RISE = "any-rise"
    NO_0TO1 = "no-0to1"
    TWO_GRADES = "two-grades"
    INCIDENT_OA = "incident-oa"
    SEVERE = "severe"


class BasisChoice(StrEnum):
    """``--basis``."""

    AUTO = "auto"
    IMAGE = "image"
    IMAGE_OTHER = "image+other"
    GRADE = "grade"
    GRADE_OTHER = "grade+other"


class LevelChoice(StrEnum):
    """``--level``."""

    KNEE = "knee"
    PARTICIPANT = "participant"


def derive(
    table: Annotated[Path, typer.Argument(help="A table of kneerisk score.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The table to write: .parquet or .csv.", show_default=False)],
    outcome: Annotated[
        list[OutcomeChoice] | None,
        typer.Option(
            help="An outcome; repeat for several. Default: all, or with --calibration those that it is for.",
            show_default=False,
        ),
    ] = None,
    months: Annotated[
        list[int] | None,
        typer.Option(
            help="A horizon: 12, 24, 36 or 48; repeat for several. Default: all.", show_default=False
        ),
    ] = None,
    basis: Annotated[
        BasisChoice,
        typer.Option(help="What the risks stand on; auto takes for each knee the best that it has."),
    ] = BasisChoice.AUTO,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="A file of kneerisk calibrate, applied to its column.", show_default=False),
    ] = None,
    level: Annotated[
        LevelChoice,
        typer.Option(help="One row a knee, or one a participant: the worse knee, and either knee."),
    ] = LevelChoice.KNEE,
    stack: Annotated[
        str | None,
        typer.Option(
            help="Whose equations; default: those of the stack that scored the table.", show_default=False
        ),
    ] = None,
    bom: Annotated[
        bool, typer.Option("--bom", help="Start a .csv with a byte-order mark, for Excel.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it is there.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Add other outcomes' risks to a score table: no images, no networks.

    Outcomes: any-rise; no-0to1 (any rise but 0 to 1); two-grades (a rise by two or more); incident-oa (KL
    below 2 to 2 or more); severe (to KL 3 or more). Each is a column risk_OUTCOME_MONTHSm, with a column
    that says what it stands on.
    """
    from kneerisk.cli.show import interruptible
    from kneerisk.cli.study import show
    from kneerisk.study.derive import derive as run
    from kneerisk.study.outcomes import Outcome

    with interruptible("Stopped; no table was written."):
        done = run(
            table,
            out,
            outcomes=None if outcome is None else [Outcome(each.value) for each in outcome],
            months=months or (),
            basis=basis.value,
            calibrations=calibration or (),
            level="participant" if level is LevelChoice.PARTICIPANT else "knee",
            stack=stack,
            bom=bom,
            overwrite=overwrite,
        )
    show.derived(done, as_json=json, quiet=quiet)
