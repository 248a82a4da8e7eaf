"""``kneerisk watch``."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.places.place import place
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.settings import RunSettings, StackSettings

_RUN = ("workers", "timeout", "batch_size", "previews", "dicom_sr", "dicom_sc")


@o.takes(data=InputSettings, networks=StackSettings, run=(RunSettings, _RUN))
def watch(
    data: InputSettings,
    networks: StackSettings,
    run: RunSettings,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the table's parts.", show_default=False)
    ],
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 10.0,
    most: Annotated[int, typer.Option(help="Images of one part.")] = 64,
    once: Annotated[bool, typer.Option("--once", help="End when nothing new is there.")] = False,
    send: Annotated[
        str | None,
        typer.Option(
            metavar="dicomweb://…", help="Store reports and captures in this PACS.", show_default=False
        ),
    ] = None,
    quiet: o.Quiet = False,
) -> None:
    """Score what arrives in a folder or a PACS, until it is stopped by Ctrl-C or SIGTERM."""
    from kneerisk.scoring.cohort import watch_cohort
    from kneerisk.scoring.watch import WatchSettings

    settings = WatchSettings(out, every, most, once=once, send=None if send is None else place(send))
    stop = Event()

    def finish(*_: object) -> None:
        """The part at hand is written; a second signal does not wait for it."""
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, finish)
    signal.signal(signal.SIGTERM, finish)
    for part in watch_cohort(data, networks, run, settings, stop):
        if not quiet:
            typer.echo(f"{part.out}: {part.images} images, {part.ok} knees scored, {part.rows - part.ok} not")
