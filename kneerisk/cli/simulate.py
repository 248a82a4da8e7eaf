"""``kneerisk simulate``."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli.show import echo

if TYPE_CHECKING:
    from kneerisk.simulate.cohort import CohortSettings, Written


class LayoutChoice(StrEnum):
    """``--layout``."""

    PLAIN = "plain"
    OAI = "oai"
    MOST = "most"


def simulate(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the cohort goes.", show_default=False)
    ],
    participants: Annotated[
        int, typer.Option(min=1, help="People, each with one bilateral radiograph a visit.")
    ] = 10,
    visits: Annotated[str, typer.Option(metavar="0,12,…", help="Months since baseline, the first 0.")] = "0",
    layout: Annotated[
        LayoutChoice, typer.Option(help="How files and tables lie: plainly, or as in a release.")
    ] = LayoutChoice.PLAIN,
    nda: Annotated[bool, typer.Option("--nda", help="OAI's tables under NDA's names.")] = False,
    dropout: Annotated[float, typer.Option(help="Share of participants lost in a year.")] = 0.06,
    spacing_mm: Annotated[
        float | None,
        typer.Option(
            help="mm per pixel; default: each system's own, about 0.16. Try 0.5 to rehearse quickly."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; no byte depends on it.")] = 1,
    progress: o.ShowProgress = True,
) -> None:
    """Write a simulated cohort: bilateral DICOM radiographs over visits, tables, the truth of each knee."""
    from kneerisk.simulate.cohort import CohortSettings

    settings = CohortSettings(
        directory=directory,
        participants=participants,
        visits=_months(visits),
        layout=layout.value,
        seed=seed,
        spacing_mm=spacing_mm,
        dropout=dropout,
        nda=nda,
        workers=workers,
    )
    _tell(settings.layout, directory, _drive(settings, progress))


def _months(text: str) -> tuple[int, ...]:
    from kneerisk.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--visits is {text!r}; give months with commas between, such as 0,12,24") from None


def _drive(settings: CohortSettings, shown: bool) -> Written:
    from kneerisk.cli import show
    from kneerisk.cli.screen.progress import meter
    from kneerisk.simulate.cohort import Written, simulate_cohort

    written = None
    message = f"Stopped. {settings.directory} is unfinished, without its tables: delete it and run again."
    with show.interruptible(message), meter(shown, "simulating", "participants") as tell:
        for step in simulate_cohort(settings):
            if isinstance(step, Written):
                written = step
            else:
                tell("simulating", step.done, step.total, f"{step.images} images")
    assert written is not None
    return written


def _tell(layout: str, directory: Path, written: Written) -> None:
    echo(
        f"{written.images} simulated radiographs of {written.participants} participants are in "
        f"{directory}, their truth in {written.truth}"
    )
    if written.best_auc is not None:
        echo(
            f"of {written.knees} knees that could rise, {written.rises} are read higher 12 months on; "
            f"the true risk's own AUC for that is {written.best_auc:.3f}: the best that a study can hope for "
            f"({written.image_auc:.3f} for what a radiograph can show)"
        )
    if layout == "plain":
        echo(f"score them: kneerisk score {shlex.quote(str(directory / 'manifest.csv'))} --out risks.parquet")
    else:
        echo(f"prepare them: kneerisk prepare {layout} {shlex.quote(str(directory))} --out prepared")
