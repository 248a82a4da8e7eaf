"""A run of ``prepare``: resumable to the byte, nothing half-written, every file accounted for."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from kneerisk_train.data.dataset import PreparedCohort
from kneerisk_train.data.knees import UNGRADED
from kneerisk_train.prepare import staging as staged
from kneerisk_train.prepare import write
from kneerisk_train.prepare.pool import crop_all
from kneerisk_train.prepare.prepare import PrepareSettings, prepare
from kneerisk_train.prepare.release import ReleaseImage

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.records import LANDMARKS

Prepare = Callable[..., dict[str, Any]]
OUTPUTS = ("knees.h5", "manifest.parquet", "summary.json")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_a_stopped_run_goes_on_and_ends_the_same(
    oai: Path, tmp_path: Path, run: Prepare, stop_after: int
) -> None:
    run("oai", oai, tmp_path / "whole")
    again: list[str] = []
    run("oai", oai, tmp_path / "out", stop_after=stop_after)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {staged.FOLDER}
    run("oai", oai, tmp_path / "out", read=again)
    assert len(again) == 5 - stop_after
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert set(contents(tmp_path / "out")) == set(OUTPUTS)


@pytest.mark.parametrize("cut", [1, 30])
def test_a_torn_record_is_done_again(oai: Path, tmp_path: Path, run: Prepare, cut: int) -> None:
    run("oai", oai, tmp_path / "whole")
    run("oai", oai, tmp_path / "out", stop_after=3)
    records = tmp_path / "out" / staged.FOLDER / "records.jsonl"
    os.truncate(records, records.stat().st_size - cut)
    again: list[str] = []
    run("oai", oai, tmp_path / "out", read=again)
    assert len(again) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_release_does_not_go_on_in_an_unfinished_run(oai: Path, tmp_path: Path, run: Prepare) -> None:
    run("oai", oai, tmp_path / "out", stop_after=2)
    image = oai / "00m/0.C.2/9000001/20040601/00000101/001"
    image.write_bytes(image.read_bytes() + b"changed")
    with pytest.raises(UsageError, match="differs from this one in: radiographs"):
        run("oai", oai, tmp_path / "out")
    run("oai", oai, tmp_path / "out", overwrite=True)
    assert set(contents(tmp_path / "out")) == set(OUTPUTS)


def test_an_output_folder_that_is_not_ours(oai: Path, tmp_path: Path, run: Prepare) -> None:
    mine = tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.doc").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        run("oai", oai, mine, overwrite=True)
    assert contents(mine) == {"thesis.doc": b"mine"}
    run("oai", oai, tmp_path / "done")
    with pytest.raises(UsageError, match="holds a prepared cohort"):
        run("oai", oai, tmp_path / "done")
    with pytest.raises(UsageError, match="is a file"):
        run("oai", oai, mine / "thesis.doc")


def test_a_full_disk_while_cropping(
    oai: Path, tmp_path: Path, run: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("oai", oai, tmp_path / "whole")
    add = staged.Staging.add
    added: list[int] = []

    def full(self: staged.Staging, index: int, knees: Any) -> None:
        if len(added) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        added.append(index)
        add(self, index, knees)

    with monkeypatch.context() as patched:
        patched.setattr(staged.Staging, "add", full)
        with pytest.raises(KneeriskError, match=r"disk is full.*run the same command again"):
            run("oai", oai, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {staged.FOLDER}
    run("oai", oai, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_full_disk_while_writing(
    oai: Path, tmp_path: Path, run: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> pl.DataFrame:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(write, "_manifest", full)
        with pytest.raises(KneeriskError, match="disk is full"):
            run("oai", oai, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {staged.FOLDER}  # and no half of knees.h5


def test_no_radiograph_gives_a_knee(most: Path, tmp_path: Path, run: Prepare) -> None:
    for image in most.rglob("*.dcm"):
        image.write_bytes(bytes(128) + b"DICM wrong-view")
    with pytest.raises(KneeriskError, match=r"none of the 5 radiographs gave a knee .wrong-view 5."):
        run("most", most, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_prepared_cohort_as_training_reads_it(oai: Path, tmp_path: Path, run: Prepare) -> None:
    run("oai", oai, tmp_path / "out")
    with PreparedCohort(tmp_path / "out") as cohort:
        labels = cohort.knees()
        assert len(cohort) == 5 and cohort.size == 224
        assert labels.grade.tolist() == [3, 1, UNGRADED, 2, 0]
        assert labels.spacing == pytest.approx(0.43)
        two = cohort.knees([3, 0]).pixels
        assert two.shape == (2, 224, 224) and two.dtype == np.uint8
        assert (two[1] == labels.pixels[0]).all() and (two[0] != two[1]).any()
        assert cohort.pairs.current.tolist() == [0, 1] and cohort.pairs.future.tolist() == [2, 3]
        graded = cohort.graded_pairs(12)
        assert (graded.current.tolist(), graded.future.tolist()) == ([1], [3])
    with pytest.raises(UsageError, match="holds no prepared cohort"):
        PreparedCohort(tmp_path)


def test_landmarks_are_mapped_into_the_crops(oai: Path, tmp_path: Path, run: Prepare) -> None:
    first = "00m/0.C.2/9000001/20040601/00000101/001"
    last = "12m/1.C.2/9000001/20050601/00000119/001"  # the one of two that was read
    names = ",".join(f"x_{name},y_{name}" for name in LANDMARKS)
    right = ",".join(f"{5 + 2 * 100},{10 + 2 * (60 + i)}" for i in range(16))
    left = ",".join(f"{900 - 2 * 100},{10 + 2 * 70}" for _ in range(16))
    table = tmp_path / "landmarks.csv"
    table.write_text(
        f"file,{names}\n{first},{left}\n{first},{right}\n{last},{right}\nelsewhere.dcm,{right}\n"
    )
    summary = run("oai", oai, tmp_path / "out", landmarks=table)
    assert summary["accounts"]["rows of landmarks.csv"]["counts"] == {
        "joined": 3,
        "left out: no crop of this knee in the manifest": 1,
    }
    with PreparedCohort(tmp_path / "out") as cohort:
        points = cohort.knees().landmarks
        assert cohort.manifest["has_landmarks"].to_list() == [True, True, False, True, False]
        assert points[0] == pytest.approx(np.tile([100.0, 70.0], (16, 1)))
        assert points[1] == pytest.approx(np.stack([np.full(16, 100.0), 60.0 + np.arange(16)], axis=1))
        assert np.isnan(points[2]).all()
    table.write_text(f"file,{names.replace('x_T0', 'x_t9')}\n")
    with pytest.raises(UsageError, match="no column is called X_T0"):
        run("oai", oai, tmp_path / "other", landmarks=table)


DEADLY = """
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from kneerisk_train.prepare.crops import Cropped

