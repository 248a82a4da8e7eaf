"""OAI's and MOST's tables and trees → which radiograph, which grade, and where everything else went."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from kneerisk_train.prepare.releases.most import open_most
from kneerisk_train.prepare.releases.oai import month_of_path, open_oai

from kneerisk.errors import UsageError
from kneerisk.releases.records import KneeKey, Reading

Prepare = Callable[..., dict[str, Any]]


def adds_up(summary: dict[str, Any]) -> None:
    assert summary["accounts"]
    for section, account in summary["accounts"].items():
        assert sum(account["counts"].values()) == account["total"], section


def test_oai_readings_by_project_code_and_contradiction(oai: Path) -> None:
    release = open_oai(oai)
    readings = release.readings
    assert readings[KneeKey("9000001", 0, "R")] == Reading(1)  # project 15 before 37
    assert readings[KneeKey("9000001", 0, "L")] == Reading(3)  # 15 has no grade, 37 has one
    assert readings[KneeKey("9000001", 12, "L")] == Reading(None, "readings disagree")
    assert readings[KneeKey("9000001", 24, "R")] == Reading(None, ".")
    counts = release.ledger.sections()["rows of kXR_SQ_BU01.txt"][1]
    assert counts["left out: contradicts another row of its reading project: no grade is taken"] == 3


def test_oai_radiographs_are_the_listed_fixed_flexion_ones(oai: Path) -> None:
    release = open_oai(oai)
    assert [(i.participant_id, i.visit_month, i.rank) for i in release.images] == [
        ("9000001", 0, 0),
        ("9000002", 0, 0),
        ("9000001", 12, 1),
        ("9000001", 12, 0),  # the one whose barcode the readers' table has
        ("9000001", 24, 0),
    ]
    sections = release.ledger.sections()
    assert sections["rows of 00m/contents.csv"][1]["left out: PA Right Hand"] == 1
    assert sections["rows of 24m/contents.csv"][1]["left out: its folder is not here"] == 1
    files = sections["files in the release"][1]
    assert files["left out: not listed as a PA fixed-flexion radiograph"] == 1


def test_oai_backgrounds(oai: Path) -> None:
    background = open_oai(oai).background
    first = background(KneeKey("9000001", 12, "R"))
    assert (first.age, first.sex, first.site, first.injury, first.tkr) == (62, "F", "C", True, False)
    assert first.bmi is None  # no table of that visit
    left = background(KneeKey("9000001", 12, "L"))
    assert left.tkr is True and left.tkr_month == pytest.approx(11.5, abs=0.1)
    assert background(KneeKey("9000001", 0, "L")).womac is None
    assert background(KneeKey("9000002", 0, "L")).tkr is True  # before enrolment
    assert background(KneeKey("9999999", 0, "L")).tkr is None


def test_oai_prepared(oai: Path, tmp_path: Path, run: Prepare) -> None:
    summary = run("oai", oai, tmp_path / "out")
    adds_up(summary)
    table = pl.read_parquet(tmp_path / "out/manifest.parquet")
    rows = table.select("participant_id", "visit_month", "side", "kl_grade").rows()
    assert rows == [
        ("9000001", 0, "L", 3),
        ("9000001", 0, "R", 1),
        ("9000001", 12, "L", None),
        ("9000001", 12, "R", 2),
        ("9000002", 0, "R", 0),
    ]
    assert table["path"][2].endswith("00000119/001")
    assert table["kl_code"][2] == "readings disagree"
    accounts = summary["accounts"]
    assert accounts["knees and visits with a reading"]["counts"] == {
        "in the manifest": 4,
        "in the manifest, no grade": 1,
        "left out: no radiograph": 2,
        "left out: its radiograph was refused: implant": 1,
        "left out: its radiograph was refused: wrong-view": 1,
    }
    seen = accounts["knees seen in the radiographs"]["counts"]
    assert seen["left out: a second radiograph of the knee and visit"] == 2
    assert summary["pairs"] == {"12": 2}


def test_oai_in_nda_names(oai: Path, tmp_path: Path, run: Prepare) -> None:
    for old in (*oai.glob("*/contents.csv"), *(p for p in oai.iterdir() if "kxr" in p.name.casefold())):
        old.unlink()
    (oai / "oai_kxrsemiquant01.txt").write_text(
        '"subjectkey"\t"src_subject_id"\t"visit"\t"side"\t"readprj"\t"version"\t"barcode"\t"xrkl"\n'
        '"The NDAR GUID"\t"Subject ID how it is defined"\t"Visit"\t"Side"\t"Project"\t"V"\t"B"\t"Grade"\n'
        '"NDAR1"\t"9000001"\t"V00"\t"1"\t"15"\t"0.6"\t"016600000101"\t"2"\n'
        '"NDAR1"\t"9000001"\t"V01"\t"1"\t"15"\t"0.6"\t"016600000111"\t"3"\n'
    )
    pa = "Bilateral PA Fixed Flexion Knee"
    (oai / "image03.txt").write_text(
        "src_subject_id\tvisit\timage_file\timage_description\taccession_number\n"
        "Subject ID\tVisit\tFile\tText\tNumber\n"
        f"9000001\tV00\ta.tar.gz\t{pa}\t016600000101\n"
        "9000001\tV00\tb.tar.gz\tPA Right Hand\t016600000102\n"
        f"9000001\tV01\tc.tar.gz\t{pa}\t016600000111\n"
    )
    adds_up(run("oai", oai, tmp_path / "out"))
    table = pl.read_parquet(tmp_path / "out/manifest.parquet")
    assert table.filter(pl.col("side") == "R")["kl_grade"].to_list() == [2, 3]


def test_most_grades_views_and_months(most: Path, tmp_path: Path, run: Prepare) -> None:
    summary = run("most", most, tmp_path / "out")
    adds_up(summary)
    table = pl.read_parquet(tmp_path / "out/manifest.parquet")
    left = table.filter((pl.col("participant_id") == "MB00001") & (pl.col("side") == "L"))
    assert left["visit_month"].to_list() == [0, 15, 30, 60]
    assert left["kl_grade"].to_list() == [0, 1, 1, None]
    assert left["kl_code"].to_list()[-1] == "X"
    assert left["age"].to_list() == [60, 61.25, 62.5, 65]
    files = summary["accounts"]["files in the release"]["counts"]
    assert files["left out: another beam angle of the same visit"] == 1
    assert files["left out: another view (LATL)"] == 1
    assert summary["pairs"] == {"12": 4, "24": 4, "48": 4}
    grades = summary["accounts"]["grades in MOSTV01235XRAY.txt"]
    assert grades["total"] == 20 and grades["counts"]["left out: empty"] == 6


@pytest.mark.parametrize(
    ("path", "month"),
    [
        ("00m/0.C.2/9000001/20040601/00000101/001", 0),
        ("OAI_48m/9000001/001", 48),
        ("6.C.1/9000001/20040601/001", 48),
        ("9000001/001", None),
        ("13m/9000001/001", None),
    ],
)
def test_months_by_the_folders(path: str, month: int | None) -> None:
    assert month_of_path("release", path) == month


def test_a_release_without_pa_views(oai: Path, tmp_path: Path, run: Prepare) -> None:
    for contents in oai.glob("*/contents.csv"):
        contents.write_text(contents.read_text().replace("Bilateral PA Fixed Flexion Knee", "AP Pelvis"))
    with pytest.raises(UsageError, match="no PA fixed-flexion radiograph"):
        run("oai", oai, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("kxr_sq_bu00.txt", "V00XRKL", "V00XRKLX", "no column holds KL grades"),
        ("kxr_sq_bu00.txt", "V00XRKL", "V02XRKL", "V02XRKL is of no visit"),
        ("kxr_sq_bu00.txt", "|READPRJ|", "|PRJ|", "no column is called READPRJ"),
        ("kxr_sq_bu00.txt", "9000003|1|15", "9000003|1", "line 8 has 5 cells"),
        ("00m/contents.csv", "SeriesDescription", "Series", "no column is called SERIESDESCRIPTION"),
        ("AllClinical00.txt", "ID|V00AGE", "NR|V00AGE", "no column is called ID"),
    ],
)
def test_a_table_that_is_not_as_distributed(
    oai: Path, tmp_path: Path, run: Prepare, table: str, old: str, new: str, message: str
) -> None:
    file = oai / table
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UsageError, match=message) as error:
        run("oai", oai, tmp_path / "out")
    assert file.name in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_visit_of_most(most: Path) -> None:
    file = most / "MOSTV01235XRAY.txt"
    file.write_text(file.read_text().replace("V5XLKL", "V4XLKL"))
    with pytest.raises(UsageError, match="V4XLKL is of no visit"):
        open_most(most)


def test_a_missing_root_and_missing_tables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_oai(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no kxr_sq_bu00"):
        open_oai(tmp_path)
    with pytest.raises(UsageError, match="holds no MOSTV01235XRAY"):
        open_most(tmp_path)
