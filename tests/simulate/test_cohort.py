"""A simulated cohort on disk: the same bytes whatever the workers, tables that parse, a truth that agrees."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pydicom
import pytest
from kneerisk_train.prepare.release import Release
from kneerisk_train.prepare.releases.folder import open_folder
from kneerisk_train.prepare.releases.most import open_most
from kneerisk_train.prepare.releases.oai import open_oai

from kneerisk.errors import ExitCode, KneeriskError, UsageError
from kneerisk.releases.records import KneeKey
from kneerisk.simulate import cohort as written
from kneerisk.simulate.cohort import CohortSettings, Written, auc, simulate_cohort
from kneerisk.simulate.radiograph import SimulatedRadiograph, simulate_radiograph
from kneerisk.simulate.vendors import Look


def begin_as_dicom(picture: SimulatedRadiograph, path: Path, **more: Any) -> None:
    """Instead of a film: a file that begins as DICOM does, and ends there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM")


@cache
def small_film(look: Look) -> SimulatedRadiograph:
    return simulate_radiograph(1, severity_right=1, severity_left=1, look=look, spacing_mm=1.6)


@pytest.fixture
def small_films(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films that are drawn at once: one for each look, used again for everyone."""
    monkeypatch.setattr(written, "simulate_radiograph", lambda seed, **more: small_film(more["look"]))


@pytest.fixture
def no_pixels(small_films: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "write_dicom", begin_as_dicom)


@pytest.fixture(scope="session")
def oai_layout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Function (with NDA's names?) → 120 participants over two visits in the OAI's layout, made once."""

    @cache
    def made(nda: bool) -> Path:
        folder = tmp_path_factory.mktemp("oai")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(written, "simulate_radiograph", lambda seed, **more: small_film(more["look"]))
            patch.setattr(written, "write_dicom", begin_as_dicom)
            simulate(folder, participants=120, visits=(0, 12), layout="oai", nda=nda)
        return folder

    return made


def simulate(directory: Path, **more: Any) -> Written:
    *_, last = simulate_cohort(CohortSettings(directory, **more))
    assert isinstance(last, Written)
    return last


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def truth_of(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "truth.parquet")


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, more in (("a", {}), ("b", {"workers": 2}), ("c", {"seed": 9, "participants": 1})):
        given = {"participants": 2, "visits": (0, 12), "spacing_mm": 1.6, "seed": 4} | more
        simulate(tmp_path / name, **given)
    first, second, other = (contents(tmp_path / name) for name in "abc")
    assert first == second
    film = "images/SIM0001/0m/bilateral.dcm"
    assert first[film] != other[film]
    assert not [name for name in first if ".part" in name]


@pytest.mark.usefixtures("small_films")
def test_the_truth_agrees_with_the_plain_tables(tmp_path: Path) -> None:
    shown = simulate(tmp_path, participants=24, visits=(0, 12))
    truth = truth_of(tmp_path)
    assert len(truth) == 24 * 2 * 2
    labels = pl.read_csv(tmp_path / "labels.csv", schema_overrides={"participant_id": pl.String})
    told = truth.filter(~pl.col("kl_missing")).select("participant_id", "side", "visit_month", "kl_read")
    assert sorted(labels.rows()) == sorted(told.rows())
    manifest = pl.read_csv(tmp_path / "manifest.csv")
    assert set(manifest["path"]) == set(truth["image_path"].drop_nulls())
    assert shown.images == len(list(tmp_path.rglob("*.dcm"))) == truth["image_path"].n_unique() - 1
    for path in truth["image_path"].drop_nulls().unique().to_list()[:3]:
        header = pydicom.dcmread(tmp_path / path, stop_before_pixels=True)
        assert header.PatientID == Path(path).parts[1]
        for x in truth.filter(pl.col("image_path") == path)["lm_T4_x"]:
            assert 0 < x < header.Columns
    notes = pl.read_parquet_metadata(tmp_path / "truth.parquet")
    assert notes["kneerisk.simulated"].startswith("SIMULATED")
    assert "grade" in notes["kneerisk.column.kl_read"]
    parsed = open_folder(tmp_path)
    assert len(parsed.images) == shown.images
    assert readings_differ(parsed, truth) == 0


def readings_differ(release: Release, truth: pl.DataFrame) -> int:
    """Knees and visits with an image whose grade, as parsed, is not the main reader's."""
    wrong = 0
    for row in truth.filter(pl.col("image_path").is_not_null() & ~pl.col("kl_missing")).iter_rows(named=True):
        reading = release.readings.get(KneeKey(row["participant_id"], row["visit_month"], row["side"]))
        wrong += reading is None or reading.kl_grade != row["kl_read"]
    return wrong


@pytest.mark.parametrize("nda", [False, True])
def test_the_oai_layout_parses_as_the_release_does(oai_layout: Callable[[bool], Path], nda: bool) -> None:
    truth, release = truth_of(oai_layout(nda)), open_oai(oai_layout(nda))
    assert sorted(image.path for image in release.images) == sorted(truth["image_path"].drop_nulls().unique())
    # A knee that only the second project read has that reader's grade.
    assert readings_differ(release, truth) <= 2
    release.ledger.sections()
    for row in truth.filter(pl.col("image_path").is_not_null()).head(60).iter_rows(named=True):
        known = release.background(KneeKey(row["participant_id"], row["visit_month"], row["side"]))
        assert (known.sex, known.site) == (row["sex"], row["site"])
        assert known.age == pytest.approx(row["age"], abs=0.6)
        assert (known.injury, known.surgery) == (row["injury"], row["surgery"])
        assert known.tkr == row["simulated_replaced"]
        if row["visit_month"] == 0:
            assert known.bmi == pytest.approx(row["bmi"], abs=0.06)
            assert known.womac == pytest.approx(row["womac"], abs=0.06)


def test_the_oddities_of_an_oai_release_are_there(oai_layout: Callable[[bool], Path]) -> None:
    folder = oai_layout(False)
    tables = {p.name: p.read_text().splitlines() for p in folder.glob("*.txt")}
    assert {"kxr_sq_bu00.txt", "kXR_SQ_BU01.txt"} < set(tables)  # the case varies
    rows = [line.split("|") for line in tables["kxr_sq_bu00.txt"][1:]]
    assert {row[1] for row in rows} == {"1", "2"}
    assert {line.split("|")[1] for line in tables["kXR_SQ_BU01.txt"][1:]} == {"1: Right", "2: Left"}
    assert {row[2] for row in rows} == {"15", "37", "42"}
    assert max(Counter((row[0], row[1]) for row in rows).values()) > 1  # read by two projects
    codes = {
        line.split("|")[5] for name in ("kxr_sq_bu00.txt", "kXR_SQ_BU01.txt") for line in tables[name][1:]
    }
    assert {".A: Not Expected", ".: Missing Form/Incomplete Workbook"} & codes and len(codes) > 6
    listed = (folder / "00m/contents.csv").read_text()
    assert all(series in listed for series in ("PA Bilateral Hand", "AP Pelvis", "Lateral Knee"))
    truth = truth_of(folder)
    seen = {tuple(row[:1]) for row in rows}
    imaged = truth.filter((pl.col("visit_month") == 0) & pl.col("image_path").is_not_null())
    assert {(who,) for who in imaged["participant_id"]} - seen  # images in no table
    assert seen - {(who,) for who in imaged["participant_id"]}  # and the reverse


@pytest.mark.usefixtures("no_pixels")
def test_the_most_layout_parses_as_the_release_does(tmp_path: Path) -> None:
    simulate(tmp_path, participants=60, visits=(0, 15, 30), layout="most")
    truth, release = truth_of(tmp_path), open_most(tmp_path)
    assert sorted(image.path for image in release.images) == sorted(truth["image_path"].drop_nulls().unique())
    assert readings_differ(release, truth) == 0
    sections = release.ledger.sections()
    assert sections["files in the release"][1]["left out: another view (LAT)"] > 0
    grades = sections["grades in MOSTV01235XRAY.txt"][1]
    assert any(outcome.startswith("used, with no grade") for outcome in grades)
    row = truth.row(0, named=True)
    known = release.background(KneeKey(row["participant_id"], 0, row["side"]))
    assert (known.sex, known.injury, known.surgery) == (row["sex"], row["injury"], row["surgery"])
    assert known.age == pytest.approx(row["age"], abs=0.6)
    assert known.womac == pytest.approx(row["womac"], abs=0.6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"visits": (12, 24)}, "start with 0"),
        ({"visits": (0, 24, 12)}, "ascending"),
        ({"visits": (0, 600)}, "up to 120 months"),
        ({"visits": (0, 15), "layout": "oai"}, "the oai layout has no visit at 15 months; it has 0, 12, 24"),
        ({"visits": (0, 12), "layout": "most"}, "the most layout has no visit at 12 months"),
        ({"layout": "most", "nda": True}, "drop --nda"),
        ({"dropout": 1.0}, "dropout"),
        ({"spacing_mm": 9.0}, "spacing_mm"),
        ({"participants": 0}, "participants"),
    ],
)
def test_settings_that_cannot_be_leave_nothing_behind(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulate(tmp_path / "out", **({"participants": 1} | wrong))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("mine")
    for place in (tmp_path, tmp_path / "thesis.doc"):
        with pytest.raises(UsageError, match="not an empty folder"):
            simulate(place, participants=1)
    assert contents(tmp_path) == {"thesis.doc": b"mine"}


@pytest.mark.usefixtures("small_films")
def test_a_full_disk_is_said_and_leaves_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(written, "write_dicom", full)
    with pytest.raises(KneeriskError, match=r"No space left on device; delete it, make room"):
        simulate(tmp_path / "out", participants=1)
    assert not any((tmp_path / "out").iterdir())


def test_the_area_under_the_curve_counts_pairs() -> None:
    assert auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == pytest.approx(0.75)
    assert auc([0.5, 0.5], [True, False]) == pytest.approx(0.5)
    assert auc([0.5], [True]) is None


@pytest.mark.usefixtures("no_pixels")
def test_the_command_says_what_was_written_and_the_best_auc(
    cli: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        cli("simulate", out, "--participants", 40, "--visits", "0,12", "--layout", "oai", "--no-progress")
        == 0
    )
    said = capsys.readouterr().out
    assert "simulated radiographs of 40 participants" in said
    assert "true risk's own AUC for that is 0." in said
    assert "for what a radiograph can show" in said
    assert f"kneerisk prepare oai {out}" in said
    assert cli("simulate", out) == ExitCode.USAGE
    assert cli("simulate", tmp_path / "new", "--visits", "0,soon") == ExitCode.USAGE
    assert "give months with commas between" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
