"""``kneerisk calibrate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli.study import evaluate as e
from kneerisk.cli.study.derive import OutcomeChoice


class KindChoice(StrEnum):
    """``--kind``."""

    LOGISTIC = "logistic"
    BETA = "beta"
    ISOTONIC = "isotonic"
    BY_GRADE = "by-grade"


def calibrate(
    table: e.Table,
    labels: e.LabelsFile,
    out: Annotated[Path, typer.Option(help="The .json to write.", show_default=False)],
    kind: Annotated[
        KindChoice,
        typer.Option(
            help="logistic: intercept and slope, for few events; beta and isotonic bend more, for many; "
            "by-grade: an intercept for each grade."
        ),
    ] = KindChoice.LOGISTIC,
    outcome: e.Outcome = OutcomeChoice.ANY_RISE,
    months: e.Months = 12,
    column: e.Column = None,
    population: Annotated[
        str | None,
        typer.Option(
            help="Whose rates these are, in words; it stands in every table that this is applied to.",
            show_default=False,
        ),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(
            help="Fit sets of grades too, that hold the reader's in this share of knees, such as 0.9.",
            show_default=False,
        ),
    ] = None,
    window: e.Window = 3,
    allow_unmatched: e.AllowUnmatched = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Make risks right for one's own cohort; apply the file with derive --calibration.

    How well it does is measured on participants that were left out of the fit.
    """
    from kneerisk.cli.show import interruptible
    from kneerisk.cli.study import show
    from kneerisk.study.outcomes import Outcome
    from kneerisk.study.recalibrate import calibrate as run

    with interruptible("Stopped; nothing was written."):
        done = run(
            table,
            labels,
            out,
            kind=kind.value,
            outcome=Outcome(outcome.value),
            months=months,
            column=column,
            population=population,
            conformal=conformal,
            window=window,
            allow_unmatched=allow_unmatched,
            overwrite=overwrite,
        )
    show.calibration(done, as_json=json, quiet=quiet)
