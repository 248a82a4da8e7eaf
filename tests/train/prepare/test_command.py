"""``kneerisk prepare`` as typed: what it says, its exit status, and covariates from a simulated release."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kneerisk.errors import ExitCode
from kneerisk.simulate import cohort as simulated
from kneerisk.simulate.cohort import CohortSettings, simulate_cohort
from kneerisk.simulate.radiograph import simulate_radiograph

Cli = Callable[..., int]
Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def crops(tmp_path: Path, write_crop: Callable[[Path, int], None]) -> Path:
    """Two participants' crops with their split, and one image that no row names."""
    root = tmp_path / "crops"
    for seed, name in enumerate(("a_0R", "a_12R", "b_0L", "unnamed")):
        write_crop(root / f"{name}.png", seed)
    (root / "manifest.csv").write_text(
        "path,participant_id,visit_month,side,kl_grade,split\n"
        "a_0R.png,a,0,R,1,train\na_12R.png,a,12,R,2,train\nb_0L.png,b,0,L,3,val\n"
    )
    return root


def test_the_command_accounts_for_what_came_in(
    cli: Cli, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("prepare", "folder", crops, "--cropped", "--workers", 1, "--no-progress", "--out")
    assert cli(*given, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "3 knees of 2 participants" in said and "12 months: 1" in said
    assert "left out: not in the manifest (first: unnamed.png)" in said
    table = pl.read_parquet(tmp_path / "out/manifest.parquet")
    assert table["split"].to_list() == ["train", "train", "val"]
    assert cli(*given, tmp_path / "out") == ExitCode.USAGE
    assert "holds a prepared cohort" in capsys.readouterr().err
    assert cli(*given, tmp_path / "out", "--overwrite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == {"12": 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kl_grade,split", "kl_grade,splits", "column splits is not known: did you mean split?"),
        ("b_0L.png,b,0,L,3", "b_0L.png,b,0,L,9", "kl_grade is '9'"),
    ],
)
def test_a_manifest_that_is_wrong_leaves_nothing_behind(
    cli: Cli,
    crops: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
) -> None:
    manifest = crops / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(old, new))
    assert cli("prepare", "folder", crops, "--out", tmp_path / "out") == ExitCode.USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("layout", "visits"), [("oai", (0, 12)), ("most", (0, 15))])
def test_covariates_of_a_simulated_release_reach_the_manifest(
    tmp_path: Path, run: Prepare, monkeypatch: pytest.MonkeyPatch, layout: str, visits: tuple[int, ...]
) -> None:
    def write(picture: Any, path: Path, **more: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(128) + b"DICM" + path.as_posix().encode())

    film = simulate_radiograph(1, severity_right=1, severity_left=1, spacing_mm=1.6)
    monkeypatch.setattr(simulated, "simulate_radiograph", lambda *given, **more: film)
    monkeypatch.setattr(simulated, "write_dicom", write)
    for _ in simulate_cohort(CohortSettings(tmp_path / "release", 30, visits, layout)):
        pass
    summary = run(layout, tmp_path / "release", tmp_path / "out")
    for section, account in summary["accounts"].items():
        assert sum(account["counts"].values()) == account["total"], section
    truth = pl.read_parquet(tmp_path / "release/truth.parquet").filter(pl.col("image_path").is_not_null())
    both = pl.read_parquet(tmp_path / "out/manifest.parquet").join(
        truth, on=["participant_id", "visit_month", "side"], suffix="_true"
    )
    assert len(both) == len(truth)
    for name in ("sex", "injury", "surgery"):
        assert both[name].to_list() == both[f"{name}_true"].to_list()
    first = both.filter(pl.col("visit_month") == 0)
    for table, name, rounded in ((both, "age", 0.51), (first, "bmi", 0.051), (first, "womac", 0.51)):
        np.testing.assert_allclose(table[name].to_numpy(), table[f"{name}_true"].to_numpy(), atol=rounded)
    assert both["site"].null_count() == 0 and both["site"].n_unique() > 1
    assert both["tkr"].null_count() == 0
    read = both.filter(~pl.col("kl_missing") & pl.col("kl_grade").is_not_null())
    assert (
        np.mean(read["kl_grade"].to_numpy() == read["kl_read"].to_numpy()) > 0.97
    )  # else a second project's reader
