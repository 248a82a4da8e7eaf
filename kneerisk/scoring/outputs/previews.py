"""``--previews``: one picture for each knee, and a page to look through them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kneerisk.records import FloatArray, KneeScore
from kneerisk.scoring.outputs.drawing import draw
from kneerisk.scoring.outputs.table import replace_with

_MOST_THREADS = 8


class PreviewKeeper:
    """Writes ``<participant>_<visit>_<side>_<image index>.png`` into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, knees: Sequence[tuple[int, KneeScore, FloatArray]]) -> None:
        """Draw some knees, in threads; each file is complete or absent."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(min(len(knees), _MOST_THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda knee: self._write(*knee), knees):
                pass

    def _write(self, index: int, score: KneeScore, forecast: FloatArray) -> None:
        crop = score.prediction.crop
        name = file_name(index, crop.participant_id, crop.ref.visit, crop.side, crop.ref.source_path)
        aside = self._folder / f"{name}.new"
        # Loosely packed: to pack well takes longer than to draw.
        draw(score, forecast).save(aside, format="PNG", compress_level=1)
        replace_with(aside, self._folder / name)


def file_name(index: int, participant_id: str | None, visit: str | None, side: str, source_path: str) -> str:
    """Of a knee's picture.  Plain characters only: ids may hold any."""
    parts = (participant_id or Path(source_path).stem, visit, side, f"{index:06d}")
    return "_".join(re.sub(r"[^\w.-]+", "-", part)[:60] for part in parts if part) + ".png"
