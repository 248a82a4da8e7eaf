"""With ``--pseudonymise`` nothing that is written tells whose knee it is, and one id is one pseudonym."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import h5py
import polars as pl
import pytest
from pydicom import config, dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from kneerisk.errors import UsageError
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.outputs import table
from kneerisk.scoring.pseudonyms import Pseudonyms
from kneerisk.scoring.run import score_images
from kneerisk.scoring.settings import RunSettings, check_places

EXAMPLE = Path(__file__).parents[2] / "examples" / "cohort" / "SIM0001" / "bilateral.dcm"
KEY = b"a key of a study that is long enough"
TEXT_VRS = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
READ = ("00080016", "00020010", "00280004", "00080060", "00080005")  # fields of classes, syntaxes, greys


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "study.key"
    path.write_bytes(KEY + b"\n")
    path.chmod(0o600)
    return path


def test_a_pseudonym_is_the_hmac_of_the_id() -> None:
    import hashlib
    import hmac

    names = Pseudonyms(KEY)
    wanted = hmac.new(KEY, b"participant\0" + "Müller".encode(), hashlib.sha256).hexdigest()[:20]
    assert names.participant("Müller") == names.participant("Mu\u0308ller") == "p" + wanted
    others = {names.participant("9001"), names.participant("9002"), names.file("9001"), names.uid("9001")}
    assert len({*others, Pseudonyms(KEY + b"!").participant("9001")}) == 5
    assert KEY.decode() not in repr(names) and names.fingerprint != Pseudonyms(KEY + b"!").fingerprint


@pytest.mark.parametrize(
    ("content", "mode", "words"), [(b"short", 0o600, "bytes"), (b"x" * 5000, 0o600, "bytes")]
)
def test_a_bad_key_is_refused(tmp_path: Path, content: bytes, mode: int, words: str) -> None:
    (tmp_path / "k").write_bytes(content)
    (tmp_path / "k").chmod(mode)
    with pytest.raises(UsageError, match=words):
        Pseudonyms.read(tmp_path / "k")
    with pytest.raises(UsageError, match="cannot be read"):
        Pseudonyms.read(tmp_path / "none")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_key_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        Pseudonyms.read(key)


def run(fake: ModuleType, folder: Path, settings: RunSettings, names: Pseudonyms) -> None:
    marks = names.settings({**fake.PROVENANCE, "inputs": [folder.name], "shard": "1/1"})
    rooms = replace(fake.rooms(0.0, settings.futures is not None, 2), hide=names.knee)
    list(score_images(fake.scan(folder), {}, rooms, settings, marks, Clock()))


def test_rows_are_the_same_but_for_their_names(fake: ModuleType, cohort: Path, tmp_path: Path) -> None:
    names = Pseudonyms(KEY)
    fake.run(cohort, RunSettings(tmp_path / "plain.parquet"))
    hidden = RunSettings(tmp_path / "h.parquet", previews=tmp_path / "p", futures=tmp_path / "f.h5")
    run(fake, cohort, hidden, names)
    plain, found = table.read(tmp_path / "plain.parquet"), table.read(tmp_path / "h.parquet")
    named = ["participant_id", "source_path", "sop_instance_uid", "message"]
    assert found.drop(named).equals(plain.drop(named))
    wanted = plain["participant_id"].map_elements(names.participant, pl.String)
    assert found["participant_id"].equals(wanted)
    assert found["source_path"].equals(plain["source_path"].map_elements(names.file, pl.String))
    for text in (*found["message"].drop_nulls(), *(p.name for p in (tmp_path / "p").iterdir())):
        assert "P0" not in text and "P1" not in text
    with h5py.File(tmp_path / "f.h5") as file:
        kept = {knee.attrs["participant_id"] for knee in file["knees"].values()}
        assert kept == set(found.filter(status="ok")["participant_id"])
        assert cohort.name not in file.attrs["run"]
    run(fake, cohort, replace(hidden, resume=True), names)
    assert table.read(tmp_path / "h.parquet").equals(found)
    with pytest.raises(UsageError, match="cannot resume"):
        run(fake, cohort, replace(hidden, resume=True), Pseudonyms(KEY + b"!"))


def marked(word: str) -> bytes:
    """The example with a marker in every text element of DICOM's dictionary that is not needed to read it."""
    dataset = dcmread(EXAMPLE)
    for number, (vr, *_) in DicomDictionary.items():
        tag = Tag(number)
        if vr in TEXT_VRS and tag.group not in (0, 2, 4) and f"{number:08X}" not in READ:
            dataset.add(DataElement(tag, vr, word, validation_mode=config.IGNORE))
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def test_no_marker_of_a_header_or_a_name_comes_out(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    folder = tmp_path / "QZFOLDER" / "QZPARTICIPANT"
    folder.mkdir(parents=True)
    content = marked("QZMARKER")
    assert content.count(b"QZMARKER") > 1000
    (folder / "QZFILE.dcm").write_bytes(content)
    (folder / "QZDAMAGED.dcm").write_bytes(content[: len(content) // 2])
    (folder / "QZPLAIN.dcm").write_bytes(EXAMPLE.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    command = [
        *(sys.executable, "-m", "kneerisk", "score", str(folder.parent), "--id-from", "folder"),
        *("--out", "out/r.csv", "--futures", "out/f.h5", "--previews", "out/p", "--run-report", "out/r.json"),
        *("--report", "out/page.html", "--pseudonymise", str(key), "--no-progress"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 3, done.stderr
    rows = table.read(out / "r.csv")
    assert rows["status"].to_list().count("ok") >= 2
    assert set(rows["participant_id"].drop_nulls()) == {Pseudonyms(KEY).participant("QZPARTICIPANT")}
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) >= 7
    for text in (
        done.stdout,
        done.stderr,
        *(p.read_bytes() for p in written),
        *(p.name.encode() for p in written),
    ):
        for word in (b"QZMARKER", b"QZFOLDER", b"QZPART", b"QZFILE", b"QZDAM", b"QZPLAIN"):
            assert word not in text
    assert json.loads((out / "r.json").read_text())["settings"]["pseudonyms"] == Pseudonyms(KEY).fingerprint


@pytest.mark.parametrize("named", ["dicom_sr", "dicom_sc"])
def test_outputs_that_name_the_patient_are_refused(tmp_path: Path, named: str) -> None:
    run = RunSettings(tmp_path / "r.parquet", pseudonymise=tmp_path / "key", **{named: tmp_path / "d"})
    with pytest.raises(UsageError, match="name the radiograph's own patient"):
        check_places(InputSettings((tmp_path,)), run)
