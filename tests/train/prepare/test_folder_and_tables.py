"""Folders and manifests; cells of every kind; pairs of visits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kneerisk_train.data.dataset import PreparedCohort
from kneerisk_train.prepare.pairs import HORIZONS, visit_pairs
from kneerisk_train.prepare.prepare import PrepareSettings, prepare
from kneerisk_train.prepare.releases.folder import open_folder

from kneerisk.errors import UsageError
from kneerisk.method.exposure import equalise
from kneerisk.releases.cells import (
    ReleaseTable,
    code_of,
    grade_of,
    is_missing,
    number_of,
    side_of,
)
from kneerisk.releases.records import KneeKey

Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, fake_dicom: Callable[..., None]) -> Path:
    root = tmp_path / "folder"
    for name in ("a/0.dcm", "a/12.dcm", "b/0.dcm", "spare.dcm"):
        fake_dicom(root / name)
    (root / "manifest.csv").write_text(
        "path,participant_id,visit_month,side,kl_grade,age,sex\n"
        "a/0.dcm,0012,0,L,1,60,F\n"
        "a/0.dcm,0012,0,R,2,60,F\n"
        "a/12.dcm,0012,13,both,,61,F\n"
        "b/0.dcm,NA1,0,L,3,50,M\n"
        "b/0.dcm,NA1,0,L,4,50,M\n"
        "c/0.dcm,NA2,0,L,4,50,M\n"
    )
    return root


def test_a_folder_with_a_manifest(folder: Path, tmp_path: Path, run: Prepare) -> None:
    summary = run("folder", folder, tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out/manifest.parquet")
    rows = table.select("participant_id", "visit_month", "side", "kl_grade", "kl_code", "age", "sex").rows()
    assert rows == [
        ("0012", 0, "L", 1, None, 60, "F"),
        ("0012", 0, "R", 2, None, 60, "F"),
        ("0012", 13, "L", None, None, 61, "F"),
        ("0012", 13, "R", None, None, 61, "F"),
        ("NA1", 0, "L", None, "readings disagree", 50, "M"),
    ]
    assert summary["pairs"] == {"12": 2}
    accounts = summary["accounts"]
    assert accounts["rows of manifest.csv"]["counts"]["left out: its radiograph is not here"] == 1
    assert accounts["files in the release"]["counts"]["left out: not in the manifest"] == 1
    for section, account in accounts.items():
        assert sum(account["counts"].values()) == account["total"], section


def test_scorings_names_of_columns_mean_the_same(folder: Path) -> None:
    before = open_folder(folder)
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("visit_month", "visit").replace("kl_grade", "kl_0m"))
    after = open_folder(folder)
    assert (after.images, after.readings) == (before.images, before.readings)
    assert len(after.readings) == 4


def test_a_folder_without_a_manifest(folder: Path) -> None:
    (folder / "manifest.csv").unlink()
    (folder / "a/0.dcm").rename(folder / "p_7_L.dcm")
    images = open_folder(folder).images
    assert [(i.path, i.participant_id) for i in images] == [
        ("p_7_L.dcm", "p_7"),
        ("spare.dcm", "spare"),
        ("a/12.dcm", "a"),
        ("b/0.dcm", "b"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kl_grade", "kl_grad", "kl_grad is not known: did you mean kl_grade"),
        ("participant_id", "person", "it needs one column called participant_id"),
        ("0012,0,L,1", "0012,0,L,7", "line 2: kl_grade is '7'"),
        ("0012,0,L,1", "0012,0,left-ish,1", "line 2: side is 'left-ish'"),
        ("0012,0,L,1", "0012,soon,L,1", "line 2: visit_month is 'soon'"),
        ("0012,0,L,1", "0012,0,both,1", "line 2: kl_grade needs a side"),
        ("0012,0,L,1,60", "0012,0,L,1,old", "line 2: age is 'old'"),
        ("0012,0,L,1,60", ",0,L,1,60", "line 2: participant_id is empty"),
        ("0012,0,L,1", "0013,0,L,1", "lines 2 and 3 name one file"),
        ("a/0.dcm,0012,0,L,1,60,F", "a/0.dcm,0012,0,L,1,60,F,more", "line 2 has 8 cells"),
    ],
)
def test_a_manifest_that_is_wrong(folder: Path, old: str, new: str, message: str) -> None:
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        open_folder(folder)


def test_crops_as_they_are_in_chens_layout(tmp_path: Path, write_crop: Callable[[Path, int], None]) -> None:
    """Crops that are taken as they are: left knees mirrored, reversed grey scales undone, points alike."""
    rows = ["file,split,participant_id,side,kl_grade,inverted,mm_per_px_x,mm_per_px_y"]
    for seed, (side, inverted) in enumerate((("R", "false"), ("L", "false"), ("L", "true"))):
        file = f"train/{seed}/{9000000 + seed}{side}.png"
        write_crop(tmp_path / file, seed)
        rows.append(f"{file},train,{9000000 + seed},{side},{seed},{inverted},0.4,0.45")
    (tmp_path / "knees.csv").write_text("\n".join(rows))
    points = ",".join(f"x_T{i},y_T{i}" for i in range(9)) + "," + ",".join(f"x_F{i},y_F{i}" for i in range(7))
    marks = ",".join(f"{40 + i},{90 + i}" for i in range(16))
    (tmp_path / "landmarks.csv").write_text(f"file,{points}\ntrain/1/9000001L.png,{marks}\n")
    settings = PrepareSettings(
        "folder",
        tmp_path / "knees.csv",
        tmp_path / "out",
        landmarks=tmp_path / "landmarks.csv",
        cropped=True,
        workers=1,
    )
    *_, summary = prepare(settings)
    assert isinstance(summary, dict) and summary["knees"] == 3
    with PreparedCohort(tmp_path / "out") as cohort:
        labels = cohort.knees()
        assert cohort.manifest["split"].to_list() == ["train"] * 3
        assert labels.grade.tolist() == [0, 1, 2]
        assert labels.spacing == pytest.approx(np.array([[0.4, 0.45]] * 3))
        assert labels.has_landmarks.tolist() == [False, True, False]
        mirrored = [(223 - 40 - i, 90 + i) for i in range(16)]
        np.testing.assert_allclose(labels.landmarks[1], mirrored, atol=1e-3)
        for seed, (side, inverted) in enumerate((("R", False), ("L", False), ("L", True))):
            stored = cv2.imread(
                str(tmp_path / f"train/{seed}/{9000000 + seed}{side}.png"), cv2.IMREAD_GRAYSCALE
            )
            upright = 255 - stored if inverted else stored
            right = upright[:, ::-1] if side == "L" else upright
            again = equalise(labels.pixels[seed].astype(np.uint16))
            assert np.abs(again - equalise(right.astype(np.uint16))).max() < 0.01


@pytest.mark.parametrize("code", ["", ".", ".A: Not Expected", ".: Missing Form/Incomplete Workbook", ".M:x"])
def test_missing_codes(code: str) -> None:
    assert is_missing(code) and number_of(code) is None and grade_of(code) is None


@pytest.mark.parametrize("cell", ["8", "9", "P", "S", "X", "Z", "1.9", "-1", "5", "inf"])
def test_codes_that_are_no_grade(cell: str) -> None:
    assert grade_of(cell) is None


@given(st.integers(0, 4), st.sampled_from(["", ".0", ": Grade", " : two words"]))
def test_grades_with_and_without_labels(grade: int, label: str) -> None:
    assert grade_of(f"{grade}{label}") == grade
    assert not is_missing(f"{grade}{label}")


def test_sides_and_labels() -> None:
    assert [side_of(c) for c in ("1", "2: Left", "1: Right", "r", "Left", "3", "")] == [*"RLRRL", None, None]
    assert code_of("3: Replacement adjudicated, confirmed") == "3"


def test_encodings_delimiters_and_ragged_lines(tmp_path: Path) -> None:
    table = tmp_path / "t.txt"
    table.write_bytes("ID|WHERE\n1|Zürich\n".encode("cp1252"))
    assert [row["WHERE"] for _, row in ReleaseTable(table)] == ["Zürich"]
    table.write_bytes('\ufeff"id"\t"text"\r\n\r\n"1"\t"a\tb"\r\n'.encode())
    assert [dict(row) for _, row in ReleaseTable(table, ("ID",))] == [{"ID": "1", "TEXT": "a\tb"}]
    table.write_text("ID|ID\n")
    with pytest.raises(UsageError, match="appear twice: ID"):
        ReleaseTable(table)
    table.write_text("")
    with pytest.raises(UsageError, match="is empty"):
        ReleaseTable(table)


MONTHS = st.lists(st.integers(0, 100), min_size=1, max_size=8, unique=True)


@settings(max_examples=60)
@given(st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from("LR")), MONTHS, min_size=1))
def test_pairs_are_of_one_knee_forward_and_near_their_horizon(visits: dict[Any, list[int]]) -> None:
    keys = sorted(KneeKey(who, month, side) for (who, side), months in visits.items() for month in months)
    pairs = visit_pairs(keys)
    told = set()
    for now, then, months, horizon in zip(
        pairs.current, pairs.future, pairs.months, pairs.horizon, strict=True
    ):
        one, other = keys[now], keys[then]
        assert (one.participant_id, one.side) == (other.participant_id, other.side)
        assert months == other.visit_month - one.visit_month > 0
        assert abs(months - horizon) <= horizon / 4
        assert (now, horizon) not in told  # one future a horizon
        told.add((now, horizon))
    for now, key in enumerate(keys):  # none is missing
        for then, other in enumerate(keys):
            gap = other.visit_month - key.visit_month
            if (key.participant_id, key.side) == (other.participant_id, other.side) and gap in HORIZONS:
                assert (now, then, gap) in set(
                    zip(pairs.current.tolist(), pairs.future.tolist(), pairs.horizon.tolist(), strict=True)
                )


def test_visits_of_most_stand_for_the_nearest_horizons() -> None:
    keys = [KneeKey("a", month, "R") for month in (0, 15, 30, 60, 84)]
    pairs = visit_pairs(keys)
    first = pairs.current == 0
    assert pairs.months[first].tolist() == [15, 30, 60]
    assert pairs.horizon[first].tolist() == [12, 24, 48]
