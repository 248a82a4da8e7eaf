import io
from pathlib import Path

import numpy as np
import pydicom
import pytest

from kneerisk.simulate.dicom import dicom_bytes, write_dicom
from kneerisk.simulate.radiograph import SimulatedRadiograph, simulate_radiograph
from kneerisk.simulate.vendors import LOOKS, Syntax

SYNTAXES: tuple[Syntax, ...] = (
    "explicit-little-endian",
    "implicit-little-endian",
    "rle",
    "jpeg-lossless",
    "jpeg-ls",
    "jpeg-2000",
)


def small(look: int, seed: int = 4) -> SimulatedRadiograph:
    return simulate_radiograph(seed, look=LOOKS[look], shape=(173, 255), spacing_mm=1.7)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("look", range(len(LOOKS)))
def test_every_syntax_reads_back_to_the_simulated_pixels(syntax: Syntax, look: int) -> None:
    simulated = small(look)
    dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(simulated, participant_id="7", syntax=syntax)))
    pixels = dataset.pixel_array
    assert dataset.BitsStored == LOOKS[look].bits
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 2**dataset.BitsStored - 1 - pixels
    np.testing.assert_array_equal(pixels, simulated.pixels)


def test_monochrome1_stores_bone_dark() -> None:
    simulated = small(0)
    assert LOOKS[0].photometric == "MONOCHROME1"
    stored = pydicom.dcmread(io.BytesIO(dicom_bytes(simulated, participant_id="7"))).pixel_array
    correlation = np.corrcoef(stored.ravel(), simulated.pixels.ravel())[0, 1]
    assert correlation == pytest.approx(-1)


def test_the_looks_cover_both_photometrics_every_syntax_and_every_spacing_habit() -> None:
    assert {look.photometric for look in LOOKS} == {"MONOCHROME1", "MONOCHROME2"}
    assert {look.syntax for look in LOOKS} == set(SYNTAXES)
    assert {look.spacing_tag for look in LOOKS} == {"ImagerPixelSpacing", "PixelSpacing", "none"}
    assert all(12 <= look.bits <= 16 for look in LOOKS)


@pytest.mark.parametrize("look", range(len(LOOKS)))
def test_header_says_simulated_and_keeps_the_spacing_habit(look: int) -> None:
    simulated = small(look)
    dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(simulated, participant_id="7")))
    assert dataset.PatientID == "SIM7"
    assert "SIMULATED" in str(dataset.PatientName)
    assert "SIMULATED" in dataset.ImageType
    assert "SIMULATED" in dataset.ImageComments
    assert dataset.SeriesDescription == "Bilateral PA Fixed Flexion Knee"
    assert dataset.Modality == LOOKS[look].modality
    for tag in ("ImagerPixelSpacing", "PixelSpacing"):
        if LOOKS[look].spacing_tag == tag:
            assert [float(v) for v in dataset[tag].value] == [1.7, 1.7]
        else:
            assert tag not in dataset


def test_same_radiograph_same_bytes_and_uids_differ_between_radiographs(tmp_path: Path) -> None:
    write_dicom(small(1), tmp_path / "a" / "one.dcm", participant_id="SIM1")
    write_dicom(small(1), tmp_path / "two.dcm", participant_id="SIM1")
    assert (tmp_path / "a" / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    uids = {
        pydicom.dcmread(io.BytesIO(dicom_bytes(s, participant_id="1"))).SOPInstanceUID
        for s in (small(1), small(1, seed=5))
    }
    assert len(uids) == 2


def test_single_view_names_its_side() -> None:
    simulated = simulate_radiograph(3, view="single", side="L", shape=(200, 150), spacing_mm=1.5)
    dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(simulated, participant_id="1")))
    assert dataset.ImageLaterality == "L"
    assert "Left" in dataset.SeriesDescription
