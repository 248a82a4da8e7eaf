"""Out of a PACS by DICOMweb and back: with a small server always, and with Orthanc where it is installed."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from pydicom import dcmread

from kneerisk.errors import Reason, UsageError
from kneerisk.places import dicomweb
from kneerisk.places.place import place
from kneerisk.places.reach import read_bytes, remote_at
from kneerisk.radiograph.knees import list_images
from kneerisk.radiograph.settings import InputSettings
from kneerisk.radiograph.sources.scan import scan
from kneerisk.records import RadiographRef, Refusal
from kneerisk.simulate.dicom import write_dicom
from kneerisk.simulate.radiograph import simulate_radiograph
from kneerisk.simulate.vendors import LOOKS


@pytest.fixture(params=["small", "orthanc"])
def pacs(request: pytest.FixtureRequest, servers: dict[str, ModuleType], tmp_path: Path) -> Iterator[Any]:
    yield from running(request.param, servers, tmp_path)


@pytest.fixture
def small(servers: dict[str, ModuleType], tmp_path: Path) -> Iterator[Any]:
    yield from running("small", servers, tmp_path)


def running(which: str, servers: dict[str, ModuleType], tmp_path: Path) -> Iterator[Any]:
    """A server with two studies of a radiograph each."""
    if which == "orthanc" and not servers["orthanc"].is_installed():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed (apt-get install orthanc-dicomweb)")
    home = tmp_path / "pacs"
    home.mkdir()
    kind = servers["orthanc"].Orthanc if which == "orthanc" else servers["pacs"].Pacs
    with kind(home) as server:
        dicomweb.store(films(tmp_path), place(server.web))
        yield server


def films(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "films" / f"{i}.dcm" for i in (1, 2)]
    for i, path in enumerate(paths):
        simulated = simulate_radiograph(i, look=LOOKS[i], shape=(173, 255), spacing_mm=1.7)
        write_dicom(simulated, path, participant_id=str(i), syntax=("rle", "explicit-little-endian")[i])
    return paths


def other_series(tmp_path: Path, **changed: str) -> Path:
    ds = dcmread(tmp_path / "films" / "1.dcm")
    for name, value in {"SeriesInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.4", **changed}.items():
        setattr(ds, name, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(tmp_path / "other.dcm")
    return tmp_path / "other.dcm"


def test_a_pacs_gives_the_very_bytes_that_were_stored(pacs: Any, tmp_path: Path) -> None:
    found = list(scan([place(pacs.web)]))
    assert all(isinstance(item, RadiographRef) and not item.qc_flags for item in found)
    files = {hashlib.sha256(read_bytes(item.path, 1 << 30)).hexdigest(): item for item in found}
    stored = [hashlib.sha256(path.read_bytes()).hexdigest() for path in films(tmp_path)]
    assert sorted(files) == sorted(stored)
    uid = dcmread(films(tmp_path)[0]).SOPInstanceUID
    assert files[stored[0]].source_path.endswith(f"/instances/{uid}")
    assert files[stored[0]].source_path.startswith("studies/")
    with pytest.raises(OSError, match="more than any radiograph"):
        read_bytes(found[0].path, 1000)


@pytest.mark.parametrize(
    "changed", [{"Modality": "MR"}, {"Manufacturer": "kneerisk"}, {"SeriesDescription": "kneerisk, RESEARCH"}]
)
def test_what_is_no_radiograph_and_what_is_ours_is_passed_over(
    changed: dict[str, str], pacs: Any, tmp_path: Path
) -> None:
    dicomweb.store([other_series(tmp_path, **changed)], place(pacs.web))
    assert len(list(remote_at(place(pacs.web)).files(place(pacs.web)))) == 2


def test_a_further_series_of_radiographs_is_listed_and_a_url_may_name_one(pacs: Any, tmp_path: Path) -> None:
    path = other_series(tmp_path)
    dicomweb.store([path], place(pacs.web))
    web = remote_at(place(pacs.web))
    assert len(list(web.files(place(pacs.web)))) == 3
    study = place(f"{pacs.web}/studies/{dcmread(path).StudyInstanceUID}")
    assert len(list(web.files(study))) == 2
    assert [p.name for p in web.files(study / "series" / "1.2.3")] == ["1.2.3.4"]


def test_a_list_of_studies_is_a_manifest_and_names_what_is_unknown(pacs: Any, tmp_path: Path) -> None:
    study = dcmread(films(tmp_path)[1]).StudyInstanceUID
    rows = [f"{pacs.web}/studies/{study},A,12m", f"{pacs.web}/studies/1.2.3.9,B,0m"]
    (tmp_path / "studies.csv").write_text("\n".join(["path,participant_id,visit", *rows]))
    known, unknown = scan([tmp_path / "studies.csv"])
    assert isinstance(known, RadiographRef)
    assert (known.participant_id, known.visit) == ("A", "12m")
    assert f"/studies/{study}/series/" in known.source_path
    assert isinstance(unknown, Refusal)
    assert (unknown.reason, unknown.ref.participant_id) == (Reason.FILE_UNREADABLE, "B")
    assert "no radiograph there; check the UID" in unknown.message
    assert unknown.ref.source_path == f"{pacs.web}/studies/1.2.3.9"


def test_pages_of_answers_are_all_fetched(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicomweb, "_PAGE", 2)
    for i in range(5):
        dicomweb.store([other_series(tmp_path, SOPInstanceUID=f"1.2.3.{i}")], place(small.web))
    found = [path.name for path in remote_at(place(small.web)).files(place(small.web))]
    assert len(found) == 7
    assert [name for name in found if name.startswith("1.2.3.")] == [f"1.2.3.{i}" for i in range(5)]


def test_a_server_that_stumbles_is_asked_again(small: Any) -> None:
    small.fail_next = 2
    assert len(list(scan([place(small.web)]))) == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, r"denies access: put it into ~/\.netrc"), (500, "HTTP 500"), (404, "no such thing")],
)
def test_what_a_server_answers_is_said(status: int, words: str, small: Any) -> None:
    small.status = status
    with pytest.raises(UsageError, match=words):
        scan([place(small.web)])


def test_bad_urls_are_said_at_once(small: Any) -> None:
    for url, words in (
        (f"{small.web}/studies/1.2.3", "nothing lies at"),
        (f"{small.web}/patients/7", "no such thing"),
        (f"{small.web}/studies", "/studies/UID"),
        ("dicomweb://me:secret@server/dicom-web", "put server into ~/.netrc"),
    ):
        with pytest.raises(UsageError, match=words):
            scan([place(url)])


def test_a_bilateral_film_goes_into_a_pacs_and_its_results_beside_it(
    servers: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with the shipped networks: in, out by DICOMweb, scored, back as reports and pictures."""
    from kneerisk.cli import main

    which = "orthanc" if servers["orthanc"].is_installed() else "small"
    (tmp_path / "pacs").mkdir()
    kind = servers["orthanc"].Orthanc if which == "orthanc" else servers["pacs"].Pacs
    film = tmp_path / "film.dcm"
    write_dicom(simulate_radiograph(3, spacing_mm=0.5), film, participant_id="SIM3")
    source = dcmread(film)
    with kind(tmp_path / "pacs") as server:
        web = place(server.web)
        arguments = ["watch", server.web, "--out", "parts", "--once", "--send", server.web, "-q"]
        arguments += ["--dicom-sr", "reports", "--dicom-sc", "captures"]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["kneerisk", *arguments])
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        dicomweb.store([film], web)
        try:
            main()
        except SystemExit as end:
            assert end.code in (0, None)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        assert [path.name for path in tmp_path.glob("parts/*")] == ["part-000001.parquet"]
        rows = pl.read_parquet(tmp_path / "parts" / "*.parquet").rows(named=True)
        assert [(row["participant_id"], row["side"], row["status"]) for row in rows] == [
            ("SIM3", "R", "ok"),
            ("SIM3", "L", "ok"),
        ]
        client = dicomweb._client(dicomweb._parts(web)[0])
        found = client.search_for_series(source.StudyInstanceUID)
        modalities = sorted(series["00080060"]["Value"][0] for series in found)
        assert modalities == sorted([source.Modality, "SR", "OT", "OT"])
        (report,) = (series for series in found if series["00080060"]["Value"] == ["SR"])
        (made,) = client.retrieve_series(source.StudyInstanceUID, report["0020000E"]["Value"][0])
        assert made.PatientID == source.PatientID
        evidence = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert sorted(path.name for path in tmp_path.glob("*/part-000001/*")) == [
        "000000.sr.dcm",
        "SIM3_L_000000.sc.dcm",
        "SIM3_R_000000.sc.dcm",
    ]


def test_a_pacs_may_be_empty_where_it_is_watched(servers: dict[str, ModuleType], tmp_path: Path) -> None:
    with servers["pacs"].Pacs(tmp_path) as server:
        settings = InputSettings((Path(server.web),))
        assert list(list_images(settings, may_be_empty=True)[0]) == []
        with pytest.raises(UsageError, match="nothing lies at"):
            list_images(settings)
