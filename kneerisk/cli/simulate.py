"""``kneerisk simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the cohort goes.", show_default=False)
    ],
    participants: Annotated[
        int, typer.Option(min=1, help="People, each with one bilateral radiograph.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Write simulated bilateral radiographs as DICOM, with the truth of each knee beside them."""
    from kneerisk.errors import UsageError
    from kneerisk.simulate.cohort import simulate_cohort

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not an empty folder: name a new one")
    truth = simulate_cohort(directory, participants, seed)
    typer.echo(f"{participants} simulated radiographs are in {directory}, their truth in {truth}")
    typer.echo(f"score them: kneerisk score {directory / 'images'} --id-from folder --out risks.parquet")
