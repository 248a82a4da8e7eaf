"""``kneerisk columns``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o


def columns(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="A table that score wrote; default: what it would write today."
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """What every column of the table means: its unit, when it is null, and what codes stand for."""
    from kneerisk.cli import show
    from kneerisk.scoring.outputs.columns import dictionary
    from kneerisk.scoring.outputs.table import read_metadata

    entries = dictionary() if file is None else read_metadata(file)["data_dictionary"]
    if json:
        show.print_json(entries)
    else:
        show.dictionary(entries)
