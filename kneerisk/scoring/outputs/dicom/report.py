"""One image's rows → a DICOM structured report: TID 1500 of DICOM PS3.16, "Measurement Report".

A report says what the table's row says: the same figures, each under the meaning that ``kneerisk columns``
gives it. The codes are this software's own where no public dictionary is known to have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kneerisk.records import KL_GRADES, LANDMARKS
from kneerisk.scoring.outputs.dicom.common import MANUFACTURER, STATEMENT, marks_of, sign, uid
from kneerisk.scoring.outputs.rows import Row

if TYPE_CHECKING:
    from highdicom import sr
    from pydicom.dataset import Dataset

_SCHEME = "99KNEERISK"
_SERIES_NUMBER = 9601
_MEASURED: dict[str, str] = {
    "risk_12m": "12-month risk of KL rise",
    "risk_12m_lo": "12-month risk, 2.5th percentile",
    "risk_12m_hi": "12-month risk, 97.5th percentile",
    "risk_12m_image": "12-month risk from the image alone",
    "novelty": "Unlikeness to training radiographs",
    **{f"kl_now_p{grade}": f"P(KL {grade} now)" for grade in KL_GRADES},
    **{f"kl_12m_p{grade}": f"P(KL {grade} at 12 months)" for grade in KL_GRADES},
    "jsw_medial_mm": "Minimum medial JSW, unvalidated proxy",
    "jsw_lateral_mm": "Minimum lateral JSW, unvalidated proxy",
    "jsw_medial_mm_12m": "Forecast medial JSW, unvalidated proxy",
    "jsw_lateral_mm_12m": "Forecast lateral JSW, unvalidated proxy",
}
"""Column → code meaning (at most 64 characters); the code value is the column's name."""
_MARGINS = {
    "T": "Tibial margin, landmarks T0-T8 from lateral to medial",
    "F": "Femoral margin, landmarks F0-F6 from lateral to medial",
}
_TIMES = {"lm_now": "now", "lm_12m": "forecast at 12 months"}
_PIXEL_CENTRE = 0.5
"""DICOM counts from a pixel's corner (PS3.3, C.18.6), the table from its centre."""


def report_on(origin: Dataset, rows: Sequence[Row], provenance: Mapping[str, Any], number: int) -> Dataset:
    """The report of one image, a Comprehensive SR object, to be saved.

    Args:
        origin: the image's header: UIDs, size, patient and study.
        rows: of its knees that were scored.
        provenance: the columns from ``stack`` to ``kneerisk_version``.
        number: of the instance within its series.
    """
    import highdicom as hd
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    marks = marks_of(provenance)
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=uid("device", marks),
            name="kneerisk",
            manufacturer_name=MANUFACTURER,
            model_name=str(provenance["stack"])[:64],
            serial_number=str(provenance["stack_sha256"])[:64],
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.cid100.XRUnspecifiedBodyRegion,
        imaging_measurements=[group for row in rows for group in _groups(origin, row, provenance)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.append(
        hd.sr.TextContentItem(codes.DCM.Comment, STATEMENT, hd.sr.RelationshipTypeValues.CONTAINS)
    )
    made = hd.sr.ComprehensiveSR(
        evidence=[origin],
        content=content,
        series_instance_uid=uid("reports", origin.StudyInstanceUID, marks),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uid("report", origin.SOPInstanceUID, marks, *(row["side"] for row in rows)),
        instance_number=number,
        manufacturer=MANUFACTURER,
        is_complete=True,
    )
    sign(made, provenance)
    own = Dataset()
    own.CodingSchemeDesignator = _SCHEME
    own.CodingSchemeName = "kneerisk: names of the columns of its table"
    own.CodingSchemeResponsibleOrganization = MANUFACTURER
    made.CodingSchemeIdentificationSequence = [own]
    return made


def _groups(
    origin: Dataset, row: Row, provenance: Mapping[str, Any]
) -> Iterator[sr.MeasurementsAndQualitativeEvaluations | sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """A knee's measurements (TID 1501), and its bones' margins now and forecast (TID 1410)."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    knee = {"L": "Left knee", "R": "Right knee"}[row["side"]]
    side = {"L": codes.SCT.Left, "R": codes.SCT.Right}[row["side"]]
    site = hd.sr.FindingSite(anatomic_location=codes.SCT.KneeRegionStructure, laterality=side)
    algorithm = hd.sr.AlgorithmIdentification(
        name=str(provenance["stack"]),
        version=str(provenance["kneerisk_version"]),
        parameters=[f"{name}={provenance[name]}" for name in sorted(provenance)],
    )

    def tracking(what: str) -> hd.sr.TrackingIdentifier:
        return hd.sr.TrackingIdentifier(
            uid=uid(what, origin.SOPInstanceUID, knee), identifier=f"{knee}: {what}"
        )

    image = hd.sr.SourceImageForMeasurementGroup(origin.SOPClassUID, origin.SOPInstanceUID)
    yield hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking("grades and risk"),
        algorithm_id=algorithm,
        finding_sites=[site],
        measurements=[
            hd.sr.Measurement(
                name=_code(name, meaning),
                value=row[name],
                unit=codes.UCUM.Millimeter if name.startswith("jsw") else codes.UCUM.NoUnits,
            )
            for name, meaning in _MEASURED.items()
            if row[name] is not None
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(
                name=_code(name, f"Kellgren-Lawrence grade {when}"),
                value=_code(f"KL{row[name]}", f"Kellgren-Lawrence grade {row[name]}"),
            )
            for name, when in (("kl_now", "now"), ("kl_12m", "at 12 months"))
        ],
        source_images=[image],
    )
    for prefix, when in _TIMES.items():
        for bone, meaning in _MARGINS.items():
            yield hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=tracking(f"{meaning}, {when}"),
                referenced_region=hd.sr.ImageRegion(
                    hd.sr.GraphicTypeValues.POLYLINE,
                    _points(row, prefix, bone),
                    hd.sr.SourceImageForRegion(origin.SOPClassUID, origin.SOPInstanceUID),
                ),
                finding_type=_code(f"{prefix}_{bone}", f"{meaning.partition(',')[0]}, {when}"),
                algorithm_id=algorithm,
                finding_sites=[site],
            )


def _points(row: Row, prefix: str, bone: str) -> np.ndarray:
    """[K, 2] (column, row) of a bone's landmarks in the image as stored."""
    names = [name for name in LANDMARKS if name.startswith(bone)]
    return np.array([[row[f"{prefix}_{name}_{axis}"] + _PIXEL_CENTRE for axis in "xy"] for name in names])


def _code(value: str, meaning: str) -> sr.CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(value, _SCHEME, meaning)
