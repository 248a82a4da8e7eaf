"""The types that travel down the scoring chain: frozen, no torch.

RadiographRef → Radiograph → KneeCrop → KneePrediction → KneeScore → rows; a Refusal may stand for any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from kneerisk.errors import Reason

Side = Literal["L", "R"]
SpacingSource = Literal[
    "ImagerPixelSpacing",
    "PixelSpacing",
    "PixelSpacing*magnification",
    "NominalScannedPixelSpacing",
    "option",
    "manifest",
    "unknown",
]
FloatArray = npt.NDArray[np.float32]
CarriedKind = Literal["text", "integer", "real", "boolean", "date"]
"""Of what kind a manifest's own column is."""

GREY_STEPS = 1 << 16
"""Steps of the grey scale from 0 to 1.  In float32 multiples of 1/65536 are exact, and one minus them too."""

LANDMARKS = tuple(f"T{i}" for i in range(9)) + tuple(f"F{i}" for i in range(7))
"""The 16 points of KNEEL (arXiv 1907.12237): tibial T0-T8, femoral F0-F6, each from lateral to medial."""

RUN_SUFFIX = ".kneerisk"
"""Of the folder that scoring keeps its journal in, beside a table that may lie among its radiographs."""
KL_GRADES = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class RadiographRef:
    """One file that may hold a radiograph, and what its manifest or place said of it; nothing was decoded."""

    path: Path
    source_path: str
    """As the table shows it: relative to the input folder or manifest, with ``/``."""
    participant_id: str | None = None
    visit: str | None = None
    side: Side | Literal["both"] | None = None
    """What the manifest or the ``--side`` option says; ``None`` where neither does."""
    spacing_mm: float | None = None
    kl_0m: int | None = None
    """A reader's current Kellgren-Lawrence grade, 0 to 4."""
    extra: Mapping[str, str | None] = field(default_factory=dict)
    """The manifest's other columns, carried through: as text, which the table gives its kind again."""
    qc_flags: tuple[str, ...] = ()
    """What the scan alone can see, such as a second file with the same SOPInstanceUID."""


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One decoded radiograph: float32 [H, W] in 0..1, bone bright, upright, with square pixels."""

    ref: RadiographRef
    pixels: FloatArray
    input_sha256: str
    """Of the file's bytes."""
    spacing_mm: tuple[float, float] | None = None
    """Row and column spacing, mm per pixel of ``pixels``; ``None`` where unknown."""
    spacing_source: SpacingSource = "unknown"
    side: Side | Literal["both"] | None = None
    """Laterality by the header (L, R or both knees); ``None`` where the header is silent."""
    sop_instance_uid: str | None = None
    header_participant_id: str | None = None
    """DICOM PatientID: used as the participant's id with ``--id-from tag``."""
    to_source: FloatArray | None = None
    """[2, 3] affine: pixel (x, y, 1) → pixel (x, y) as stored, where it was mirrored, turned or stretched."""
    qc_flags: tuple[str, ...] = ()

    @property
    def participant_id(self) -> str | None:
        """The manifest's or path's word, else the header's."""
        return self.ref.participant_id or self.header_participant_id


@dataclass(frozen=True, slots=True)
class KneeCrop:
    """One knee: float32 [S, S] in 0..1, bone bright, in the right-knee frame (lateral at the left)."""

    ref: RadiographRef
    side: Side
    pixels: FloatArray
    to_source: FloatArray
    """[2, 3] affine: crop pixel (x, y, 1) → pixel (x, y) of the source as stored (undoes all mirroring)."""
    input_sha256: str
    spacing_mm: tuple[float, float] | None = None
    """Row and column spacing of the source as stored, in mm per pixel."""
    spacing_source: SpacingSource = "unknown"
    sop_instance_uid: str | None = None
    participant_id: str | None = None
    qc_flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KneePrediction:
    """What the networks say of one crop.  N is the number of sampled futures."""

    crop: KneeCrop
    p_now: FloatArray
    """[5], sums to one: P(KL grade now)."""
    moves: FloatArray
    """[N, 5, 5]: P(KL j at 12 months | KL i now) of each sampled future; 0 below the diagonal."""
    p_12m: FloatArray
    """[N, 5]: P(KL grade at 12 months) of each: ``p_now`` moved so."""
    landmarks_now: FloatArray
    """[16, 2] (x, y) in crop pixels."""
    landmarks_12m: FloatArray
    """[16, 2] (x, y) in crop pixels, mean over the sampled futures."""
    novelty: float = 0.0
    """How unlike the training radiographs the encoder finds it; about 1 for one like them."""
    latent_now: FloatArray | None = None
    """[C, h, w], kept only where futures or previews are asked for."""
    latent_12m: FloatArray | None = None
    """[N, C, h, w], likewise."""


class ForecastPicture(NamedTuple):
    """Of one knee's first sampled future, in equalised greys and the right-knee frame."""

    decoded: FloatArray
    """D(ẑ12), float32 [S, S] in 0..1."""
    textured: FloatArray
    """The same with the radiograph's fine texture, which is copied and not forecast."""


@dataclass(frozen=True, slots=True)
class KneeScore:
    """A prediction with its risks: all that a row of the table needs."""

    prediction: KneePrediction
    risk_12m: float
    """P(a reader's grade rises within 12 months), calibrated."""
    risk_12m_basis: Literal["grade", "image"]
    """What it is given: the reader's grade, or the image alone."""
    risk_12m_lo: float | None
    risk_12m_hi: float | None
    risk_12m_image: float
    """The same from the image alone."""
    risk_12m_sum: float
    """The paper's sum, raw."""
    qc_flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file or a knee has no score, in words a person can act on."""

    ref: RadiographRef
    reason: Reason
    message: str
    side: Side | None = None
    input_sha256: str | None = None
    sop_instance_uid: str | None = None
    participant_id: str | None = None
    qc_flags: tuple[str, ...] = ()


def too_slow(ref: RadiographRef, timeout: float | None) -> Refusal:
    """The row of a file that took longer than ``timeout`` seconds to read."""
    message = (
        f"reading took longer than {timeout or 0:g} s; raise --timeout, or look at the file and its disk"
    )
    return Refusal(ref, Reason.TIMED_OUT, message)


def refuse(
    seen: Radiograph | KneeCrop,
    reason: Reason,
    message: str,
    *,
    side: Side | None = None,
    qc_flags: tuple[str, ...] | None = None,
) -> Refusal:
    """The refusal of a radiograph or of one of its knees; all that is known of it goes along.

    Args:
        seen: what is refused.
        reason: a code.
        message: in words a person can act on.
        side: of a radiograph's knee that was not cut out; a crop's is its own.
        qc_flags: instead of those of ``seen``.
    """
    return Refusal(
        ref=seen.ref,
        reason=reason,
        message=message,
        side=seen.side if isinstance(seen, KneeCrop) else side,
        input_sha256=seen.input_sha256,
        sop_instance_uid=seen.sop_instance_uid,
        participant_id=seen.participant_id,
        qc_flags=seen.qc_flags if qc_flags is None else qc_flags,
    )
