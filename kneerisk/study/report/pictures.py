"""Pictures of a report's knees: previews that a run kept, or crops of the sources with landmarks."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kneerisk.errors import UsageError
from kneerisk.marks import MARK
from kneerisk.radiograph.knees import reader
from kneerisk.radiograph.settings import InputSettings, Invert
from kneerisk.records import LANDMARKS, FloatArray, RadiographRef, Refusal

if TYPE_CHECKING:
    from PIL import Image

SIZE = 320
"""Pixels of a crop's side, and of a thumbnail's longer one."""

_PREVIEW_WIDTH = 860
_PREVIEW = re.compile(r"_(?P<side>[LR])_(?P<index>\d{6,})\.png$")
_MARGIN = 1.35
"""How much wider than its landmarks a knee is shown."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as the page embeds it."""

    data: str
    """A ``data:`` address."""
    width: int
    height: int
    now: tuple[tuple[float, float], ...] = ()
    """16 landmarks (x, y) in the picture's pixels; none where the picture shows them itself, or where there
    are none."""
    later: tuple[tuple[float, float], ...] = ()
    generated: bool = False
    """Whether the forecast radiograph, which is generated, is in the picture."""


class Album:
    """Finds the pictures of a table's rows."""

    def __init__(self, previews: Path | None, roots: Sequence[Path], invert: Invert = "auto") -> None:
        """Look through the folder of previews; radiographs are opened when a picture is asked for.

        Args:
            previews: the folder of ``score --previews``.
            roots: folders, or files of folders, that ``source_path`` is relative to.
            invert: as the run's ``--invert``.

        Raises:
            UsageError: ``previews`` holds no preview.
        """
        self._previews: dict[tuple[str, int], Path] = {}
        self._roots = [root if root.is_dir() else root.parent for root in roots]
        self._read = reader(InputSettings(tuple(roots), invert=invert))
        if previews is not None:
            for path in sorted(previews.glob("*.png")) if previews.is_dir() else ():
                if match := _PREVIEW.search(path.name):
                    self._previews[match["side"], int(match["index"])] = path
            if not self._previews:
                raise UsageError(f"--previews {previews} holds no preview that kneerisk score wrote")

    def picture(self, row: Mapping[str, Any]) -> Picture | None:
        """Of one row: its preview, else its source, else none."""
        kept = self._previews.get((str(row.get("side")), int(row.get("image_index") or 0)))
        if kept is not None and row["status"] == "ok" and row.get("image_index") is not None:
            return _preview(kept)
        path = next((p for root in self._roots if (p := root / row["source_path"]).is_file()), None)
        return None if path is None else self._source(path, row)

    def _source(self, path: Path, row: Mapping[str, Any]) -> Picture | None:
        found = self._read(RadiographRef(path, row["source_path"]))
        if isinstance(found, Refusal):
            return None
        pixels = found.pixels
        if "inversion-detected" in (row.get("qc_flags") or ()):
            pixels = 1 - pixels
        now, later = _landmarks(row, "lm_now"), _landmarks(row, "lm_12m")
        if now is None:
            return _embedded(_grey(pixels, SIZE))
        return _crop(pixels, now, later)


def _preview(path: Path) -> Picture:
    from PIL import Image

    with Image.open(path) as image:
        image.thumbnail((_PREVIEW_WIDTH, _PREVIEW_WIDTH))
        found = _embedded(image.convert("RGB"))
    return Picture(found.data, found.width, found.height, generated=True)


def _crop(pixels: FloatArray, now: FloatArray, later: FloatArray | None) -> Picture:
    """The square around the landmarks, as the radiograph is stored."""
    low, high = now.min(axis=0), now.max(axis=0)
    side = float((high - low).max()) * _MARGIN
    left, top = (low + high) / 2 - side / 2
    ys, xs = (np.round(start + np.arange(SIZE) * side / SIZE).astype(int) for start in (top, left))
    inside = (ys[:, None] >= 0) & (ys[:, None] < pixels.shape[0]) & (xs >= 0) & (xs < pixels.shape[1])
    taken = pixels[np.clip(ys, 0, pixels.shape[0] - 1)[:, None], np.clip(xs, 0, pixels.shape[1] - 1)]
    found = _embedded(_grey(np.where(inside, taken, 0).astype(np.float32), SIZE))
    scale = SIZE / side

    def placed(points: FloatArray | None) -> tuple[tuple[float, float], ...]:
        if points is None:
            return ()
        return tuple((round((x - left) * scale, 1), round((y - top) * scale, 1)) for x, y in points.tolist())

    return Picture(found.data, found.width, found.height, placed(now), placed(later))


def _landmarks(row: Mapping[str, Any], prefix: str) -> FloatArray | None:
    values = [[row.get(f"{prefix}_{name}_{axis}") for axis in "xy"] for name in LANDMARKS]
    if any(value is None for point in values for value in point):
        return None
    return np.asarray(values, np.float32)


def _grey(pixels: FloatArray, longest: int) -> Image.Image:
    """Stretched between its darkest and brightest hundredth."""
    from PIL import Image

    low, high = np.percentile(pixels, (1, 99))
    stretched = np.clip((pixels - low) / max(float(high - low), 1e-6), 0, 1)
    image = Image.fromarray((stretched * 255).astype(np.uint8))
    image.thumbnail((longest, longest))
    return image


def _embedded(image: Image.Image) -> Picture:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=82, comment=MARK)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return Picture(f"data:image/jpeg;base64,{encoded}", *image.size)
