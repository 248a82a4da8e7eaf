"""``--previews``: one picture for each knee, and a page to look through them."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kneerisk_engines.files import written_whole

from kneerisk.marks import marked_png
from kneerisk.records import ForecastPicture, KneeScore
from kneerisk.scoring.outputs.drawing import draw
from kneerisk.storage import writing

_MOST_THREADS = 8


class PreviewKeeper:
    """Writes ``<participant>_<visit>_<side>_<image index>.png`` into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, knees: Sequence[tuple[int, KneeScore, ForecastPicture]]) -> None:
        """Draw some knees, in threads; each file is complete or absent."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(min(len(knees), _MOST_THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda knee: self._write(*knee), knees):
                pass

    def _write(self, index: int, score: KneeScore, forecast: ForecastPicture) -> None:
        crop = score.prediction.crop
        path = self._folder / file_name(
            index, crop.participant_id, crop.ref.visit, crop.side, crop.ref.source_path
        )
        stream = io.BytesIO()
        # Loosely packed: to pack well takes longer than to draw.
        draw(score, forecast.textured).save(stream, format="PNG", compress_level=1)
        with writing(path), written_whole(path) as aside:
            aside.write_bytes(marked_png(stream.getvalue()))


def file_name(index: int, participant_id: str | None, visit: str | None, side: str, source_path: str) -> str:
    """Of a knee's picture.  Plain characters only: ids may hold any."""
    parts = (participant_id or Path(source_path).stem, visit, side, f"{index:06d}")
    return "_".join(re.sub(r"[^\w.-]+", "-", part)[:60] for part in parts if part) + ".png"
