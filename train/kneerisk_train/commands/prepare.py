"""Read a cohort's release as distributed and cut out its knees, for training."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kneerisk.cli import options as o
from kneerisk.cli.show import echo

if TYPE_CHECKING:
    from kneerisk_train.prepare.prepare import Progress


app = typer.Typer(add_completion=False)


class ReleaseKind(StrEnum):
    """Whose layout a release has."""

    OAI = "oai"
    MOST = "most"
    FOLDER = "folder"


@app.command()
def prepare(
    kind: Annotated[
        ReleaseKind, typer.Argument(metavar="oai|most|folder", help="Whose layout it is.", show_default=False)
    ],
    root: Annotated[
        Path,
        typer.Argument(
            metavar="ROOT",
            help="The release's folder; for folder also a manifest (.csv, .tsv, .parquet).",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where manifest.parquet, knees.h5 and summary.json go; an unfinished run there goes on.",
            show_default=False,
        ),
    ],
    tables: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The release's tables, where they lie elsewhere.")
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="KNEEL's points: file (or participant_id, side), x_T0, y_T0 … in image pixels.",
        ),
    ] = None,
    cropped: Annotated[
        bool,
        typer.Option("--cropped", help="Every image of the folder is one knee's crop: take it as it is."),
    ] = False,
    stack: Annotated[str, typer.Option(help="Stack whose localiser finds the knees.")] = "compact",
    workers: Annotated[
        int | None, typer.Option(help="Processes; default: one for each CPU.", min=1, show_default=False)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away what an earlier run left in DIR.")
    ] = False,
    progress: o.ShowProgress = True,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Read a cohort's release as distributed and cut out its knees, for training."""
    from kneerisk.cli import show
    from kneerisk_train.prepare.prepare import PrepareSettings, default_workers
    from kneerisk_train.prepare.prepare import prepare as steps_of

    settings = PrepareSettings(
        kind=kind.value,
        root=root,
        out=out,
        tables=tables,
        landmarks=landmarks,
        cropped=cropped,
        stack=stack,
        workers=workers or default_workers(),
        overwrite=overwrite,
    )
    with show.interruptible(f"Stopped. Every finished radiograph is kept: run it again to go on with {out}."):
        summary = _drive(steps_of(settings), progress and not quiet)
    if json:
        show.print_json(summary)
    elif not quiet:
        _tell(summary, out)


def _drive(steps: Iterator[Progress | dict[str, Any]], shown: bool) -> dict[str, Any]:
    from kneerisk.cli.screen.progress import meter

    summary: dict[str, Any] = {}
    with meter(shown, "reading tables", "radiographs") as tell:
        for step in steps:
            if isinstance(step, dict):
                summary = step
                continue
            note = f"{step.knees} knees, {step.left_out} left out"
            if step.reused:
                note += f", {step.reused} images from before"
            tell("cropping", step.done, step.total, note, reused=step.reused)
    return summary


def _tell(summary: dict[str, Any], out: Path) -> None:
    grades = ", ".join(f"KL {grade}: {count}" for grade, count in summary["grades"].items())
    pairs = ", ".join(f"{months} months: {count}" for months, count in summary["pairs"].items())
    echo(f"{summary['knees']} knees of {summary['participants']} participants are in {out}")
    echo(f"  grades: {grades}")
    echo(f"  pairs of visits: {pairs or 'none'}")
    if summary["with_landmarks"]:
        echo(f"  with landmarks: {summary['with_landmarks']}")
    for section, account in summary["accounts"].items():
        echo(f"{section}: {account['total']}")
        for outcome, count in account["counts"].items():
            examples = account["examples"].get(outcome, [])
            first = f" (first: {examples[0]})" if examples and outcome.startswith("left out") else ""
            echo(f"  {count:>8}  {outcome}{first}")
    echo(f"all of this, with examples: {out / 'summary.json'}")
