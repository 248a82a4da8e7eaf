"""One radiograph of a release → the crops of its knees: rank-equalised bytes in the right-knee frame.

A crop is kept as its pixels' ranks (:mod:`kneerisk.method.exposure`) in 8 bits: the networks see ranks
alone, whatever window, gamma or depth a detector had, and ranks spread a crop's pixels evenly over the 256
levels (196 pixels each), where a 12- or 16-bit scale cut down to 8 bits would keep few levels in bone.
Augmentation may warp and re-equalise them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kneerisk.errors import Reason
from kneerisk.method.exposure import equalise
from kneerisk.radiograph.upright import spacing_before
from kneerisk.records import KneeCrop, Radiograph, RadiographRef, Refusal, Side
from kneerisk_train.prepare.release import ReleaseImage

COMPRESSION = 4
"""zlib's level: the crops are compressed where they are cut, and stored as they are."""

Localise = Callable[[Radiograph], list[KneeCrop | Refusal]]


@dataclass(frozen=True, slots=True)
class Cropped:
    """A crop, or why there is none (``reason``), of one knee of a radiograph; plain values."""

    side: Side | None
    reason: str | None = None
    message: str | None = None
    pixels: bytes = b""
    """uint8 [S, S], zlib-compressed."""
    spacing_mm: tuple[float, float] | None = None
    """x and y, mm per pixel of the crop."""
    to_source: tuple[float, ...] = ()
    """[2, 3], row by row: crop pixel → source pixel."""
    input_sha256: str | None = None
    qc_flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CropSetup:
    """All that a worker process needs to know."""

    root: Path
    stack: str = "compact"
    """Whose localiser finds the knees."""
    cropped: bool = False
    """Whether every image is one knee's crop already, to be taken as it is."""

    @contextmanager
    def open(self) -> Iterator[Callable[[ReleaseImage], list[Cropped]]]:
        """The localiser, open on one thread: processes, not threads, keep the cores busy."""
        import cv2

        from kneerisk.compile.open import open_network
        from kneerisk.radiograph.knees import as_one_knee, localiser
        from kneerisk.stack.stack import Stack

        cv2.setNumThreads(1)
        if self.cropped:
            yield lambda image: crop(self.root, image, as_one_knee)
            return
        with open_network(Stack.load(self.stack), "localiser", threads=1) as runner:
            localise = localiser(runner)
            yield lambda image: crop(self.root, image, localise)


def crop(root: Path, image: ReleaseImage, localise: Localise) -> list[Cropped]:
    """Read one radiograph and cut its knees out; never empty, never raises for a bad file."""
    from kneerisk.radiograph.knees import reader
    from kneerisk.radiograph.settings import InputSettings

    ref = RadiographRef(
        path=root / image.path,
        source_path=image.path,
        participant_id=image.participant_id,
        visit=str(image.visit_month),
        side=image.side,
    )
    try:
        settings = InputSettings((ref.path,), invert="yes" if image.inverted else "auto")
        radiograph = reader(settings)(ref)
        if isinstance(radiograph, Refusal):
            return [_refused(radiograph)]
        if image.spacing_mm is not None:
            spacing, way = image.spacing_mm, radiograph.to_source
            spacing = spacing if way is None else spacing_before(way, spacing)
            radiograph = replace(radiograph, spacing_mm=spacing, spacing_source="manifest")
        return [
            _refused(knee) if isinstance(knee, Refusal) else _cropped(knee) for knee in localise(radiograph)
        ]
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return [Cropped(None, str(Reason.INTERNAL_ERROR), message)]


def unpack(pixels: bytes, size: int) -> npt.NDArray[np.uint8]:
    """Compressed bytes → uint8 [size, size]."""
    return np.frombuffer(zlib.decompress(pixels), np.uint8).reshape(size, size)


def _cropped(knee: KneeCrop) -> Cropped:
    standard = np.round(equalise(knee.pixels) * 255).astype(np.uint8)
    spacing = None
    if knee.spacing_mm is not None:
        down, across = spacing_before(knee.to_source, knee.spacing_mm)
        spacing = (across, down)
    return Cropped(
        side=knee.side,
        pixels=zlib.compress(standard.tobytes(), COMPRESSION),
        spacing_mm=spacing,
        to_source=tuple(float(v) for v in knee.to_source.ravel()),
        input_sha256=knee.input_sha256,
        qc_flags=knee.qc_flags,
    )


def _refused(refusal: Refusal) -> Cropped:
    return Cropped(
        refusal.side,
        str(refusal.reason),
        refusal.message,
        input_sha256=refusal.input_sha256,
        qc_flags=refusal.qc_flags,
    )
