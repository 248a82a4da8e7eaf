"""``kneerisk evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli.study.derive import LevelChoice, OutcomeChoice

Table = Annotated[Path, typer.Argument(help="A table of kneerisk score or derive.", show_default=False)]
LabelsFile = Annotated[
    Path,
    typer.Option(
        help="Readers' grades over time: participant_id, side, and kl_0m, kl_12m, … or visit_month, kl; or "
        "OAI's or MOST's own table of readings, or the folder that has it.",
        show_default=False,
    ),
]
Outcome = Annotated[OutcomeChoice, typer.Option(help="What is to happen.")]
Months = Annotated[int, typer.Option(help="By when.")]
Column = Annotated[
    str | None,
    typer.Option(
        help="The risk; default: the column that derive makes for outcome and months, else risk_12m.",
        show_default=False,
    ),
]
Window = Annotated[int, typer.Option(help="The nearest reading within so many months of the horizon counts.")]
AllowUnmatched = Annotated[
    bool,
    typer.Option("--allow-unmatched", help="Go on where some labels have no scored knee; they are counted."),
]


def evaluate(
    table: Table,
    labels: LabelsFile,
    outcome: Outcome = OutcomeChoice.ANY_RISE,
    months: Months = 12,
    column: Column = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            help="A risk from which a knee is called positive; repeat for several. Default: the events' "
            "share, its half and its double.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="A further column to part the knees by; repeat for several.", show_default=False),
    ] = None,
    level: Annotated[
        LevelChoice, typer.Option(help="Each knee, or whether either knee of a participant had it.")
    ] = LevelChoice.KNEE,
    window: Window = 3,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="Marked landmarks: participant_id, side, lm_T0_x … lm_F6_y in source pixels.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write all figures: .json, or .csv with a row each.", show_default=False),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Draws of participants for the intervals; 0: fewer intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    allow_unmatched: AllowUnmatched = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it is there.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Hold risks against what happened: discrimination, calibration, net benefit, by group, with intervals.

    Two knees of a participant count as one person in every interval. Knees that cannot have the outcome
    (KL 4 for a rise) take no part, and are counted.
    """
    from kneerisk.cli.show import interruptible
    from kneerisk.cli.study import show
    from kneerisk.study import outcomes, tables
    from kneerisk.study.evaluate import evaluate as run

    if out is not None:
        tables.check_figures(out, overwrite=overwrite, inputs=(table, labels))
    with interruptible("Stopped; nothing was written."):
        found = run(
            table,
            labels,
            outcome=outcomes.Outcome(outcome.value),
            months=months,
            column=column,
            thresholds=threshold or (),
            by=by or (),
            level=level.value,
            window=window,
            landmarks=landmarks,
            bootstraps=bootstrap,
            seed=seed,
            allow_unmatched=allow_unmatched,
        )
        if out is not None:
            tables.write_figures(found, out)
    show.evaluation(found, as_json=json, quiet=quiet)