@dataclass(frozen=True)
class Deadly:
    error: bool = False
    closed: list = field(default_factory=list)

    @contextmanager
    def open(self):
        if self.error and os.getpid() != int(os.environ["PARENT"]):
            raise ValueError("the worker has no stack")
        self.closed.clear()
        try:
            yield self.crop
        finally:
            self.closed.append(True)

    def crop(self, image):
        if image.path == "deadly":
            os._exit(9)
        assert not self.closed, "what crops was closed while it was in use"
        return [Cropped("R", pixels=image.path.encode())]
"""


def test_a_radiograph_that_kills_its_worker_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_setup.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PARENT", str(os.getpid()))
    import deadly_setup  # type: ignore[import-not-found]

    images = [ReleaseImage(name, "1", 0, "R") for name in ("a", "deadly", "b", "c")]
    found = dict(crop_all(enumerate(images), deadly_setup.Deadly(), 2))
    assert {i: knees[0].reason for i, knees in found.items()} == {
        0: None,
        1: "internal-error",
        2: None,
        3: None,
    }
    with pytest.raises(ValueError, match="the worker has no stack"):
        list(crop_all(enumerate(images[:1]), deadly_setup.Deadly(error=True), 2))
    del sys.modules["deadly_setup"]


def test_simulated_radiographs_through_the_real_localiser(oai: Path, tmp_path: Path) -> None:
    from kneerisk.simulate.dicom import write_dicom
    from kneerisk.simulate.radiograph import simulate_radiograph
    from kneerisk.simulate.vendors import LOOKS

    truths = {}
    for seed, image in enumerate(sorted(oai.glob("00m/*/900000[12]/*/*01/001"))):
        truth = simulate_radiograph(seed, look=LOOKS[0], spacing_mm=0.7, shape=(500, 620), marker=False)
        write_dicom(truth, image, participant_id=image.parts[-4])
        truths[image.parts[-4]] = truth
    *_, summary = prepare(PrepareSettings("oai", oai, tmp_path / "out", workers=1))
    assert isinstance(summary, dict) and summary["knees"] == 4
    with PreparedCohort(tmp_path / "out") as cohort:
        labels = cohort.knees()
        crops = labels.pixels
        to_source = cohort._file["to_source"][:]
    assert crops.reshape(4, -1).mean(axis=1) == pytest.approx(127.5, abs=1)  # ranks
    assert labels.spacing == pytest.approx(96 / 224, rel=0.02)
    for row in range(4):
        (knee,) = [k for k in truths[labels.participant[row]].knees if k.side == labels.side[row]]
        joint = to_source[row] @ np.array([110.0, 125.7, 1.0])
        assert np.abs(joint - np.array(knee.centre)).max() * 0.7 < 10  # mm
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary
