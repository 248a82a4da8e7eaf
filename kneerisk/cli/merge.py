"""``kneerisk merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o


def merge(
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART...", help="The tables of every shard.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The table to write: .parquet or .csv.", show_default=False)],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="INPUT",
            help="The cohort's folder or manifest, as it was given to score: its images as they are now must "
            "all have their rows. May be given several times.",
            show_default=False,
        ),
    ] = None,
    bom: Annotated[
        bool, typer.Option("--bom", help="Start a .csv with a byte-order mark, for Excel.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it is there.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Join the tables of all shards; refuse gaps, duplicates and mixed stacks."""
    from kneerisk.cli import show
    from kneerisk.radiograph.knees import list_images
    from kneerisk.radiograph.settings import InputSettings
    from kneerisk.scoring.merge import merge_tables

    images = list_images(InputSettings(tuple(against)))[0] if against else None
    with show.interruptible("Stopped; no table was written."):
        summary = merge_tables(parts, out, bom=bom, overwrite=overwrite, against=images)
    show.summary(summary, as_json=json, quiet=quiet)
    raise typer.Exit(int(summary.exit_code))
