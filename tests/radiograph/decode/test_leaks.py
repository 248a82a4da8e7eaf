"""A name typed into a wrong field of a header comes out nowhere but in PatientID's own column."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from kneerisk.radiograph.decode.headers import TAGS
from kneerisk.radiograph.decode.read import read
from kneerisk.records import Radiograph, RadiographRef

EXAMPLE = Path(__file__).parents[3] / "examples" / "cohort" / "SIM0001" / "bilateral.dcm"
NAME = "ZACHARIAS^QUILLA"
PARTS = ("ZACHARIAS", "QUILLA")
KEYWORDS = [
    keyword for keyword in TAGS if keyword != "PatientID" and dictionary_VR(Tag(keyword)) not in ("SQ", "OW")
]


def with_name(keyword: str, text: str) -> bytes:
    """The example with a text in an element, whatever the element is for."""
    dataset: Dataset = dcmread(EXAMPLE)
    dataset.decompress()
    raw = text.encode() + b"\0" * (len(text) % 2)
    if keyword in ("TransferSyntaxUID", "SpecificCharacterSet"):  # pydicom writes no file without valid ones
        dataset.SpecificCharacterSet = "ISO_IR 100"
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        found = (dataset if keyword in dataset else dataset.file_meta)[keyword].value.encode()
        found += b"\0" * (len(found) % 2)
        assert stream.getvalue().count(found) == 1
        return stream.getvalue().replace(found, raw[: len(found)].ljust(len(found)))
    tag = Tag(keyword)
    vr = dictionary_VR(tag).split(" or ")[-1]
    dataset._dict[tag] = RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def said(content: bytes, folder: Path) -> str:
    """All that leaves the reader about a file, its pixels aside."""
    path = folder / "file.dcm"
    path.write_bytes(content)
    found = read(RadiographRef(path, "file.dcm"))
    if isinstance(found, Radiograph):
        found = replace(found, pixels=found.pixels[:0])
    return repr(found)


@pytest.mark.parametrize("text", [NAME, f"KNEE {NAME} AP", NAME.lower()])
@pytest.mark.parametrize("keyword", [*KEYWORDS, "TransferSyntaxUID"])
def test_no_text_of_a_header_is_quoted(
    keyword: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    words = said(with_name(keyword, text), tmp_path).upper()
    assert not [part for part in PARTS if part in words], words


@pytest.mark.parametrize("keyword", ["PhotometricInterpretation", "NumberOfFrames"])
def test_the_element_is_named_in_place_of_its_text(
    keyword: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    assert keyword in said(with_name(keyword, NAME), tmp_path)


def test_an_unknown_modality_is_told_without_its_text(tmp_path: Path) -> None:
    words = said(with_name("Modality", NAME), tmp_path)
    assert "WRONG_MODALITY" in words and "Modality" in words
    assert "the modality is MR" in said(with_name("Modality", "MR"), tmp_path)
