"""What a training leaves to read: every step's loss as text, TensorBoard's events, figures and pictures."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.marks import marked_png
from kneerisk_train.run.pictures import captioned, draw_losses

log = logging.getLogger(__name__)

Picture = npt.NDArray[np.uint8]


class TrainingLog:
    """Of one stage; a context manager.  A process that does not ``write`` keeps none."""

    def __init__(self, out: Path, name: str, first: int, *, write: bool = True):
        """Go on with the log of a run's folder before step ``first``.

        What was written after the last checkpoint is taken out: those steps are run again.
        """
        self._out, self._name, self._first, self._write = out, name, first, write
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if not self._write:
            return self
        from torch.utils.tensorboard import SummaryWriter

        self._out.mkdir(parents=True, exist_ok=True)
        path = self._out / f"{self._name}.csv"
        kept = _rows_before(path, self._first)
        aside = path.with_suffix(".part")
        with aside.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(kept)
        aside.replace(path)
        self._headed = bool(kept)
        self._file = self._open.enter_context(path.open("a", newline="", encoding="utf-8", buffering=1))
        events = SummaryWriter(str(self._out / "logs" / self._name), purge_step=self._first)
        self._events = self._open.enter_context(events)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def step(self, step: int, rate: float, loss: float, terms: Mapping[str, float]) -> None:
        """One step's learning rate and loss, in full precision, with its terms."""
        if not self._write:
            return
        writer = csv.writer(self._file)
        if not self._headed:
            writer.writerow(["step", "learning_rate", "loss", *terms])
            self._headed = True
        writer.writerow([step, repr(rate), repr(loss), *(repr(value) for value in terms.values())])
        for key, value in {"loss": loss, "learning_rate": rate, **terms}.items():
            self._events.add_scalar(f"{self._name}/{key}", value, step)

    def figures(self, step: int, figures: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        """Figures of the averaged weights on val, pictures, and how the loss went so far."""
        if not self._write:
            return
        if figures:
            log.info("%s %d: val %s", self._name, step, json.dumps(dict(figures)))
        for key, value in figures.items():
            self._events.add_scalar(f"{self._name}/val/{key}", value, step)
        folder = self._out / "pictures" / self._name
        for key, picture in pictures.items():
            folder.mkdir(parents=True, exist_ok=True)
            titled = captioned(f"{self._name}, after {step} steps", picture)
            encoded = cv2.imencode(".png", titled)[1].tobytes()
            (folder / f"{key}-{step:06}.png").write_bytes(marked_png(encoded))
        self._draw_losses(folder / "loss.png")

    def _draw_losses(self, path: Path) -> None:
        heading, *rows = _rows_before(self._out / f"{self._name}.csv")
        steps = [int(row[0]) for row in rows]
        losses = {
            key: [float(row[place]) for row in rows]
            for place, key in enumerate(heading)
            if key not in ("step", "learning_rate")
        }
        draw_losses(path, self._name, steps, losses)


def _rows_before(path: Path, first: int | None = None) -> list[list[str]]:
    """Heading and rows of earlier steps, or of all; a kill may have cut the last line off."""
    if first == 0 or not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        heading, *rows = csv.reader(stream)
    whole = (row for row in rows if len(row) == len(heading))
    return [heading, *(row for row in whole if first is None or int(row[0]) < first)]
