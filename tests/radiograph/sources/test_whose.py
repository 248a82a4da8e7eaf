"""Ids that tell no image from another are said before scoring; a documented pattern reads OAI's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneerisk.radiograph.sources.scan import scan
from kneerisk.radiograph.sources.whose import Whose
from kneerisk.records import RadiographRef
from kneerisk.simulate.cohort import CohortSettings, simulate_cohort

ROOT = Path(__file__).parents[3]


def doubt(folder: Path, id_from: str = "tag") -> str | None:
    whose = Whose(id_from)
    assert len(list(whose.watch(scan([folder], id_from=id_from)))) > 0
    return whose.doubt()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for person in ("one", "two"):
        folder = tmp_path / "cohort" / "images" / person
        folder.mkdir(parents=True)
        for name in "LR":
            Image.fromarray(np.full((40, 40), ord(name), np.uint8)).save(folder / f"{name}.png")
    return tmp_path / "cohort"


def test_nobody_s_images_are_told_of(pictures: Path) -> None:
    said = doubt(pictures)
    assert said is not None
    assert "none of the 4 images says whose it is" in said and "--id-from folder" in said


def test_images_of_one_participant_are_told_of(pictures: Path) -> None:
    said = doubt(pictures, "folder")
    assert said is not None
    assert "all 4 images are of one and the same participant" in said and "first folder below" in said
    assert doubt(pictures / "images", "folder") is None


def test_headers_are_looked_into(tmp_path: Path, write_dicom) -> None:
    for number in range(3):
        write_dicom(f"same/{number}.dcm", PatientID="ANON")
        write_dicom(f"own/{number}.dcm", PatientID=f"P{number}")
        write_dicom(f"none/{number}.dcm", PatientID=None)
    assert "of one and the same participant" in str(doubt(tmp_path / "same"))
    assert "none of the 3 images" in str(doubt(tmp_path / "none"))
    assert doubt(tmp_path / "own") is None


def test_two_images_are_no_cohort(pictures: Path) -> None:
    assert doubt(pictures / "images" / "one", "folder") is None


def test_the_documented_pattern_reads_oai_s_participants_and_visits(tmp_path: Path) -> None:
    pages = (ROOT / "docs" / "scoring.md").read_text("utf-8")
    (pattern,) = re.findall(r"--id-from '(regex:[^']*visit[^']*)'", pages)
    list(simulate_cohort(CohortSettings(tmp_path / "oai", participants=2, layout="oai", visits=(0, 12))))
    found = [item for item in scan([tmp_path / "oai"], id_from=pattern) if isinstance(item, RadiographRef)]
    assert {(item.participant_id, item.visit) for item in found} >= {("9000001", "00m"), ("9000001", "12m")}
    assert {item.participant_id for item in found} == {"9000001", "9000002"}
