"""What goes back to a PACS says what the table says, is valid DICOM, and is never scored itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from kneerisk.errors import Reason
from kneerisk.radiograph.decode.origin import origin_of
from kneerisk.radiograph.sources.scan import scan
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.records import ForecastPicture, KneeCrop, KneePrediction, KneeScore, RadiographRef, Refusal
from kneerisk.scoring.outputs.dicom.keepers import DicomKeeper
from kneerisk.scoring.outputs.rows import Row, row_of_score

CHECKER = Path(sys.executable).with_name("dciodvfy")


def radiograph(path: Path, **changed: object) -> Path:
    """A DX image whose header has what a PACS files by."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.PatientID, ds.PatientName = "P-7", "Müller^Anna"
    ds.SpecificCharacterSet, ds.PatientSex, ds.PatientBirthDate = "ISO_IR 192", "F", "19500203"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "101112", "S1", "A9"
    ds.Modality, ds.Rows, ds.Columns = "DX", 400, 300
    for name, value in changed.items():
        setattr(ds, name, value)
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def knee(path: Path, side: str, uid: str | None = "1.2.3.4") -> KneeScore:
    across = np.concatenate([np.linspace(4, 28, 9), np.linspace(5, 27, 7)])
    down = np.concatenate([np.linspace(18, 20, 9), np.linspace(14, 15, 7)])
    points = np.stack([across, down], axis=1).astype(np.float32)
    crop = KneeCrop(
        RadiographRef(path, path.name),
        side,
        np.random.default_rng(0).random((32, 32), np.float32),
        np.array([[4, 0, 10.0], [0, 4, 20.0]], np.float32),
        "0" * 64,
        spacing_mm=(0.2, 0.1),
        sop_instance_uid=uid,
        participant_id="P-7",
    )
    p_now = np.array([0.1, 0.1, 0.6, 0.1, 0.1], np.float32)
    later = np.array([[0.0, 0.1, 0.1, 0.7, 0.1]], np.float32)
    prediction = KneePrediction(crop, p_now, np.eye(5, dtype=np.float32)[None], later, points, points + 1)
    return KneeScore(prediction, 0.125, "image", None, None, 0.25, 0.5)


def kept(
    fake: ModuleType, path: Path, tmp_path: Path, uid: str | None = "1.2.3.4", pictures: bool = True
) -> tuple[list[Row], list[Path], list[Path]]:
    """Both knees of a file through the keeper: rows, reports, captures."""
    keeper = DicomKeeper(tmp_path / "sr", tmp_path / "sc", origin_of, fake.PROVENANCE)
    scores = [knee(path, side, uid) for side in "RL"]
    for score in scores * pictures:
        keeper.keep([(4, score, ForecastPicture(*np.zeros((2, 32, 32), np.float32)))])
    rows = [row_of_score(score, fake.PROVENANCE) for score in scores]
    keeper.report(4, scores[0].prediction.crop.ref, rows)
    return rows, *(sorted((tmp_path / kind).glob("*")) for kind in ("sr", "sc"))


def items(node: Dataset) -> list[Dataset]:
    below = list(node.get("ContentSequence", []))
    return below + [found for item in below for found in items(item)]


def meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def errors_of(path: Path) -> list[str]:
    done = subprocess.run([CHECKER, path], capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    assert any(line in ("ComprehensiveSR", "SCImage") for line in said), said
    return [line for line in said if line.startswith("Error")]


def test_dciodvfy_finds_no_error_and_hears_one(fake: ModuleType, tmp_path: Path) -> None:
    _, reports, captures = kept(fake, radiograph(tmp_path / "a.dcm"), tmp_path)
    assert (len(reports), len(captures)) == (1, 2)
    assert {path.name: errors_of(path) for path in (*reports, *captures)} == {
        path.name: [] for path in (*reports, *captures)
    }
    broken = dcmread(reports[0])
    del broken.StudyInstanceUID
    broken.save_as(tmp_path / "broken.dcm")
    assert errors_of(tmp_path / "broken.dcm")


def test_a_report_says_what_the_rows_say(fake: ModuleType, tmp_path: Path) -> None:
    rows, (report,), _ = kept(fake, radiograph(tmp_path / "a.dcm"), tmp_path, pictures=False)
    made = dcmread(report)
    groups = [item for item in items(made) if meaning(item) == "Measurement Group"]
    assert len(groups) == 2 * (1 + 4)
    for row, group in zip(rows, groups[::5], strict=True):
        told = {
            item.ConceptNameCodeSequence[0].get("CodeValue")
            or item.ConceptNameCodeSequence[0].LongCodeValue: float(
                item.MeasuredValueSequence[0].NumericValue
            )
            for item in items(group)
            if item.ValueType == "NUM"
        }
        assert told == {name: row[name] for name in told}
        assert {"risk_12m", "risk_12m_image", "kl_now_p2", "kl_12m_p3", "jsw_medial_mm"} <= set(told)
        assert "risk_12m_lo" not in told, "one future has no spread"
        units = {
            meaning(item): item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
            for item in items(group)
            if item.ValueType == "NUM"
        }
        assert {unit for name, unit in units.items() if "JSW" in name} == {"mm"}
        assert {unit for name, unit in units.items() if "JSW" not in name} == {"1"}
        codes = [
            str(item.ConceptCodeSequence[0].CodeMeaning) for item in items(group) if item.ValueType == "CODE"
        ]
        assert {"R": "Right", "L": "Left"}[row["side"]] in codes
        assert {"Kellgren-Lawrence grade 2", "Kellgren-Lawrence grade 3"} <= set(codes)


def test_landmarks_lie_where_dicom_counts_from_the_corner_of_a_pixel(
    fake: ModuleType, tmp_path: Path
) -> None:
    rows, (report,), _ = kept(fake, radiograph(tmp_path / "a.dcm"), tmp_path, pictures=False)
    regions = [item for item in items(dcmread(report)) if item.ValueType == "SCOORD"]
    assert [(r.GraphicType, len(r.GraphicData)) for r in regions] == [("POLYLINE", 18), ("POLYLINE", 14)] * 4
    first = rows[0]
    assert regions[0].GraphicData[2:4] == pytest.approx(
        [first["lm_now_T1_x"] + 0.5, first["lm_now_T1_y"] + 0.5]
    )
    assert regions[3].GraphicData[:2] == pytest.approx(
        [first["lm_12m_F0_x"] + 0.5, first["lm_12m_F0_y"] + 0.5]
    )
    referenced = regions[0].ContentSequence[0].ReferencedSOPSequence[0]
    assert referenced.ReferencedSOPInstanceUID == "1.2.3.4"


def test_outputs_are_filed_with_their_patient_and_say_what_they_are(fake: ModuleType, tmp_path: Path) -> None:
    _, reports, captures = kept(fake, radiograph(tmp_path / "a.dcm"), tmp_path)
    for path in (*reports, *captures):
        made = dcmread(path)
        assert (made.PatientID, str(made.PatientName)) == ("P-7", "Müller^Anna")
        assert (made.StudyInstanceUID, made.AccessionNumber) == ("1.2.3", "A9")
        assert made.SeriesInstanceUID not in ("1.2.3.1", "")
        assert "RESEARCH USE ONLY" in made.SeriesDescription
        assert made.SoftwareVersions == ["test", "fake"]
    texts = [item.TextValue for item in items(dcmread(reports[0])) if item.ValueType == "TEXT"]
    assert {"fake", "test", "seed=3"} <= set(texts)
    assert any(text.startswith("Research use only: no medical device") for text in texts)
    pictures = {dcmread(path).Laterality: dcmread(path) for path in captures}
    assert pictures["L"].BurnedInAnnotation == "YES"
    assert [list(pictures[side].PatientOrientation) for side in "RL"] == [["L", "F"], ["R", "F"]]
    assert pictures["R"].pixel_array.std() > 10


def test_scored_again_alike_an_image_gets_the_same_uids_and_scored_otherwise_others(
    fake: ModuleType, tmp_path: Path
) -> None:
    path = radiograph(tmp_path / "a.dcm")
    first, second = (kept(fake, path, tmp_path / name) for name in "ab")
    uids = [[dcmread(f).SOPInstanceUID for f in (*run[1], *run[2])] for run in (first, second)]
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 3
    fake_other = ModuleType("other")
    fake_other.PROVENANCE = {**fake.PROVENANCE, "seed": 4}
    _, (report,), _ = kept(fake_other, path, tmp_path / "c", pictures=False)
    assert dcmread(report).SOPInstanceUID not in uids[0]


@pytest.mark.parametrize(
    "what", ["png", "no study", "another file by now", "damaged by now", "a date that is none"]
)
def test_where_no_report_can_be_written_the_rows_say_so(what: str, fake: ModuleType, tmp_path: Path) -> None:
    uid = "9.9.9" if what == "another file by now" else "1.2.3.4"
    path = tmp_path / "a.dcm"
    if what == "png":
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    elif what == "no study":
        radiograph(path, StudyInstanceUID="")
    elif what == "another file by now":
        radiograph(path)
    elif what == "damaged by now":
        content = bytearray(radiograph(path).read_bytes())
        assert content[138] == 4, "the length of the first element, a number of four bytes"
        content[138] = 3
        path.write_bytes(content)
    else:
        with pytest.warns(UserWarning, match="Invalid value for VR DA"):
            radiograph(path, StudyDate="in May")
    rows, reports, captures = kept(fake, path, tmp_path, uid)
    assert [row["qc_flags"] for row in rows] == [["no-dicom-output"]] * 2
    assert (reports, captures) == ([], [])


def test_a_scan_passes_over_what_was_written_and_refuses_it_by_name(fake: ModuleType, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    source = radiograph(cohort / "a.dcm")
    kept(fake, source, cohort)
    shutil.copy(next((cohort / "sr").iterdir()), cohort / "sr" / "no-suffix")
    skipped = Skipped()
    found = list(scan([cohort], skipped=skipped))
    assert [item.source_path for item in found if isinstance(item, RadiographRef)] == ["a.dcm"]
    assert skipped.counts == {"a report or picture that kneerisk wrote": 4}
    (refused,) = scan([next((cohort / "sc").iterdir())])
    assert isinstance(refused, Refusal)
    assert (refused.reason, "kneerisk wrote" in refused.message) == (Reason.NOT_AN_IMAGE, True)


def test_whatever_a_header_breaks_costs_its_report_and_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    from kneerisk.scoring.outputs.dicom.keepers import _made

    def broken() -> Dataset:
        raise NotImplementedError("a header like none before")

    assert _made(broken, RadiographRef(Path("a.dcm"), "a.dcm")) is None
    assert "a.dcm: no DICOM report can be made of its header: a header like none before" in caplog.text
