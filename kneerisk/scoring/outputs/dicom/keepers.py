"""``--dicom-sr`` and ``--dicom-sc``: what writes reports and captures as images are scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kneerisk.radiograph.flags import NO_DICOM_OUTPUT
from kneerisk.records import ForecastPicture, KneeScore, RadiographRef
from kneerisk.scoring.outputs.dicom.capture import capture_of
from kneerisk.scoring.outputs.dicom.common import packed, save
from kneerisk.scoring.outputs.dicom.report import report_on
from kneerisk.scoring.outputs.drawing import draw
from kneerisk.scoring.outputs.previews import file_name
from kneerisk.scoring.outputs.rows import Row

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

log = logging.getLogger(__name__)

Origin = Callable[[Path], "Dataset | None"]
"""File → the header that a report refers to, or ``None`` where it is no DICOM image."""


class DicomKeeper:
    """Writes an image's report (``<image index>.sr.dcm``) and its knees' captures into their folders."""

    def __init__(
        self, reports: Path | None, captures: Path | None, origin: Origin, provenance: Mapping[str, Any]
    ) -> None:
        self._reports = reports
        self._captures = captures
        self._origin = origin
        self._provenance = provenance

    def keep(self, knees: Sequence[tuple[int, KneeScore, ForecastPicture]]) -> None:
        """Write knees' captures, where captures are asked for."""
        if self._captures is None:
            return
        for index, score, forecast in knees:
            self._capture(self._captures, index, score, forecast)

    def _capture(self, folder: Path, index: int, score: KneeScore, forecast: ForecastPicture) -> None:
        crop = score.prediction.crop
        origin = self._origin_of(crop.ref, crop.sop_instance_uid)
        if origin is None:
            return
        picture = np.asarray(draw(score, forecast.textured).convert("RGB"))
        made = _made(lambda: capture_of(origin, picture, crop.side, self._provenance, index + 1), crop.ref)
        if made is not None:
            name = file_name(index, crop.participant_id, crop.ref.visit, crop.side, crop.ref.source_path)
            save(made, folder / Path(name).with_suffix(".sc.dcm").name)

    def report(self, index: int, ref: RadiographRef, rows: Sequence[Row]) -> None:
        """Write one image's report; its rows get a flag where none can be written."""
        scored = [row for row in rows if row["status"] == "ok"]
        if not scored:
            return
        origin = self._origin_of(ref, scored[0]["sop_instance_uid"])
        made = None
        if origin is not None:
            made = _made(lambda: report_on(origin, scored, self._provenance, index + 1), ref)
        if made is None:
            for row in scored:
                row["qc_flags"] = [*row["qc_flags"], NO_DICOM_OUTPUT]
        elif self._reports is not None:
            save(made, self._reports / f"{index:06d}.sr.dcm")

    def _origin_of(self, ref: RadiographRef, sop_instance_uid: str | None) -> Dataset | None:
        """``None`` also where the file is another than was scored."""
        origin = self._origin(ref.path)
        return origin if origin is not None and origin.SOPInstanceUID == sop_instance_uid else None


def _made(make: Callable[[], Dataset], ref: RadiographRef) -> bytes | None:
    """A file's bytes; ``None`` where a header has what no object may repeat, such as a date that is none."""
    try:
        return packed(make())
    except Exception as error:  # what is wrong with one header costs its report, not the run
        log.warning("%s: no DICOM report can be made of its header: %s", ref.source_path, error)
        return None
